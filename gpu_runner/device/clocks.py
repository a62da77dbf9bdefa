"""What a device's clock may do while it is measured on. Pure.

Nobody here sets a clock. It climbs and sinks with power and temperature: the oracle's own float64
products pull it down for some milliseconds, and a kernel that fills the tensor cores may never
reach the clock of one that waits for memory. The first is waited out, the second belongs to the
kernel and stays in its time.

Source: MEASUREMENT B8.
"""

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Final

MOST_DROPPED: Final = 0.2
"""Of the pairs of a series; where more must go, the series says nothing."""
_SPREAD: Final = 0.03
_SETTLED: Final = 0.98
_REMEMBERED: Final = 64


def steady_pairs(ours_mhz: Sequence[float], theirs_mhz: Sequence[float]) -> tuple[int, ...]:
    """Return the pairs in which both sides ran at their own usual clock.

    Each side is held against its own median: pairs whose members met different clocks go, and a
    clock that follows from what a kernel draws, pair after pair, does not count as unsteady.

    Args:
        ours_mhz: shape [pairs]; 0 where the clock is not known, which keeps the pair.
        theirs_mhz: the same of the other side.
    """
    usual = [_usual(side) for side in (ours_mhz, theirs_mhz)]
    return tuple(
        index
        for index, pair in enumerate(zip(ours_mhz, theirs_mhz, strict=True))
        if all(_is_near(mhz, own) for mhz, own in zip(pair, usual, strict=True))
    )


def _usual(side_mhz: Sequence[float]) -> float:
    return median([mhz for mhz in side_mhz if mhz > 0] or [0.0])


def _is_near(mhz: float, usual: float) -> bool:
    return mhz <= 0 or abs(mhz - usual) <= _SPREAD * usual


class Settling:
    """Says when a clock that something else has pulled down is back."""

    def __init__(self) -> None:
        """Begin without any reading."""
        self._seen: deque[float] = deque(maxlen=_REMEMBERED)

    def is_back(self, mhz: float) -> bool:
        """Take a reading on a device that does light work; say whether it is the usual one.

        The best of the last readings is what is waited for, so that a machine that has warmed up
        is not held to what it reached when cold.
        """
        if mhz <= 0:
            return True
        self._seen.append(mhz)
        return mhz >= _SETTLED * max(self._seen)
