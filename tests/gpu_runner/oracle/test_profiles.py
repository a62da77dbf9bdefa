import numpy as np
import pytest

from gpu_runner.oracle.profiles import (
    EXTREME_ROWS,
    Draw,
    default_bounds,
    fill_floats,
    fill_integers,
    fill_parameters,
)
from gpu_runner.oracle.secret import Pool, Secret
from gpu_runner.problem import DType, ProfileName

KEY = bytes(range(16))
SHAPE = (64, 96)


def draw_of(*words: int | str, dtype: DType = DType.FLOAT32) -> Draw:
    secret = Secret(KEY, "profiles")
    return Draw(secret, Pool(secret, 64 * 96), dtype, *words)


def rows_of(
    profile: ProfileName, *, call: int = 0, dtype: DType = DType.FLOAT32, shape=SHAPE, **flags
) -> np.ndarray:
    rows = np.full(shape, np.nan, dtype=np.float64 if dtype is DType.FLOAT64 else np.float32)
    draw = draw_of(profile.value, call, dtype=dtype)
    for name, value in flags.items():
        setattr(draw, name, value)
    fill_floats(rows, profile, draw)
    return rows


def integers_of(profile: ProfileName, bounds=(-128, 127), shape=SHAPE, dtype=np.int8):
    rows = np.full(shape, 99, dtype=dtype)
    fill_integers(rows, bounds, profile, Secret(KEY, "integers").generator(profile.value))
    return rows


@pytest.mark.parametrize("profile", list(ProfileName))
@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 33)])
def test_every_profile_fills_every_shape(profile, dtype, shape):
    rows = rows_of(profile, dtype=dtype, shape=shape)
    limit = 1 if profile is ProfileName.NAN_ONE else 0
    assert np.isnan(rows).sum() == limit


@pytest.mark.parametrize("profile", list(ProfileName))
def test_a_profile_is_repeatable_and_new_in_every_call(profile):
    first, again, other = (rows_of(profile, call=call) for call in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.tobytes() != other.tobytes()


def test_normal_is_centred():
    rows = rows_of(ProfileName.NORMAL)
    assert abs(rows.mean()) < 0.05
    assert abs(rows.std() - 1) < 0.05


def test_uniform_has_a_mean_that_is_not_zero():
    rows = rows_of(ProfileName.UNIFORM)
    assert rows.min() >= 0
    assert rows.max() <= 1
    assert abs(rows.mean() - 0.5) < 0.02


def test_offset_lies_around_a_thousand():
    rows = rows_of(ProfileName.OFFSET)
    assert abs(rows.mean() - 1000) < 0.1
    assert abs((rows - 1000).std() - 1) < 0.05


@pytest.mark.parametrize(("dtype", "top"), [(DType.FLOAT32, 20), (DType.FLOAT16, 15)])
def test_log_uniform_spans_the_exponents_with_both_signs(dtype, top):
    rows = rows_of(ProfileName.LOG_UNIFORM, dtype=dtype)
    exponents = np.log2(np.abs(rows))
    assert -20 <= exponents.min() < -18
    assert top - 2 < exponents.max() <= top
    assert abs((rows > 0).mean() - 0.5) < 0.05


def test_large_reaches_ten_thousand_either_way():
    rows = rows_of(ProfileName.LARGE)
    assert rows.min() < -9_900
    assert rows.max() > 9_900
    assert np.abs(rows).max() <= 1e4


@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float])
def test_denormal_is_subnormal_in_the_stored_type(dtype):
    least = {"float64": 2.0**-1022, "float16": 2.0**-14}.get(dtype.value, 2.0**-126)
    rows = rows_of(ProfileName.DENORMAL, dtype=dtype)
    assert (rows != 0).all()
    assert np.abs(rows).max() < least
    assert (rows < 0).any()


def test_zeros_have_both_signs():
    rows = rows_of(ProfileName.ZEROS)
    assert (rows == 0).all()
    assert 0.4 < np.signbit(rows).mean() < 0.6


def test_constant_is_one_number_that_is_not_zero():
    values = {float(rows_of(ProfileName.CONSTANT, call=call)[0, 0]) for call in range(20)}
    assert len(values) == 20
    assert min(map(abs, values)) >= 0.5
    assert len(np.unique(rows_of(ProfileName.CONSTANT))) == 1


def test_one_hot_has_one_element_a_row_at_random_places():
    rows = rows_of(ProfileName.ONE_HOT)
    assert (np.count_nonzero(rows, axis=1) == 1).all()
    assert len(set(np.argmax(rows, axis=1))) > 16


