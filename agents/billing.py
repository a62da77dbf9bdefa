"""Who pays for a call: the question it was made for, however many are asked at once.

A question opens a bill; every call made while it is answered is charged to it, in whatever task
the call runs. No clock, no library.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from agents.roles import Spend


class Bill:
    """What one question cost so far."""

    def __init__(self, has_room: Callable[[], bool]) -> None:
        """Start at nothing.

        Args:
            has_room: says whether one more call may be charged.
        """
        self.total = Spend()
        self.has_room = has_room


_OPEN: ContextVar[Bill | None] = ContextVar("bill", default=None)


@contextmanager
def billed(has_room: Callable[[], bool] = lambda: True) -> Iterator[Bill]:
    """Charge every call made inside, and in tasks started inside, to the bill given.

    Args:
        has_room: asked before a question is put once more; a budget that its first call has used
            up is overshot by that one.
    """
    bill = Bill(has_room)
    before = _OPEN.set(bill)
    try:
        yield bill
    finally:
        _OPEN.reset(before)


def charge(cost: Spend) -> None:
    """Add a cost to the open bill; without one it is on the model's own account only."""
    bill = _OPEN.get()
    if bill is not None:
        bill.total += cost


def has_room() -> bool:
    """Whether the question at hand may make another call; without a bill it always may."""
    bill = _OPEN.get()
    return bill is None or bill.has_room()
