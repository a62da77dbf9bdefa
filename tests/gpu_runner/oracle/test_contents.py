import numpy as np
import pytest

from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import as_float64, from_float64, numpy_dtype
from gpu_runner.problem import (
    DType,
    InputRule,
    ProfileName,
    Tensor,
)
from tests.builders import make_problem, make_workload
from tests.gpu_runner.oracle.drawn import (
    KEY,
    arrays,
    filled,
    linear_problem,
    linear_workload,
    near,
    one_input,
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
