import numpy as np
import pytest
import torch

from gpu_runner.device.torch_elements import as_float64, torch_dtype
from gpu_runner.device.torch_profiles import Draw, fill_floats, fill_integers, fill_parameters
from gpu_runner.oracle.profiles import EXTREME_ROWS
from gpu_runner.oracle.secret import Secret
from gpu_runner.problem import DType, ProfileName
from tests.gpu_runner.device.torch_cases import FLOATS, KEY

SHAPE = (2, 64, 96)


def draw_of(*words: int | str, dtype: DType = DType.FLOAT32) -> Draw:
    return Draw(Secret(KEY, "profiles"), "cpu", dtype, *words)


def rows_of(
    profile: ProfileName, *, call: int = 0, dtype: DType = DType.FLOAT32, shape=SHAPE, **flags
) -> np.ndarray:
    """Rows [slots, rows, length] as float64."""
    rows = torch.full(shape, torch.nan, dtype=torch_dtype(dtype))
    draw = draw_of(profile.value, call, dtype=dtype)
    for name, value in flags.items():
        setattr(draw, name, value)
    fill_floats(rows, profile, draw)
    return as_float64(rows, dtype).numpy()


def integers_of(
    profile: ProfileName, bounds=(-128, 127), shape=SHAPE, dtype: DType = DType.INT8
) -> np.ndarray:
    rows = torch.full(shape, 99, dtype=torch_dtype(dtype))
    fill_integers(rows, bounds, profile, draw_of("integers", profile.value))
    return rows.numpy()


@pytest.mark.parametrize("profile", list(ProfileName))
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 7), (1, 5, 1), (3, 3, 33)])
def test_every_profile_fills_every_shape(profile, dtype, shape):
    rows = rows_of(profile, dtype=dtype, shape=shape)
    limit = 1 if profile is ProfileName.NAN_ONE else 0
    assert np.isnan(rows).sum(axis=(1, 2)).tolist() == [limit] * shape[0]


