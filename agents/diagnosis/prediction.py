"""Whether what a digest foretold came to pass, and how often each rule was right. Pure."""

import math
from collections.abc import Iterable
from typing import Literal

from agents.diagnosis.signals import facts_signals
from agents.replies import Movement
from gpu_runner.facts import Facts
from gpu_runner.message import Message

Outcome = Literal["hit", "miss", "opposite", "unmeasured"]

_NOISE = 0.02
"""Relative; a smaller movement is none."""
_STAYS = 0.05
"""A prediction that nothing changes is right within this much."""
_ENOUGH = 0.5
"""A hit moves at least half as far as foretold, on the scale of ratios."""


class Score(Message):
    """What became of one prediction."""

    rule: str
    metric: str
    outcome: Outcome
    before: float | None = None
    after: float | None = None
    expected_factor: float
    factor: float | None = None
    """New over old."""


class Tally(Message):
    """How often a rule's predictions came true."""

    rule: str
    hits: int = 0
    misses: int = 0
    opposites: int = 0
    unmeasured: int = 0

    @property
    def scored(self) -> int:
        """Predictions that something was measured for."""
        return self.hits + self.misses + self.opposites


def outcome_of(prediction: Movement, before: float | None, after: float | None) -> Outcome:
    """Return what became of a prediction, from the metric before and after the edit.

    `hit`: it moved the way foretold, at least half as far on the scale of ratios. `opposite`: it
    moved the other way by more than noise. `miss`: anything between.
    """
    if before is None or after is None or before < 0 or after < 0 or before == after == 0:
        return "unmeasured"
    if math.isclose(prediction.factor, 1.0):
        far = abs(after - before) > _STAYS * max(before, after)
        return "miss" if far else "hit"
    sign = 1 if prediction.direction == "up" else -1
    if not before or not after:  # from nothing, or to nothing: no ratio tells how far
        return "hit" if (after > before) == (sign > 0) else "opposite"
    moved = sign * (math.log(after) - math.log(before))  # their ratio may be no float
    if moved < -math.log1p(_NOISE):
        return "opposite"
    return "hit" if moved >= _ENOUGH * abs(math.log(prediction.factor)) else "miss"


def score(
    prediction: Movement,
    before: Facts,
    after: Facts,
    *,
    rule: str = "",
    speedup: float | None = None,
) -> Score:
    """Return the score of a prediction, from the profiles around the attempt it was about.

    Args:
        prediction: its metric is a signal, or `speedup`.
        before: the profile it was made from.
        after: that of the attempt that made the edit.
        rule: under whose name it is kept.
        speedup: how much faster the attempt was than the one that was profiled, where a bench
            measured it; by the profiles' own times otherwise.
    """
    signals = facts_signals(before), facts_signals(after)
    if prediction.metric == "speedup":
        faster = _faster(*(one.get("time_us") for one in signals)) if speedup is None else speedup
        old, new = (None, None) if faster is None else (1.0, faster)
    else:
        old, new = (one.get(prediction.metric) for one in signals)
    return Score(
        rule=rule,
        metric=prediction.metric,
        outcome=outcome_of(prediction, old, new),
        before=old,
        after=new,
        expected_factor=prediction.factor,
        factor=new / old if old and new is not None else None,
    )


def _faster(before_us: float | None, after_us: float | None) -> float | None:
    return before_us / after_us if before_us and after_us else None


def tally(scores: Iterable[Score]) -> tuple[Tally, ...]:
    """Return how often each rule was right, by name."""
    counts: dict[str, dict[str, int]] = {}
    for one in scores:
        row = counts.setdefault(one.rule, dict.fromkeys(_FIELDS.values(), 0))
        row[_FIELDS[one.outcome]] += 1
    return tuple(Tally(rule=rule, **counts[rule]) for rule in sorted(counts))


_FIELDS: dict[Outcome, str] = {
    "hit": "hits",
    "miss": "misses",
    "opposite": "opposites",
    "unmeasured": "unmeasured",
}
