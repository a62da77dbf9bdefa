import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import as_float64
from gpu_runner.problem import (
    DType,
    InputRule,
    ProfileName,
    Tensor,
    Tolerance,
)
from tests.builders import make_problem, make_workload
from tests.gpu_runner.oracle.drawn import (
    KEY,
    MAXIMUM,
    filled,
    linear_problem,
    linear_workload,
    moved,
    near,
    one_input,
)


def test_a_near_duplicate_differs_in_one_element_or_one_row():
    problem, workload = make_problem(), make_workload()
    source = filled(problem, workload)
    kinds = set()
    for call in range(40):
        changed = source["x"] != near(problem, workload, source, call=call)["x"]
        assert changed.any(axis=1).sum() == 1
        kinds.add("element" if changed.sum() == 1 else "row")
        assert changed.sum() in {1, 128}
    assert kinds == {"element", "row"}


def test_places_of_near_duplicates_are_spread_and_repeatable():
    problem, workload = make_problem(), make_workload()
    source = filled(problem, workload)
    places = []
    for call in range(60):
        once, twice = (near(problem, workload, source, call=call)["x"] for _ in range(2))
        np.testing.assert_array_equal(once, twice)
        places.append(int(np.argmax((once != source["x"]).any(axis=1))))
    assert set(places) == set(range(8))


def test_the_source_is_not_modified_and_may_be_the_target():
    problem, workload = make_problem(), make_workload()
    source = filled(problem, workload)
    before = source["x"].copy()
    apart = near(problem, workload, source, call=3)
    np.testing.assert_array_equal(source["x"], before)
    Contents(problem, workload, KEY).perturb(source, source, call=3)
    np.testing.assert_array_equal(source["x"], apart["x"])


def test_only_activations_are_changed():
    problem, workload = linear_problem(), linear_workload()
    source = filled(problem, workload)
    for call in range(20):
        after = near(problem, workload, source, call=call)
        np.testing.assert_array_equal(after["w"], source["w"])
        np.testing.assert_array_equal(after["b"], source["b"])
        assert not np.array_equal(after["x"], source["x"])


def test_parameters_are_changed_where_there_is_no_activation():
    rules = tuple(InputRule(input=n, role="parameter", low=-2, high=3) for n in ("x", "w", "b"))
    problem, workload = linear_problem(rules=rules), linear_workload()
    source = filled(problem, workload)
    changed: set[str] = set()
    for call in range(40):
        after = near(problem, workload, source, call=call)
        changed.update(n for n in source if not np.array_equal(after[n], source[n]))
    assert changed == {"x", "w", "b"}


def test_inputs_with_a_single_value_are_left_alone():
    problem = one_input(DType.INT8, InputRule(input="x", low=4, high=4))
    source = filled(problem, make_workload())
    after = near(problem, make_workload(), source, call=1)
    np.testing.assert_array_equal(after["x"], source["x"])


@settings(max_examples=60, deadline=None)
@given(
    call=st.integers(0, 10**6),
    rows=st.integers(1, 9),
    length=st.integers(2, 300),
    dtype=st.sampled_from([DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16]),
)
def test_a_near_duplicate_changes_a_softmax_far_beyond_its_bound(call, rows, length, dtype):
    tensors = [Tensor(name=n, shape=("B", "N"), dtype=dtype) for n in ("x", "y")]
    problem = make_problem(inputs=(tensors[0],), outputs=(tensors[1],))
    workload = make_workload(axes={"B": rows, "N": length})
    source = filled(problem, workload, call=call)
    after = near(problem, workload, source, call=call)
    assert moved(problem, workload, source, after) > (100 if dtype is DType.FLOAT32 else 10)


@settings(max_examples=40, deadline=None)
@given(call=st.integers(0, 10**6), inner=st.integers(1, 500))
def test_a_near_duplicate_changes_a_product_far_beyond_its_bound(call, inner):
    problem = linear_problem()
    workload = linear_workload(axes={"M": 4, "N": 6, "K": inner})
    source = filled(problem, workload, call=call)
    after = near(problem, workload, source, call=call)
    assert moved(problem, workload, source, after) > 100


@settings(max_examples=40, deadline=None)
@given(call=st.integers(0, 10**6))
def test_a_near_duplicate_crosses_the_corner_of_a_relu(call):
    """A change that stays on the flat side would not be seen."""
    problem, workload = one_input(DType.FLOAT32), make_workload()
    source = filled(problem, workload, call=call)
    assert moved(problem, workload, source, near(problem, workload, source, call=call)) > 100


def test_about_half_of_near_duplicates_move_a_maximum():
    problem = make_problem(
        outputs=(Tensor(name="y", shape=("B",), dtype=DType.FLOAT32),), reference=MAXIMUM
    )
    workload = make_workload()
    source = filled(problem, workload)
    seen = [
        moved(problem, workload, source, near(problem, workload, source, call=call)) > 100
        for call in range(40)
    ]
    assert 15 <= sum(seen) <= 40


@settings(max_examples=40, deadline=None)
@given(
    call=st.integers(0, 10**6),
    low=st.integers(-128, 126),
    span=st.integers(1, 255),
)
def test_a_near_duplicate_of_whole_numbers_stays_in_range_and_differs(call, low, span):
    high = min(low + span, 127)
    problem = one_input(DType.INT8, InputRule(input="x", low=low, high=high))
    workload = make_workload(axes={"B": 3, "N": 5})
    source = filled(problem, workload, call=call)
    after = near(problem, workload, source, call=call)["x"]
    assert after.min() >= low
    assert after.max() <= high
    assert (after != source["x"]).sum() in {1, 5}


@pytest.mark.parametrize("profile", list(ProfileName))
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.FLOAT64])
def test_every_profile_has_finite_near_duplicates(profile, dtype):
    problem, workload = one_input(dtype), make_workload()
    source = filled(problem, workload, profile=profile)
    for call in range(6):
        after = near(problem, workload, source, call=call)["x"]
        is_changed = (after != source["x"]) & ~(
            np.isnan(as_float64(after, dtype)) & np.isnan(as_float64(source["x"], dtype))
        )
        assert is_changed.any()
        assert np.isfinite(as_float64(after, dtype)[is_changed]).all()


def test_a_flipped_bool_is_a_near_duplicate():
    problem = one_input(DType.BOOL)
    source = filled(problem, make_workload())
    after = near(problem, make_workload(), source, call=1)["x"]
    assert (after != source["x"]).sum() in {1, 128}


def test_a_tolerance_does_not_influence_contents():
    loose = make_problem(tolerance=Tolerance(relative_units=100))
    np.testing.assert_array_equal(
        filled(loose, make_workload())["x"], filled(make_problem(), make_workload())["x"]
    )