@pytest.mark.parametrize("profile", list(ProfileName))
def test_a_profile_is_repeatable_and_new_in_every_call(profile):
    first, again, other = (rows_of(profile, call=call) for call in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("profile", list(ProfileName))
def test_slots_differ(profile):
    slots = rows_of(profile, shape=(4, 16, 32))
    assert len({slot.tobytes() for slot in slots}) == 4


@pytest.mark.parametrize("profile", list(ProfileName))
def test_only_the_slots_of_a_slab_are_written(profile):
    slab = torch.full((3, 100), 77.0)
    rows = slab.as_strided((3, 8, 10), (100, 10, 1))
    fill_floats(rows, profile, draw_of("slab"))
    assert (slab[:, 80:] == 77.0).all()
    assert (slab[:, :80] != 77.0).all()


def test_normal_is_centred():
    rows = rows_of(ProfileName.NORMAL)
    assert abs(rows.mean()) < 0.05
    assert abs(rows.std() - 1) < 0.05


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_half_normals_have_tails_and_no_favourites(dtype):
    rows = rows_of(ProfileName.NORMAL, dtype=dtype, shape=(1, 256, 256))
    assert 4 < np.abs(rows).max() < 6
    assert abs(rows.std() - 1) < 0.02
    assert len(np.unique(rows)) > 2000


def test_uniform_has_a_mean_that_is_not_zero():
    rows = rows_of(ProfileName.UNIFORM)
    assert rows.min() >= 0
    assert rows.max() <= 1
    assert abs(rows.mean() - 0.5) < 0.02


@pytest.mark.parametrize("dtype", FLOATS)
def test_offset_lies_around_a_thousand(dtype):
    rows = rows_of(ProfileName.OFFSET, dtype=dtype)
    assert abs(rows.mean() - 1000) < 1
    assert rows.std() < 2.5


@pytest.mark.parametrize(("dtype", "top"), [(DType.FLOAT32, 20), (DType.FLOAT16, 15)])
def test_log_uniform_spans_the_exponents_with_both_signs(dtype, top):
    rows = rows_of(ProfileName.LOG_UNIFORM, dtype=dtype)
    exponents = np.log2(np.abs(rows))
    assert -20 <= exponents.min() < -18
    assert top - 2 < exponents.max() <= top
    assert abs((rows > 0).mean() - 0.5) < 0.05


@pytest.mark.parametrize("dtype", FLOATS)
def test_large_reaches_ten_thousand_either_way(dtype):
    rows = rows_of(ProfileName.LARGE, dtype=dtype)
    assert rows.min() < -9_800
    assert rows.max() > 9_800
    assert np.abs(rows).max() <= 1.01e4


@pytest.mark.parametrize("dtype", FLOATS)
def test_denormal_is_subnormal_in_the_stored_type(dtype):
    least = {"float64": 2.0**-1022, "float16": 2.0**-14}.get(dtype.value, 2.0**-126)
    rows = rows_of(ProfileName.DENORMAL, dtype=dtype)
    assert (rows != 0).all()
    assert np.abs(rows).max() < least
    assert 0.4 < (rows < 0).mean() < 0.6


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros_have_both_signs(dtype):
    rows = rows_of(ProfileName.ZEROS, dtype=dtype)
    assert (rows == 0).all()
    assert 0.4 < np.signbit(rows).mean() < 0.6


def test_constant_is_one_number_for_each_slot_that_is_not_zero():
    slots = np.concatenate([rows_of(ProfileName.CONSTANT, call=call) for call in range(20)])
    values = [np.unique(slot) for slot in slots]
    assert {v.size for v in values} == {1}
    assert len({float(v[0]) for v in values}) == 40
    assert min(abs(float(v[0])) for v in values) >= 0.5
    assert max(abs(float(v[0])) for v in values) < 3.0


def test_one_hot_has_one_element_a_row_at_random_places():
    rows = rows_of(ProfileName.ONE_HOT)
    assert (np.count_nonzero(rows, axis=2) == 1).all()
    assert len(set(np.argmax(rows, axis=2).reshape(-1))) > 16
    hot = rows.max(axis=2)
    assert hot.min() >= 0.5
    assert hot.max() <= 3.0


def test_sorted_rows_rise_or_fall():
    rises = np.diff(rows_of(ProfileName.SORTED), axis=2)
    is_rising, is_falling = (rises >= 0).all(axis=2), (rises <= 0).all(axis=2)
    assert (is_rising | is_falling).all()
    assert is_rising.any()
    assert is_falling.any()


def test_sparse_is_nearly_empty():
    assert 0.003 < (rows_of(ProfileName.SPARSE) != 0).mean() < 0.03


@pytest.mark.parametrize("dtype", FLOATS)
def test_integers_are_small_whole_numbers(dtype):
    assert set(np.unique(rows_of(ProfileName.INTEGERS, dtype=dtype))) == set(range(-8, 9))


@pytest.mark.parametrize("dtype", FLOATS)
def test_alternating_has_ties_and_its_largest_last(dtype):
    rows = rows_of(ProfileName.ALTERNATING, dtype=dtype)
    assert (rows[..., 0:-1:2] > 0).all()
    assert (rows[..., 1:-1:2] < 0).all()
    assert (np.argmax(rows, axis=2) == rows.shape[2] - 1).all()
    assert len(np.unique(rows[..., :-1])) < 20


def test_nan_is_in_one_element_of_the_chosen_tensor_only():
    assert np.isnan(rows_of(ProfileName.NAN_ONE)).sum(axis=(1, 2)).tolist() == [1, 1]
    assert not np.isnan(rows_of(ProfileName.NAN_ONE, is_chosen=False)).any()


def test_a_mask_leaves_every_row_an_element():
    rows = rows_of(ProfileName.INF_MASK)
    is_masked = np.isneginf(rows)
    assert 0.2 < is_masked.mean() < 0.4
    assert not is_masked.all(axis=2).any()
    assert np.isfinite(rows[~is_masked]).all()
    assert np.isfinite(rows_of(ProfileName.INF_MASK, is_chosen=False)).all()


def test_mixed_rows_hide_an_extreme_row_among_normal_ones():
    for slot in rows_of(ProfileName.MIXED_ROWS):
        spread = slot.std(axis=1)
        assert (spread > 20).sum() == SHAPE[1] // 16
        assert (np.abs(spread - 1) < 0.5).sum() == SHAPE[1] - SHAPE[1] // 16


def test_mixed_rows_choose_other_places_in_other_calls_and_slots():
    places = {
        tuple(np.flatnonzero(slot.std(axis=1) > 20))
        for call in range(8)
        for slot in rows_of(ProfileName.MIXED_ROWS, call=call)
    }
    assert len(places) == 16


def is_ordinary(row: np.ndarray) -> bool:
    return bool(0.9 < row.std() < 1.1 and abs(row.mean()) < 0.1 and np.ptp(row) > 6)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
@pytest.mark.parametrize("kind", EXTREME_ROWS)
def test_an_extreme_row_is_of_a_kind_that_the_contract_covers(kind, dtype):
    slots = rows_of(ProfileName.MIXED_ROWS, row_kinds=(kind,), shape=(2, 8, 4096), dtype=dtype)
    assert [sum(map(is_ordinary, slot)) for slot in slots] == [7, 7]


def test_extreme_rows_of_a_constant_have_each_their_own():
    slots = rows_of(ProfileName.MIXED_ROWS, row_kinds=(ProfileName.CONSTANT,), shape=(2, 64, 96))
    constants = [float(row[0]) for slot in slots for row in slot if np.ptp(row) == 0]
    assert len(constants) == 8
    assert len(set(constants)) == 8


def test_several_kinds_of_extreme_rows_share_the_places():
    kinds = (ProfileName.ZEROS, ProfileName.ONE_HOT, ProfileName.OFFSET)
    (slot,) = rows_of(ProfileName.MIXED_ROWS, row_kinds=kinds, shape=(1, 512, 256))
    zeros = (slot == 0).all(axis=1).sum()
    hot = (np.count_nonzero(slot, axis=1) == 1).sum()
    offset = (slot.mean(axis=1) > 500).sum()
    assert zeros + hot + offset == 32
    assert min(zeros, hot, offset) > 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_parameters_fill_their_range(dtype):
    rows = torch.empty(SHAPE, dtype=torch_dtype(dtype))
    fill_parameters(rows, 0.5, 1.5, draw_of("parameter"))
    numbers = as_float64(rows, dtype).numpy()
    assert 0.5 <= numbers.min() < 0.52
    assert 1.48 < numbers.max() <= 1.5


@pytest.mark.parametrize("profile", list(ProfileName))
@pytest.mark.parametrize("bounds", [(-128, 127), (3, 9), (0, 1), (5, 5), (-7, -2)])
def test_whole_numbers_stay_within_their_bounds(profile, bounds):
    rows = integers_of(profile, bounds)
    assert rows.min() >= bounds[0]
    assert rows.max() <= bounds[1]


@pytest.mark.parametrize("profile", list(ProfileName))
def test_bools_take_every_profile(profile):
    rows = integers_of(profile, (0, 1), dtype=DType.BOOL)
    assert rows.dtype == np.bool_
    assert set(np.unique(rows.view(np.uint8))) <= {0, 1}


@pytest.mark.parametrize("dtype", [DType.UINT8, DType.INT32, DType.INT64])
def test_wider_whole_numbers_reach_both_ends(dtype):
    bounds = (0, 255) if dtype is DType.UINT8 else (-300, 300)
    rows = integers_of(ProfileName.NORMAL, bounds, dtype=dtype)
    assert (rows.min(), rows.max()) == bounds


def test_whole_numbers_fill_all_of_eight_bits():
    rows = integers_of(ProfileName.NORMAL, shape=(1, 64, 256))
    assert set(np.unique(rows)) == set(range(-128, 128))


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
    assert (np.count_nonzero(integers_of(ProfileName.ONE_HOT), axis=2) <= 1).all()


def test_sparse_whole_numbers_are_nearly_all_zero():
    assert 0.003 < (integers_of(ProfileName.SPARSE) != 0).mean() < 0.03


def test_a_constant_whole_number_is_each_slots_own():
    slots = integers_of(ProfileName.CONSTANT, shape=(16, 4, 4))
    assert {np.unique(slot).size for slot in slots} == {1}
    assert len({int(slot[0, 0]) for slot in slots}) > 8


def test_sorted_whole_numbers_rise():
    assert (np.diff(integers_of(ProfileName.SORTED).astype(int), axis=2) >= 0).all()


def test_streams_of_other_words_or_keys_are_apart():
    first = draw_of("a", 1).uniform(8)
    assert torch.equal(first, draw_of("a", 1).uniform(8))
    assert not torch.equal(first, draw_of("a", 2).uniform(8))
    assert not torch.equal(first, draw_of("b", 1).uniform(8))
    other = Draw(Secret(bytes(16), "profiles"), "cpu", DType.FLOAT32, "a", 1)
    assert not torch.equal(first, other.uniform(8))


def test_the_host_and_the_device_do_not_share_a_stream():
    draw = draw_of("both")
    assert not np.allclose(draw.uniform(8).numpy(), draw.host.random(8))
