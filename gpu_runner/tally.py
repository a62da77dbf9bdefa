"""What became of the last jobs, by kind: how long they waited and ran, and how they ended. Pure."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from gpu_runner.jobs import AnyOutcome
from gpu_runner.operations import Quantiles, Served

WINDOW = 1000
"""Jobs of a kind that are remembered."""


class _End(NamedTuple):
    wait_s: float | None
    run_s: float | None
    outcome: str
    cause: str


class Tally:
    """Counts the ends of jobs."""

    def __init__(self) -> None:
        self._ends: dict[str, deque[_End]] = {}

    def add(
        self, kind: str, outcome: AnyOutcome, *, wait_s: float | None, run_s: float | None
    ) -> None:
        """Count one job.

        Args:
            kind: of the job; empty where nobody knows it.
            outcome: how it ended.
            wait_s: in the queue before its last lease; None where it was never leased here.
            run_s: from its last lease to its end; None as above.
        """
        cause = outcome.cause if outcome.kind == "unserved" else ""
        ends = self._ends.setdefault(kind or "unknown", deque(maxlen=WINDOW))
        ends.append(_End(wait_s, run_s, outcome.kind, cause))

    def served(self) -> tuple[Served, ...]:
        """Return a summary of each kind."""
        return tuple(_summary(kind, tuple(ends)) for kind, ends in sorted(self._ends.items()))


def _summary(kind: str, ends: Sequence[_End]) -> Served:
    outcomes = Counter(end.outcome for end in ends)
    return Served(
        job=kind,
        count=len(ends),
        wait=quantiles([end.wait_s for end in ends if end.wait_s is not None]),
        run=quantiles([end.run_s for end in ends if end.run_s is not None]),
        rejected_fraction=outcomes["rejected"] / len(ends),
        unserved_fraction=outcomes["unserved"] / len(ends),
        causes=dict(Counter(end.cause for end in ends if end.cause)),
    )


def quantiles(values: Sequence[float]) -> Quantiles | None:
    """Return the smallest values that so many of all do not exceed; None of nothing."""
    if not values:
        return None
    ranked = sorted(values)

    def at(percent: int) -> float:
        return ranked[max(0, -(-percent * len(ranked) // 100) - 1)]

    return Quantiles(p50_s=at(50), p90_s=at(90), p99_s=at(99))
