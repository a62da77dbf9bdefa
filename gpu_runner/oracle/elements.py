"""Elements as stored and as numbers: every DType to float64 and back, NaN and infinity kept.

numpy has no bfloat16, so a raw bfloat16 array is uint16 bits. Pure.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu_runner.problem import DType

Raw = NDArray[Any]
"""An array of the type that `numpy_dtype` names: elements as they lie in memory."""
Numbers = NDArray[np.float64]

_NUMPY: Final[dict[DType, np.dtype[Any]]] = {
    DType.FLOAT64: np.dtype(np.float64),
    DType.FLOAT32: np.dtype(np.float32),
    DType.FLOAT16: np.dtype(np.float16),
    DType.BFLOAT16: np.dtype(np.uint16),
    DType.INT64: np.dtype(np.int64),
    DType.INT32: np.dtype(np.int32),
    DType.INT8: np.dtype(np.int8),
    DType.UINT8: np.dtype(np.uint8),
    DType.BOOL: np.dtype(np.bool_),
}
_LARGEST: Final = {
    DType.FLOAT64: float(np.finfo(np.float64).max),
    DType.FLOAT32: float(np.finfo(np.float32).max),
    DType.FLOAT16: float(np.finfo(np.float16).max),
    DType.BFLOAT16: (2.0 - 2.0**-7) * 2.0**127,
}
_SMALLEST: Final = {
    DType.FLOAT64: 2.0**-1074,
    DType.FLOAT32: 2.0**-149,
    DType.FLOAT16: 2.0**-24,
    DType.BFLOAT16: 2.0**-133,
}
_SIGN = np.uint32(0x80000000)
_QUIET = np.uint32(0x00400000)


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """Return the numpy type of a raw array; bfloat16 is uint16."""
    return _NUMPY[dtype]


def largest_finite(dtype: DType) -> float:
    """Return the largest finite value of a float type."""
    return _LARGEST[dtype]


def smallest_subnormal(dtype: DType) -> float:
    """Return the distance between neighbours around zero of a float type."""
    return _SMALLEST[dtype]


def integer_range(dtype: DType) -> tuple[int, int]:
    """Return the least and the greatest value of an integer type or of bool."""
    if dtype is DType.BOOL:
        return 0, 1
    limits = np.iinfo(_NUMPY[dtype])
    return int(limits.min), int(limits.max)


def as_float64(raw: Raw, dtype: DType) -> Numbers:
    """Return the numbers that raw elements stand for, always as a new array.

    int64 beyond 2**53 is rounded; a bool byte other than 0 and 1 keeps its value, and so differs
    from both.

    Raises:
        ValueError: the array is not of the type's raw kind.
    """
    expect_raw(raw, dtype)
    if dtype is DType.BFLOAT16:
        bits = raw.astype(np.uint32)
        bits <<= 16
        raw = bits.view(np.float32)
    elif dtype is DType.BOOL:
        raw = raw.view(np.uint8)
    with np.errstate(invalid="ignore"):  # a signalling NaN, the poison of outputs, is no error here
        return raw.astype(np.float64)


def from_float64(values: Numbers, dtype: DType) -> Raw:
    """Round numbers to a type, once, to nearest even; as hardware does it.

    Integers are clipped to their range and a NaN becomes 0; bool is `value != 0`.
    """
    values = np.asarray(values, dtype=np.float64)
    if dtype is DType.BFLOAT16:
        return _to_bfloat16(values)
    if dtype is DType.BOOL:
        return np.asarray(values != 0)
    if not dtype.is_float:
        return _to_integer(values, dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return values.astype(_NUMPY[dtype])


def expect_raw(raw: Raw, dtype: DType) -> None:
    """Refuse an array that is not of the type's raw kind.

    Raises:
        ValueError: names both types.
    """
    if raw.dtype != _NUMPY[dtype]:
        msg = f"a raw {dtype.value} array has the numpy type {_NUMPY[dtype]}, not {raw.dtype}"
        raise ValueError(msg)


def _to_bfloat16(values: Numbers) -> Raw:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        single = np.atleast_1d(values).astype(np.float32)
        back = single.astype(np.float64)
    bits = single.view(np.uint32)
    is_nan = np.isnan(back)
    # Two roundings would differ from one at ties, so the first one rounds to odd: towards zero,
    # then the last bit is set where anything was lost. That bit breaks the tie the right way.
    is_inexact = (back != np.atleast_1d(values)) & ~is_nan
    is_beyond = is_inexact & (np.abs(back) > np.abs(np.atleast_1d(values)))
    bits -= is_beyond.astype(np.uint32)
    bits |= is_inexact.astype(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    quiet = ((bits & _SIGN) | np.uint32(0x7F800000) | _QUIET) >> 16
    return np.where(is_nan, quiet, rounded).astype(np.uint16).reshape(values.shape)


def _to_integer(values: Numbers, dtype: DType) -> Raw:
    low, high = integer_range(dtype)
    whole = np.rint(np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf))
    # The greatest int64 is no float64: the next number below it is clipped to instead.
    top = float(high) if float(high) <= high else float(np.nextafter(float(high), 0.0))
    clipped = np.clip(whole, float(low), top)
    exact: Raw = clipped.astype(_NUMPY[dtype])
    return np.where(whole > top, np.array(high, dtype=_NUMPY[dtype]), exact)
