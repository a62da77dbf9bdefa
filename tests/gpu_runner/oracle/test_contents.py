import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import as_float64, from_float64, numpy_dtype
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import (
    Axis,
    DType,
    InputRule,
    Problem,
    ProfileName,
    Tensor,
    Tolerance,
    Workload,
)
from tests.builders import make_problem, make_workload

KEY = bytes(range(16))

LINEAR = """
import numpy as np


def run(x, w, b):
    return np.einsum("mk,nk->mn", x, w) + b


def bound(x, w, b, expected):
    size = np.einsum("mk,nk->mn", np.abs(x), np.abs(w)) + np.abs(b)
    return 2.0**-24 * (8 + 2 * np.sqrt(x.shape[1])) * size
"""
RELU = "import numpy as np\n\n\ndef run(x):\n    return np.maximum(x, 0)\n"
MAXIMUM = "def run(x):\n    return x.max(axis=-1)\n"


def linear_problem(dtype: DType = DType.FLOAT32, **changes) -> Problem:
    values = {
        "name": "linear",
        "axes": tuple(Axis(name=n, kind="var") for n in ("M", "N", "K")),
        "inputs": (
            Tensor(name="x", shape=("M", "K"), dtype=dtype),
            Tensor(name="w", shape=("N", "K"), dtype=dtype),
            Tensor(name="b", shape=("N",), dtype=dtype),
        ),
        "outputs": (Tensor(name="y", shape=("M", "N"), dtype=dtype),),
        "reference": LINEAR,
        "rules": (
            InputRule(input="w", role="parameter", low=-0.5, high=1.5),
            InputRule(input="b", role="parameter", low=-1, high=1),
        ),
        "library_ops": (),
        "flops": "2 * M * N * K",
    }
    return make_problem(**{**values, **changes})


def linear_workload(**changes) -> Workload:
    return make_workload(**{"axes": {"M": 5, "N": 7, "K": 33}, **changes})


def one_input(dtype: DType, *rules: InputRule, reference: str = RELU) -> Problem:
    return make_problem(
        inputs=(Tensor(name="x", shape=("B", "N"), dtype=dtype),),
        rules=rules,
        reference=reference,
    )


def arrays(problem: Problem, workload: Workload) -> dict[str, np.ndarray]:
    return {
        t.name: np.zeros(problem.shape(t, workload), dtype=numpy_dtype(t.dtype))
        for t in problem.inputs
    }


def filled(
    problem: Problem,
    workload: Workload,
    *,
    call: int = 0,
    profile: ProfileName | None = None,
    key: bytes = KEY,
) -> dict[str, np.ndarray]:
    into = arrays(problem, workload)
    Contents(problem, workload, key).fill(into, call=call, profile=profile)
    return into


def near(problem, workload, source, *, call: int) -> dict[str, np.ndarray]:
    into = arrays(problem, workload)
    Contents(problem, workload, KEY).perturb(source, into, call=call)
    return into


def moved(problem, workload, before, after) -> float:
    """By how many bounds the right answer moves."""
    oracle = Oracle(problem)
    first, second = oracle.expected(workload, before), oracle.expected(workload, after)
    return max(
        float((np.abs(second.outputs[n] - first.outputs[n]) / first.bounds[n]).max())
        for n in first.outputs
    )


def test_equal_calls_are_equal_and_all_others_differ():
    problem, workload = linear_problem(), linear_workload()
    base = filled(problem, workload)
    same = filled(problem, workload)
    for name, array in base.items():
        np.testing.assert_array_equal(array, same[name])
    for other in (
        filled(problem, workload, call=1),
        filled(problem, workload, key=bytes(16)),
        filled(problem, linear_workload(name="other")),
        filled(problem, workload, profile=ProfileName.UNIFORM),
    ):
        assert not np.array_equal(base["x"], other["x"])
    for other in (filled(problem, workload, call=1), filled(problem, workload, key=bytes(16))):
        assert not np.array_equal(base["w"], other["w"])
        assert not np.array_equal(base["b"], other["b"])


