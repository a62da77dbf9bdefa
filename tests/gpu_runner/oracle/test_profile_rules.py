import pytest

from gpu_runner.oracle.elements import smallest_subnormal
from gpu_runner.oracle.profile_rules import (
    EXTREME_ROWS,
    SUBNORMAL_BITS,
    Profiles,
    default_bounds,
    exponents,
    extreme_count,
    nearest_to_zero,
)
from gpu_runner.problem import DType, ProfileName


@pytest.mark.parametrize(
    ("dtype", "bounds"),
    [
        (DType.INT8, (-128, 127)),
        (DType.UINT8, (0, 255)),
        (DType.BOOL, (0, 1)),
        (DType.INT32, (-32768, 32767)),
        (DType.INT64, (-32768, 32767)),
    ],
)
def test_the_default_range_is_all_of_eight_bits_and_sixteen_of_more(dtype, bounds):
    assert default_bounds(dtype) == bounds


def test_an_engine_fills_by_the_name_that_its_function_is_entered_under():
    profiles = Profiles[list[str], str]()

    @profiles.of(ProfileName.ZEROS)
    def zeros(rows: list[str], draw: str) -> None:
        rows.append(f"zeros of {draw}")

    @profiles.of(ProfileName.LARGE)
    def large(rows: list[str], draw: str) -> None:
        zeros(rows, f"large, of {draw}")

    rows: list[str] = []
    profiles.fill(rows, ProfileName.LARGE, "a stream")
    profiles.fill(rows, ProfileName.ZEROS, "another")
    assert rows == ["zeros of large, of a stream", "zeros of another"]
    with pytest.raises(KeyError):
        profiles.fill(rows, ProfileName.NORMAL, "a third")


@pytest.mark.parametrize("dtype", list(SUBNORMAL_BITS))
def test_subnormals_end_below_the_least_normal_number(dtype):
    least = {DType.FLOAT64: 2.0**-1022, DType.FLOAT16: 2.0**-14}.get(dtype, 2.0**-126)
    assert smallest_subnormal(dtype) * 2 ** SUBNORMAL_BITS[dtype] == least


@pytest.mark.parametrize("dtype", list(SUBNORMAL_BITS))
def test_log_uniform_contents_stay_within_their_type(dtype):
    low, high = exponents(dtype)
    assert low == -20.0
    assert high == (15.0 if dtype is DType.FLOAT16 else 20.0)


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (15, 1), (16, 1), (31, 1), (32, 2), (512, 32)])
def test_one_row_in_sixteen_is_extreme_and_at_least_one(rows, count):
    assert extreme_count(rows) == count


@pytest.mark.parametrize(
    ("bounds", "nearest"), [((-3, 3), 0), ((0, 9), 0), ((2, 9), 2), ((-9, -2), -2), ((0, 0), 0)]
)
def test_the_integer_nearest_to_zero_lies_within_the_bounds(bounds, nearest):
    assert nearest_to_zero(bounds) == nearest


def test_no_extreme_row_is_itself_a_mixture_or_not_finite():
    unfit = {ProfileName.MIXED_ROWS, ProfileName.NAN_ONE, ProfileName.INF_MASK}
    assert not unfit & set(EXTREME_ROWS)
    assert len(set(EXTREME_ROWS)) == len(EXTREME_ROWS)
