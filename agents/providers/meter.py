"""Counts what a model costs, and how much of each prompt began an earlier one. No clock.

Servers that speak chat completions cache prefixes by themselves and often say nothing of it, so the
share of a prompt that was sent before is counted here, in characters, for every provider alike.
"""

from collections import deque
from collections.abc import Sequence

from agents.billing import charge
from agents.model import Turn
from agents.roles import Spend

_KEPT = 8
"""Earlier prompts that a new one is held against: five roles, and a few lanes."""


class Meter:
    """Adds up calls, tokens and money of one model."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._total = Spend()

    def add(self, cost: Spend) -> None:
        """Count one call, on the model's account and on the bill of the question it was for.

        A failed call has no tokens that anybody reported: its cost is `Spend(calls=1)`.
        """
        self._total += cost
        charge(cost)

    @property
    def total(self) -> Spend:
        """The sum so far."""
        return self._total


class Prefixes:
    """The last prompts sent to one model."""

    def __init__(self) -> None:
        """Know none."""
        self._sent: deque[str] = deque(maxlen=_KEPT)

    def share(self, turns: Sequence[Turn]) -> float:
        """Return which fraction of a prompt, in characters, began an earlier one; remember it."""
        prompt = "\x00".join(f"{turn.role}\x00{turn.text}" for turn in turns)
        longest = max((common_prefix(prompt, before) for before in self._sent), default=0)
        self._sent.append(prompt)
        return longest / len(prompt) if prompt else 0.0


def common_prefix(one: str, other: str) -> int:
    """Return the number of leading characters that two texts share."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low