def test_tensors_of_one_call_are_unrelated():
    problem = linear_problem(rules=())
    into = filled(problem, make_workload(axes={"M": 64, "N": 64, "K": 64}))
    assert abs(np.corrcoef(into["x"].reshape(-1), into["w"].reshape(-1))[0, 1]) < 0.08


def test_no_row_comes_twice_in_hundreds_of_calls():
    problem, workload = make_problem(), make_workload(axes={"B": 4, "N": 16})
    contents, into = Contents(problem, workload, KEY), arrays(problem, workload)
    rows: set[bytes] = set()
    for call in range(500):
        contents.fill(into, call=call)
        rows.update(row.tobytes() for row in into["x"])
    assert len(rows) == 500 * 4


def test_calls_in_any_order_are_the_same_calls():
    problem, workload = make_problem(), make_workload()
    contents = Contents(problem, workload, KEY)
    first, second = arrays(problem, workload), arrays(problem, workload)
    contents.fill(first, call=3)
    contents.fill(second, call=10**9)
    contents.fill(second, call=3)
    np.testing.assert_array_equal(first["x"], second["x"])


def test_the_workloads_own_profile_is_the_default():
    problem = make_problem()
    workload = make_workload(profile=ProfileName.SORTED)
    rises = np.diff(filled(problem, workload)["x"], axis=1)
    assert ((rises >= 0).all(axis=1) | (rises <= 0).all(axis=1)).all()
    assert not (np.diff(filled(problem, workload, profile=ProfileName.NORMAL)["x"]) >= 0).all()


@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float])
@pytest.mark.parametrize("profile", list(ProfileName))
def test_stored_contents_have_the_shape_of_their_profile(dtype, profile):
    workload = make_workload(axes={"B": 32, "N": 48})
    values = as_float64(filled(one_input(dtype), workload, profile=profile)["x"], dtype)
    assert np.isnan(values).sum() == (profile is ProfileName.NAN_ONE)
    if profile not in {ProfileName.NAN_ONE, ProfileName.INF_MASK}:
        assert np.isfinite(values).all()
    if profile is not ProfileName.ZEROS:
        assert np.count_nonzero(values) >= 1


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_sixteen_bit_contents_are_rounded_to_nearest(dtype):
    """The same stream in float32, rounded by the slow and right way, gives the same bits."""
    workload = make_workload(axes={"B": 16, "N": 64})
    single = filled(one_input(DType.FLOAT32), workload)["x"]
    half = filled(one_input(dtype), workload)["x"]
    np.testing.assert_array_equal(half, from_float64(single.astype(np.float64), dtype))


def test_float64_contents_use_their_precision():
    values = filled(one_input(DType.FLOAT64), make_workload(axes={"B": 64, "N": 64}))["x"]
    assert (values != values.astype(np.float32)).mean() > 0.99
    assert abs(values.std() - 1) < 0.05


@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float])
@pytest.mark.parametrize("bounds", [(-1, 1), (0, 1), (0.5, 1.5), (1, 2), (-3, 0)])
def test_parameters_are_never_zero_or_one(dtype, bounds):
    problem = linear_problem(
        dtype, rules=(InputRule(input="w", role="parameter", low=bounds[0], high=bounds[1]),)
    )
    workload = linear_workload(axes={"M": 1, "N": 64, "K": 256})
    for call in range(3):
        values = as_float64(filled(problem, workload, call=call)["w"], dtype)
        assert not np.isin(values, [0.0, 1.0]).any()
        assert values.min() >= bounds[0] - 0.02
        assert values.max() <= bounds[1] + 0.02
        assert values.std() > 0.2


@pytest.mark.parametrize("profile", [ProfileName.ZEROS, ProfileName.NAN_ONE, ProfileName.LARGE])
def test_profiles_leave_parameters_alone(profile):
    into = filled(linear_problem(), linear_workload(), profile=profile)
    assert np.isfinite(into["w"]).all()
    assert np.abs(into["w"]).max() <= 1.5
    assert np.count_nonzero(into["w"]) == into["w"].size


