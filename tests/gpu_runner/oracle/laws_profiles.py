"""What the distributions of contents must be, whatever engine draws them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gpu_runner.oracle.elements import Raw
from gpu_runner.oracle.profile_rules import EXTREME_ROWS
from gpu_runner.problem import DType, ProfileName
from tests.gpu_runner.oracle.engines import FLOATS

ROWS, LENGTH = SHAPE = (64, 96)
EXACT = {DType.FLOAT32, DType.FLOAT64}
"""Types fine enough to show a distribution's own moments around a thousand."""


def is_ordinary(row: np.ndarray) -> bool:
    return bool(0.9 < row.std() < 1.1 and abs(row.mean()) < 0.1 and np.ptp(row) > 6)


class ProfileLaws(ABC):
    """Binds to an engine by three questions; all are answered by [slots, rows, length]."""

    slots: int

    @abstractmethod
    def rows_of(
        self,
        profile: ProfileName,
        *,
        call: int = 0,
        dtype: DType = DType.FLOAT32,
        shape: Sequence[int] = SHAPE,
        **flags: Any,
    ) -> np.ndarray:
        """Fill floats that were NaN; flags are attributes of the Draw."""

    @abstractmethod
    def integers_of(
        self,
        profile: ProfileName,
        bounds: tuple[int, int] = (-128, 127),
        *,
        call: int = 0,
        shape: Sequence[int] = SHAPE,
        dtype: DType = DType.INT8,
    ) -> Raw: ...

    @abstractmethod
    def parameters_of(self, low: float, high: float, dtype: DType) -> np.ndarray: ...

    @pytest.mark.parametrize("profile", list(ProfileName))
    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 33)])
    def test_every_profile_fills_every_shape(self, profile, dtype, shape):
        rows = self.rows_of(profile, dtype=dtype, shape=shape)
        limit = 1 if profile is ProfileName.NAN_ONE else 0
        assert np.isnan(rows).sum(axis=(1, 2)).tolist() == [limit] * self.slots

    @pytest.mark.parametrize("profile", list(ProfileName))
    def test_a_profile_is_repeatable_and_new_in_every_call(self, profile):
        first, again, other = (self.rows_of(profile, call=call) for call in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert first.tobytes() != other.tobytes()

    def test_normal_is_centred(self):
        rows = self.rows_of(ProfileName.NORMAL)
        assert abs(rows.mean()) < 0.05
        assert abs(rows.std() - 1) < 0.05

    @pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
    def test_half_normals_have_tails_and_no_favourites(self, dtype):
        rows = self.rows_of(ProfileName.NORMAL, dtype=dtype, shape=(256, 256))
        assert 4 < np.abs(rows).max() < 6
        assert abs(rows.std() - 1) < 0.02
        assert len(np.unique(rows)) > 2000

    def test_uniform_has_a_mean_that_is_not_zero(self):
        rows = self.rows_of(ProfileName.UNIFORM)
        assert rows.min() >= 0
        assert rows.max() <= 1
        assert abs(rows.mean() - 0.5) < 0.02

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_offset_lies_around_a_thousand(self, dtype):
        rows = self.rows_of(ProfileName.OFFSET, dtype=dtype)
        assert abs(rows.mean() - 1000) < (0.1 if dtype in EXACT else 1)
        assert rows.std() < 2.5
        if dtype in EXACT:
            assert abs((rows - 1000).std() - 1) < 0.05

    @pytest.mark.parametrize(("dtype", "top"), [(DType.FLOAT32, 20), (DType.FLOAT16, 15)])
    def test_log_uniform_spans_the_exponents_with_both_signs(self, dtype, top):
        rows = self.rows_of(ProfileName.LOG_UNIFORM, dtype=dtype)
        exponents = np.log2(np.abs(rows))
        assert -20 <= exponents.min() < -18
        assert top - 2 < exponents.max() <= top
        assert abs((rows > 0).mean() - 0.5) < 0.05

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_large_reaches_ten_thousand_either_way(self, dtype):
        rows = self.rows_of(ProfileName.LARGE, dtype=dtype)
        reach, limit = (9_900, 1e4) if dtype in EXACT else (9_800, 1.01e4)
        assert rows.min() < -reach
        assert rows.max() > reach
        assert np.abs(rows).max() <= limit

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_denormal_is_subnormal_in_the_stored_type(self, dtype):
        least = {"float64": 2.0**-1022, "float16": 2.0**-14}.get(dtype.value, 2.0**-126)
        rows = self.rows_of(ProfileName.DENORMAL, dtype=dtype)
        assert (rows != 0).all()
        assert np.abs(rows).max() < least
        assert 0.4 < (rows < 0).mean() < 0.6

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_zeros_have_both_signs(self, dtype):
        rows = self.rows_of(ProfileName.ZEROS, dtype=dtype)
        assert (rows == 0).all()
        assert 0.4 < np.signbit(rows).mean() < 0.6

    def test_constant_is_one_number_for_each_call_that_is_not_zero(self):
        calls = [self.rows_of(ProfileName.CONSTANT, call=call) for call in range(20)]
        values = [np.unique(slot) for slots in calls for slot in slots]
        assert {v.size for v in values} == {1}
        assert len({float(v[0]) for v in values}) == 20 * self.slots
        assert min(abs(float(v[0])) for v in values) >= 0.5
        assert max(abs(float(v[0])) for v in values) < 3.0

    def test_one_hot_has_one_element_a_row_at_random_places(self):
        rows = self.rows_of(ProfileName.ONE_HOT)
        assert (np.count_nonzero(rows, axis=2) == 1).all()
        assert len(set(np.argmax(rows, axis=2).reshape(-1))) > 16
        hot = rows.max(axis=2)
        assert hot.min() >= 0.5
        assert hot.max() <= 3.0

    def test_sorted_rows_rise_or_fall(self):
        rises = np.diff(self.rows_of(ProfileName.SORTED), axis=2)
        is_rising, is_falling = (rises >= 0).all(axis=2), (rises <= 0).all(axis=2)
        assert (is_rising | is_falling).all()
        assert is_rising.any()
        assert is_falling.any()

    def test_sparse_is_nearly_empty(self):
        assert 0.003 < (self.rows_of(ProfileName.SPARSE) != 0).mean() < 0.03

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_integers_are_small_whole_numbers(self, dtype):
        rows = self.rows_of(ProfileName.INTEGERS, dtype=dtype)
        assert set(np.unique(rows)) == set(range(-8, 9))

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_alternating_has_ties_and_its_largest_last(self, dtype):
        rows = self.rows_of(ProfileName.ALTERNATING, dtype=dtype)
        assert (rows[..., 0:-1:2] > 0).all()
        assert (rows[..., 1:-1:2] < 0).all()
        assert (np.argmax(rows, axis=2) == LENGTH - 1).all()
        tied = np.abs(rows[..., :-1])
        assert (tied.min(), tied.max()) == (0.5, 1.5)
        assert len(np.unique(tied)) == 9

    def test_nan_is_in_one_element_of_the_chosen_tensor_only(self):
        counts = np.isnan(self.rows_of(ProfileName.NAN_ONE)).sum(axis=(1, 2))
        assert counts.tolist() == [1] * self.slots
        assert not np.isnan(self.rows_of(ProfileName.NAN_ONE, is_chosen=False)).any()

    def test_a_mask_leaves_every_row_an_element(self):
        rows = self.rows_of(ProfileName.INF_MASK)
        is_masked = np.isneginf(rows)
        assert 0.2 < is_masked.mean() < 0.4
        for length in (1, 2, LENGTH):  # three in ten are masked: short rows would often be whole
            short = np.isneginf(self.rows_of(ProfileName.INF_MASK, shape=(64, length)))
            assert not short.all(axis=2).any()
        assert np.isfinite(rows[~is_masked]).all()
        assert np.isfinite(self.rows_of(ProfileName.INF_MASK, is_chosen=False)).all()

    def test_mixed_rows_hide_an_extreme_row_among_normal_ones(self):
        for slot in self.rows_of(ProfileName.MIXED_ROWS):
            spread = slot.std(axis=1)
            assert (spread > 20).sum() == ROWS // 16
            assert (np.abs(spread - 1) < 0.5).sum() == ROWS - ROWS // 16

    def test_mixed_rows_choose_other_places_in_other_calls_and_slots(self):
        places = {
            tuple(np.flatnonzero(slot.std(axis=1) > 20))
            for call in range(8)
            for slot in self.rows_of(ProfileName.MIXED_ROWS, call=call)
        }
        assert len(places) == 8 * self.slots

    @pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
    @pytest.mark.parametrize("kind", EXTREME_ROWS)
    def test_an_extreme_row_is_of_a_kind_that_the_contract_covers(self, kind, dtype):
        slots = self.rows_of(
            ProfileName.MIXED_ROWS, row_kinds=(kind,), shape=(8, 4096), dtype=dtype
        )
        assert [sum(map(is_ordinary, slot)) for slot in slots] == [7] * self.slots

    def test_extreme_rows_of_a_constant_have_each_their_own(self):
        slots = self.rows_of(ProfileName.MIXED_ROWS, row_kinds=(ProfileName.CONSTANT,))
        constants = [float(row[0]) for slot in slots for row in slot if np.ptp(row) == 0]
        assert len(constants) == ROWS // 16 * self.slots
        assert len(set(constants)) == len(constants)

    def test_several_kinds_of_extreme_rows_share_the_places(self):
        kinds = (ProfileName.ZEROS, ProfileName.ONE_HOT, ProfileName.OFFSET)
        for slot in self.rows_of(ProfileName.MIXED_ROWS, row_kinds=kinds, shape=(512, 256)):
            zeros = (slot == 0).all(axis=1).sum()
            hot = (np.count_nonzero(slot, axis=1) == 1).sum()
            offset = (slot.mean(axis=1) > 500).sum()
            assert zeros + hot + offset == 32
            assert min(zeros, hot, offset) > 0

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_parameters_fill_their_range(self, dtype):
        numbers = self.parameters_of(0.5, 1.5, dtype)
        assert 0.5 <= numbers.min() < 0.52
        assert 1.48 < numbers.max() <= 1.5

    @pytest.mark.parametrize("profile", list(ProfileName))
    @pytest.mark.parametrize("bounds", [(-128, 127), (3, 9), (0, 1), (5, 5), (-7, -2)])
    def test_whole_numbers_stay_within_their_bounds(self, profile, bounds):
        rows = self.integers_of(profile, bounds)
        assert rows.min() >= bounds[0]
        assert rows.max() <= bounds[1]

    @pytest.mark.parametrize("profile", list(ProfileName))
    def test_bools_take_every_profile(self, profile):
        rows = self.integers_of(profile, (0, 1), dtype=DType.BOOL)
        assert rows.dtype == np.bool_
        assert set(np.unique(rows.view(np.uint8))) <= {0, 1}

    @pytest.mark.parametrize("dtype", [DType.UINT8, DType.INT32, DType.INT64])
    def test_wider_whole_numbers_reach_both_ends(self, dtype):
        bounds = (0, 255) if dtype is DType.UINT8 else (-300, 300)
        rows = self.integers_of(ProfileName.NORMAL, bounds, dtype=dtype)
        assert (rows.min(), rows.max()) == bounds

    def test_whole_numbers_fill_all_of_eight_bits(self):
        for slot in self.integers_of(ProfileName.NORMAL, shape=(64, 256)):
            assert set(np.unique(slot)) == set(range(-128, 128))

    @pytest.mark.parametrize(
        ("profile", "values"),
        [
            (ProfileName.LARGE, {-128, 127}),
            (ProfileName.ALTERNATING, {-128, 127}),
            (ProfileName.ZEROS, {0}),
        ],
    )
    def test_extreme_whole_numbers_are_the_ends_of_the_range(self, profile, values):
        assert set(np.unique(self.integers_of(profile)).tolist()) == values

    @pytest.mark.parametrize(("bounds", "nearest"), [((3, 9), 3), ((-9, -3), -3)])
    def test_a_zero_outside_the_bounds_becomes_the_nearest_end(self, bounds, nearest):
        assert set(np.unique(self.integers_of(ProfileName.ZEROS, bounds)).tolist()) == {nearest}

    def test_one_hot_whole_numbers_have_at_most_one_element_a_row(self):
        assert (np.count_nonzero(self.integers_of(ProfileName.ONE_HOT), axis=2) <= 1).all()

    def test_sparse_whole_numbers_are_nearly_all_zero(self):
        assert 0.003 < (self.integers_of(ProfileName.SPARSE) != 0).mean() < 0.03

    def test_a_constant_whole_number_is_each_calls_own(self):
        calls = [self.integers_of(ProfileName.CONSTANT, call=call) for call in range(16)]
        slots = [slot for call in calls for slot in call]
        assert {np.unique(slot).size for slot in slots} == {1}
        assert len({int(slot[0, 0]) for slot in slots}) > 8

    def test_sorted_whole_numbers_rise(self):
        assert (np.diff(self.integers_of(ProfileName.SORTED).astype(int), axis=2) >= 0).all()
