"""Who pays for a call: the question it was made for, however many are asked at once.

A question opens a bill; every call made while it is answered is charged to it, in whatever task
the call runs. No clock, no library.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from agents.roles import Spend


class Bill:
    """What one question cost so far."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.total = Spend()


_OPEN: ContextVar[Bill | None] = ContextVar("bill", default=None)


@contextmanager
def billed() -> Iterator[Bill]:
    """Charge every call made inside, and in tasks started inside, to the bill given."""
    bill = Bill()
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
