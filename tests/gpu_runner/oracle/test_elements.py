import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.oracle.elements import (
    as_float64,
    from_float64,
    integer_range,
    largest_finite,
    numpy_dtype,
    smallest_subnormal,
)
from gpu_runner.problem import DType

FLOATS = [dtype for dtype in DType if dtype.is_float]
WHOLE = [dtype for dtype in DType if not dtype.is_float]
ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=True, width=64)


def one(value: float, dtype: DType) -> float:
    return float(as_float64(from_float64(np.array([value]), dtype), dtype)[0])


def bfloat16_bits(value: float) -> int:
    return int(from_float64(np.array([value]), DType.BFLOAT16)[0])


def nearest_bfloat16(value: float) -> float:
    """Round by search: the nearest of all finite values, ties to the even pattern."""
    bits = np.arange(0x7F80, dtype=np.uint32)
    finite = (bits << 16).view(np.float32).astype(np.float64)
    magnitude = abs(value)
    if magnitude >= finite[-1] + (finite[-1] - finite[-2]) / 2:
        return math.copysign(math.inf, value)
    place = int(np.searchsorted(finite, magnitude))
    near = [i for i in (place - 1, place) if 0 <= i < finite.size]
    best = min(near, key=lambda i: (abs(finite[i] - magnitude), i % 2))
    return math.copysign(float(finite[best]), value)


@pytest.mark.parametrize("dtype", list(DType))
def test_the_raw_type_has_the_element_size_the_problem_says(dtype):
    assert numpy_dtype(dtype).itemsize == dtype.item_bytes


def test_bfloat16_is_stored_as_sixteen_bits():
    assert numpy_dtype(DType.BFLOAT16) == np.uint16


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values_survive_both_ways(dtype):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0])
    back = as_float64(from_float64(special, dtype), dtype)
    np.testing.assert_array_equal(back, special)
    np.testing.assert_array_equal(np.signbit(back[3:]), [False, True])


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_number_is_kept_and_beyond_it_is_infinity(dtype):
    top = largest_finite(dtype)
    assert one(top, dtype) == top
    assert one(-top, dtype) == -top
    if dtype is not DType.FLOAT64:
        assert one(top * (1 + dtype.unit_roundoff), dtype) == math.inf
        assert one(-top * 2, dtype) == -math.inf


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_smallest_subnormal_is_kept_and_half_of_it_is_zero(dtype):
    step = smallest_subnormal(dtype)
    assert one(step, dtype) == step
    assert one(step / 2, dtype) == 0.0
    assert one(step + step / 2, dtype) in {step, 2 * step}


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_unit_roundoff_is_half_a_step_above_one(dtype):
    u = dtype.unit_roundoff
    assert one(1 + u, dtype) == 1.0
    assert one(1 + 2 * u, dtype) == 1 + 2 * u
    assert one(1 + 3 * u, dtype) == 1 + 4 * u  # the tie goes to the even neighbour


@given(value=ANY_FLOAT)
def test_float32_rounds_as_the_hardware_does(value):
    with np.errstate(all="ignore"):
        expected = float(np.float64(value).astype(np.float32))
    assert one(value, DType.FLOAT32) == expected


@given(value=ANY_FLOAT)
def test_bfloat16_rounds_once_to_the_nearest_even(value):
    assert one(value, DType.BFLOAT16) == nearest_bfloat16(value)


@given(bits=st.integers(0, 0x7F7F), nudge=st.sampled_from([-1, 0, 1]))
def test_bfloat16_breaks_ties_by_what_float32_cannot_hold(bits, nudge):
    """A tie in float32 with a remainder below it is no tie: two roundings would get it wrong."""
    low, high = (struct.unpack("<f", struct.pack("<I", b << 16))[0] for b in (bits, bits + 1))
    if not math.isfinite(high):
        return
    middle = (low + high) / 2
    value = middle * (1 + nudge * 2.0**-50)
    expected = {-1: bits, 1: bits + 1}.get(nudge, bits + bits % 2)
    if value == middle:  # the nudge is lost among subnormals of float64's own range
        expected = bits + bits % 2
    assert bfloat16_bits(value) == expected


