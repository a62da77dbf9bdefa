"""What a profile means whatever engine draws it: its numbers, and how an engine fills by name.

The numbers are MEASUREMENT C4's. Pure.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from gpu_runner.oracle.elements import integer_range
from gpu_runner.problem import DType, ProfileName

OFFSET: Final = 1e3
LARGE: Final = 1e4
SPARSE_FRACTION: Final = 0.01
MASKED_FRACTION: Final = 0.3
PLAIN_EXTREME: Final = 64.0
"""By how much an extreme row is larger where the problem's contract names no kind."""
MAGNITUDES: Final = (0.5, 3.0)
"""Of constants and of the one element of a one-hot row."""
SMALL_INTEGERS: Final = (-8, 8)
"""Inclusive."""
TIED_EIGHTHS: Final = (4, 12)
"""Magnitudes that alternate, in eighths; inclusive."""
LAST_MAGNITUDES: Final = (2.0, 4.0)
"""Beyond all that alternate before it."""
SUBNORMAL_BITS: Final = {
    DType.FLOAT64: 52,
    DType.FLOAT32: 23,
    DType.FLOAT16: 10,
    DType.BFLOAT16: 7,
}
EXTREME_ROWS: Final = (
    ProfileName.OFFSET,
    ProfileName.LOG_UNIFORM,
    ProfileName.LARGE,
    ProfileName.DENORMAL,
    ProfileName.ZEROS,
    ProfileName.CONSTANT,
    ProfileName.ONE_HOT,
    ProfileName.ALTERNATING,
)
"""What a row among normal ones may be, where the problem's contract has it."""
_EXTREME_EVERY: Final = 16
_WIDE_INTEGERS: Final = (-(1 << 15), (1 << 15) - 1)

RowsT = TypeVar("RowsT")
DrawT = TypeVar("DrawT")


class Profiles(Generic[RowsT, DrawT]):
    """An engine's functions that fill rows in place, by the profile each is of."""

    def __init__(self) -> None:
        self._fills: dict[ProfileName, Callable[[RowsT, DrawT], None]] = {}

    def of(
        self, profile: ProfileName
    ) -> Callable[[Callable[[RowsT, DrawT], None]], Callable[[RowsT, DrawT], None]]:
        """Enter the decorated function."""

        def enter(fill: Callable[[RowsT, DrawT], None]) -> Callable[[RowsT, DrawT], None]:
            self._fills[profile] = fill
            return fill

        return enter

    def fill(self, rows: RowsT, profile: ProfileName, draw: DrawT) -> None:
        """Fill rows of an activation with a profile."""
        self._fills[profile](rows, draw)


def exponents(dtype: DType) -> tuple[float, float]:
    """Return the exponents of two that log-uniform contents span; float16 ends at 65,504."""
    return (-20.0, 15.0) if dtype is DType.FLOAT16 else (-20.0, 20.0)


def extreme_count(rows: int) -> int:
    """Return how many of mixed rows are extreme: one in sixteen, at least one."""
    return max(1, rows // _EXTREME_EVERY)


def nearest_to_zero(bounds: tuple[int, int]) -> int:
    """Return zero, or the end of inclusive bounds that is nearest to it."""
    low, high = bounds
    return min(max(0, low), high)


def default_bounds(dtype: DType) -> tuple[int, int]:
    """Return the range of integer contents that no rule gives: all of 8 bits, 16 of the wider."""
    low, high = integer_range(dtype)
    return max(low, _WIDE_INTEGERS[0]), min(high, max(_WIDE_INTEGERS[1], 0))