def test_sorted_rows_rise_or_fall():
    rises = np.diff(rows_of(ProfileName.SORTED), axis=1)
    is_rising, is_falling = (rises >= 0).all(axis=1), (rises <= 0).all(axis=1)
    assert (is_rising | is_falling).all()
    assert is_rising.any()
    assert is_falling.any()


def test_sparse_is_nearly_empty():
    assert 0.003 < (rows_of(ProfileName.SPARSE) != 0).mean() < 0.03


def test_integers_are_small_whole_numbers():
    rows = rows_of(ProfileName.INTEGERS)
    assert set(np.unique(rows)) == set(range(-8, 9))


def test_alternating_has_ties_and_its_largest_last():
    rows = rows_of(ProfileName.ALTERNATING)
    assert (rows[:, 0:-1:2] > 0).all()
    assert (rows[:, 1:-1:2] < 0).all()
    assert (np.argmax(rows, axis=1) == rows.shape[1] - 1).all()
    assert len(np.unique(rows[:, :-1])) < 20


def test_nan_is_in_one_element_of_the_chosen_tensor_only():
    assert np.isnan(rows_of(ProfileName.NAN_ONE)).sum() == 1
    assert not np.isnan(rows_of(ProfileName.NAN_ONE, is_chosen=False)).any()


def test_a_mask_leaves_every_row_an_element():
    rows = rows_of(ProfileName.INF_MASK)
    is_masked = np.isneginf(rows)
    assert 0.2 < is_masked.mean() < 0.4
    assert not is_masked.all(axis=1).any()
    assert np.isfinite(rows[~is_masked]).all()
    assert np.isfinite(rows_of(ProfileName.INF_MASK, is_chosen=False)).all()


def test_mixed_rows_hide_an_extreme_row_among_normal_ones():
    rows = rows_of(ProfileName.MIXED_ROWS)
    spread = rows.std(axis=1)
    assert (spread > 20).sum() == SHAPE[0] // 16
    assert (np.abs(spread - 1) < 0.5).sum() == SHAPE[0] - SHAPE[0] // 16


def test_mixed_rows_choose_other_places_in_other_calls():
    places = {
        tuple(np.flatnonzero(rows_of(ProfileName.MIXED_ROWS, call=call).std(axis=1) > 20))
        for call in range(8)
    }
    assert len(places) == 8


@pytest.mark.parametrize("kind", EXTREME_ROWS)
def test_an_extreme_row_is_of_a_kind_that_the_contract_covers(kind):
    rows = rows_of(ProfileName.MIXED_ROWS, row_kinds=(kind,), shape=(8, 4096))
    ordinary = [r for r in rows if 0.9 < r.std() < 1.1 and abs(r.mean()) < 0.1 and np.ptp(r) > 6]
    assert len(ordinary) == 7


def test_parameters_fill_their_range():
    rows = np.empty(SHAPE, dtype=np.float32)
    fill_parameters(rows, 0.5, 1.5, draw_of("parameter"))
    assert 0.5 <= rows.min() < 0.52
    assert 1.48 < rows.max() <= 1.5


@pytest.mark.parametrize("profile", list(ProfileName))
@pytest.mark.parametrize("bounds", [(-128, 127), (3, 9), (0, 1), (5, 5), (-7, -2)])
def test_whole_numbers_stay_within_their_bounds(profile, bounds):
    rows = integers_of(profile, bounds)
    assert rows.min() >= bounds[0]
    assert rows.max() <= bounds[1]


def test_whole_numbers_fill_all_of_eight_bits():
    assert set(np.unique(integers_of(ProfileName.NORMAL, shape=(64, 256)))) == set(range(-128, 128))


@pytest.mark.parametrize(
    ("profile", "values"),
    [
        (ProfileName.LARGE, {-128, 127}),
        (ProfileName.ALTERNATING, {-128, 127}),
        (ProfileName.ZEROS, {0}),
    ],
)
def test_extreme_whole_numbers_are_the_ends_of_the_range(profile, values):
    assert set(np.unique(integers_of(profile)).tolist()) == values


def test_a_zero_outside_the_bounds_becomes_the_nearest_end():
    assert set(np.unique(integers_of(ProfileName.ZEROS, (3, 9))).tolist()) == {3}
    assert set(np.unique(integers_of(ProfileName.ZEROS, (-9, -3))).tolist()) == {-3}


def test_one_hot_whole_numbers_have_at_most_one_element_a_row():
    assert (np.count_nonzero(integers_of(ProfileName.ONE_HOT), axis=1) <= 1).all()


def test_sorted_whole_numbers_rise():
    assert (np.diff(integers_of(ProfileName.SORTED).astype(int), axis=1) >= 0).all()


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