def test_a_parameter_with_a_range_of_one_value_keeps_it():
    problem = linear_problem(rules=(InputRule(input="w", role="parameter", low=1, high=1),))
    assert set(np.unique(filled(problem, linear_workload())["w"])) == {np.float32(1)}


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8, DType.INT32, DType.INT64])
def test_whole_numbers_keep_to_the_rule(dtype):
    problem = one_input(dtype, InputRule(input="x", low=2.5, high=9.5))
    values = filled(problem, make_workload())["x"]
    assert values.dtype == numpy_dtype(dtype)
    assert set(np.unique(values).tolist()) == set(range(3, 10))


def test_whole_parameters_are_drawn_from_the_rule_under_every_profile():
    problem = one_input(DType.INT32, InputRule(input="x", role="parameter", low=0, high=3))
    values = filled(problem, make_workload(), profile=ProfileName.ZEROS)["x"]
    assert set(np.unique(values).tolist()) == {0, 1, 2, 3}


def test_bools_are_both_and_ignore_ranges():
    problem = one_input(DType.BOOL, InputRule(input="x", low=5, high=9))
    values = filled(problem, make_workload())["x"]
    assert 0.3 < values.mean() < 0.7


def test_one_activation_carries_the_nan_and_which_one_varies():
    problem = linear_problem(rules=())
    hit = set()
    for call in range(30):
        into = filled(problem, linear_workload(), call=call, profile=ProfileName.NAN_ONE)
        carrying = [name for name, array in into.items() if np.isnan(array).any()]
        assert len(carrying) == 1
        hit.add(carrying[0])
    assert hit == {"x", "w", "b"}


def test_extreme_rows_come_from_the_problems_profiles():
    problem = make_problem(profiles=(ProfileName.MIXED_ROWS, ProfileName.OFFSET))
    workload = make_workload(axes={"B": 16, "N": 64})
    means = filled(problem, workload, profile=ProfileName.MIXED_ROWS)["x"].mean(axis=1)
    assert (means > 900).sum() == 1
    assert (np.abs(means) < 1).sum() == 15


@pytest.mark.parametrize("axes", [{"B": 0, "N": 5}, {"B": 5, "N": 0}, {"B": 1, "N": 1}])
def test_empty_and_single_shapes_are_filled(axes):
    problem, workload = make_problem(), make_workload(axes=axes)
    into = filled(problem, workload)
    again = near(problem, workload, into, call=1)
    assert again["x"].shape == (axes["B"], axes["N"])


def test_tensors_without_axes_are_filled():
    problem = linear_problem(
        inputs=(
            Tensor(name="x", shape=("M", "K"), dtype=DType.FLOAT32),
            Tensor(name="w", shape=("N", "K"), dtype=DType.FLOAT32),
            Tensor(name="b", shape=(), dtype=DType.FLOAT32),
        )
    )
    first, second = (filled(problem, linear_workload(), call=c)["b"] for c in (1, 2))
    assert first.shape == ()
    assert first != second


def test_a_missing_array_is_named():
    contents = Contents(linear_problem(), linear_workload(), KEY)
    into = arrays(linear_problem(), linear_workload())
    del into["w"]
    with pytest.raises(ValueError, match=r"no array for the input 'w'; given: \['b', 'x'\]"):
        contents.fill(into, call=0)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((8, 127), np.float32), r"shape \(8, 127\)"),
        (np.zeros((128, 8), np.float32).T, "C-contiguous array of shape"),
        (np.zeros((8, 128), np.float64), "numpy type float32, not float64"),
    ],
)
def test_an_unsuitable_array_is_refused(array, words):
    contents = Contents(make_problem(), make_workload(), KEY)
    with pytest.raises(ValueError, match=words):
        contents.fill({"x": array}, call=0)


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="16 to 64 bytes"):
        Contents(make_problem(), make_workload(), b"short")


# Near-duplicates -------------------------------------------------------------------------------


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
