"""When a candidate is looked into: a table of rules over what a round measured. Pure.

A profile costs as much as several candidates, so each row asks a question that only a profile
answers, and the row that applied is what the log gives as the reason.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from graph.state import Lane

SAME = 0.02
"""Within this much of the incumbent an edit had no effect on the time."""
SURPRISE = 1.5
"""So much faster than the incumbent, without a claim, asks for an explanation."""
_ASKED = re.compile(
    r"\b(?:re-?)?profile (?:it|this|that|them|the|again|first|a\d{4})\b"
    r"|\b(?:needs?|wants?|ask for|take|get) (?:a|another|a new) profile\b"
    r"|\b(?:run|use) ncu\b",
    re.IGNORECASE,
)
"""A request, not a mention: advice speaks of the profiler all the time."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the rules are asked about."""

    measured: tuple[Lane, ...]
    """Lanes of the round that have a time."""
    lanes: int
    """All lanes of the round."""
    claimed: str = ""
    has_digest: bool = False
    idle_attempts: int = 0
    """Attempts since the last promotion, before this round."""
    plateau_attempts: int = 12
    followers: frozenset[str] = frozenset()
    """Attempts that made the edit of the last digest."""
    is_scored: bool = True
    """Whether that digest's rule has a prediction that was scored."""
    review: str = ""
    """What the last review advised and found."""

    @property
    def fastest(self) -> Lane:
        """The fastest right candidate, of equally fast ones the first."""
        return max(self.measured, key=lambda lane: (lane.speedup, -lane.lane))

    @property
    def follower(self) -> Lane | None:
        """The lane that made the last digest's edit."""
        return next((lane for lane in self.measured if lane.attempt_id in self.followers), None)


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One row: when it applies, which lane it asks about, and why."""

    name: str
    lane: Callable[[Question], Lane | None]
    why: str


def _claimed(asked: Question) -> Lane | None:
    return next((lane for lane in asked.measured if lane.attempt_id == asked.claimed), None)


def _first(asked: Question) -> Lane | None:
    return None if asked.has_digest else asked.fastest


def _reviewer(asked: Question) -> Lane | None:
    return asked.fastest if _ASKED.search(asked.review) else None


def _regression(asked: Question) -> Lane | None:
    lane = asked.follower
    if lane is None or asked.is_scored:
        return None
    return lane if 0 < lane.speedup < 1 - SAME else None


def _same(asked: Question) -> Lane | None:
    lane = asked.follower
    if lane is None or asked.is_scored:
        return None
    return lane if 1 - SAME <= lane.speedup <= 1 + SAME else None


def _prediction(asked: Question) -> Lane | None:
    return None if asked.is_scored else asked.follower


def _surprise(asked: Question) -> Lane | None:
    return asked.fastest if asked.fastest.speedup >= SURPRISE else None


def _plateau(asked: Question) -> Lane | None:
    half = asked.plateau_attempts // 2
    passes = asked.idle_attempts < half <= asked.idle_attempts + asked.lanes
    return asked.fastest if passes else None


TRIGGERS: tuple[Trigger, ...] = (
    Trigger(name="claim", lane=_claimed, why="a promotion is at hand"),
    Trigger(name="first", lane=_first, why="nothing is known of this problem yet"),
    Trigger(name="reviewer", lane=_reviewer, why="the reviewer asks for a profile"),
    Trigger(
        name="regression",
        lane=_regression,
        why="the last digest's edit made it slower: find out what it broke",
    ),
    Trigger(
        name="no_change",
        lane=_same,
        why="the last digest's edit changed the time by less than 2 %: was it the bottleneck?",
    ),
    Trigger(
        name="prediction",
        lane=_prediction,
        why="the last digest's edit was made, and its rule was never put to the test",
    ),
    Trigger(name="surprise", lane=_surprise, why="half as fast again, and nobody claimed it: why?"),
    Trigger(
        name="plateau",
        lane=_plateau,
        why="{half} attempts without a promotion: find out before a pivot is forced",
    ),
)
"""In the order they are asked; the first that names a lane decides."""


def trigger(asked: Question) -> tuple[Lane | None, str]:
    """Return which lane to profile, and why; or None and why not."""
    if not asked.measured:
        return None, "no candidate of the round was measured"
    for row in TRIGGERS:
        lane = row.lane(asked)
        if lane is not None:
            return lane, row.why.format(half=asked.plateau_attempts // 2)
    return None, "no new question: nothing was claimed, and the last digest still holds"