@pytest.mark.parametrize("payload", [0x7FA5A5A5, 0xFFC0DEAD, 0x7F800001, 0xFFFFFFFF])
def test_poison_patterns_read_as_nan_without_a_warning(payload):
    raw = np.array([payload], dtype=np.uint32).view(np.float32)
    assert np.isnan(as_float64(raw, DType.FLOAT32)).all()
    assert np.isnan(one(float(as_float64(raw, DType.FLOAT32)[0]), DType.BFLOAT16))


def test_a_negative_nan_stays_a_nan_in_bfloat16():
    raw = np.array([0xFFFFFFFF], dtype=np.uint32).view(np.float32)
    bits = from_float64(as_float64(raw, DType.FLOAT32), DType.BFLOAT16)
    assert bits[0] & 0x7FFF > 0x7F80


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_every_sixteen_bit_pattern_returns_to_itself(dtype):
    raw = np.arange(1 << 16, dtype=np.uint16).view(numpy_dtype(dtype))
    back = from_float64(as_float64(raw, dtype), dtype)
    is_nan = np.isnan(as_float64(raw, dtype))
    np.testing.assert_array_equal(back.view(np.uint16)[~is_nan], raw.view(np.uint16)[~is_nan])
    assert np.isnan(as_float64(back, dtype))[is_nan].all()


@pytest.mark.parametrize("dtype", WHOLE)
def test_whole_numbers_are_rounded_and_clipped(dtype):
    low, high = integer_range(dtype)
    if dtype is DType.BOOL:
        values = from_float64(np.array([0.0, -0.0, 0.3, -2.0, np.inf]), dtype)
        assert values.tolist() == [False, False, True, True, True]
        return
    values = from_float64(np.array([-1e300, 1e300, 1.5, 2.5, np.nan, -np.inf, np.inf]), dtype)
    assert values.tolist() == [low, high, 2, 2, 0, low, high]


@given(value=st.integers(-(2**53), 2**53))
def test_int64_within_the_doubles_range_is_exact(value):
    raw = np.array([value], dtype=np.int64)
    assert from_float64(as_float64(raw, DType.INT64), DType.INT64)[0] == value


@given(value=st.integers(-128, 127))
def test_int8_is_exact(value):
    assert one(float(value), DType.INT8) == value


def test_a_bool_byte_of_two_is_neither_true_nor_false():
    raw = np.array([0, 1, 2, 255], dtype=np.uint8).view(np.bool_)
    assert as_float64(raw, DType.BOOL).tolist() == [0.0, 1.0, 2.0, 255.0]


def test_the_result_never_shares_memory_with_the_raw_array():
    raw = np.ones(4)
    numbers = as_float64(raw, DType.FLOAT64)
    numbers += 1
    assert raw.tolist() == [1, 1, 1, 1]


def test_inputs_are_not_modified_by_rounding():
    values = np.array([1.0, 1 / 3, np.inf])
    before = values.copy()
    for dtype in DType:
        from_float64(values, dtype)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("dtype", list(DType))
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (2, 0, 3)])
def test_shapes_are_kept(dtype, shape):
    raw = from_float64(np.ones(shape), dtype)
    assert raw.shape == shape
    assert raw.dtype == numpy_dtype(dtype)
    assert as_float64(raw, dtype).shape == shape


def test_non_contiguous_arrays_are_read_in_order():
    raw = from_float64(np.arange(12.0).reshape(3, 4), DType.BFLOAT16)
    np.testing.assert_array_equal(as_float64(raw[:, 1:3], DType.BFLOAT16)[1], [5.0, 6.0])


def test_a_wrong_raw_type_is_refused_by_name():
    with pytest.raises(ValueError, match="raw bfloat16 array has the numpy type uint16"):
        as_float64(np.ones(3, dtype=np.float32), DType.BFLOAT16)
