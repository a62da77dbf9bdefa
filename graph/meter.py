"""What a run has used up, read from its event log, so that a kill loses none of it."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable

from graph.budget import Dearest, Pace, Spent
from graph.events import AnyEvent, BudgetRead, JobFinished, Replied, StageEnded

_RECENT = 4
"""Benches that the pace is read from: a machine's load changes."""
COUNTED = frozenset({"check", "bench", "profile"})
"""Jobs whose seconds the budget's `gpu_s` limits."""
JOB = "job"
"""Stands for them where the dearest is asked for."""


class Meter:
    """Running totals over events; the wall clock goes on from where the last process left it."""

    def __init__(
        self, past: Iterable[AnyEvent], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Fold the events of earlier processes."""
        self._clock = clock
        self._started = clock()
        self._before_s = 0.0
        self._job_s = 0.0
        self._tokens = 0
        self._usd = 0.0
        self._sides: deque[float] = deque(maxlen=_RECENT)
        self._rounds: dict[int, float] = {}
        self._prices: list[tuple[float, float]] = []
        self._priced = (0.0, 0.0)
        self._dearest: dict[str, Dearest] = {}
        for event in past:
            self.add(event)
            self._before_s = max(self._before_s, event.elapsed_s)

    def elapsed_s(self) -> float:
        """Return the wall clock of the run so far, all processes together."""
        return self._before_s + self._clock() - self._started

    def add(self, event: AnyEvent) -> None:
        """Count an event."""
        if isinstance(event, JobFinished):
            if event.job in COUNTED:
                self._job_s += event.seconds
                self._note(JOB, Dearest(job_s=event.seconds))
            if event.sittings and event.sides:
                self._sides.append(event.seconds / (event.sittings * event.sides))
        elif isinstance(event, Replied):
            self._tokens += event.tokens
            self._usd += event.usd
            self._note(event.role, Dearest(tokens=event.tokens, usd=event.usd))
        elif isinstance(event, BudgetRead):
            before, self._priced = self._priced, (self._usd, self._job_s)
            self._prices.append((self._usd - before[0], self._job_s - before[1]))
        elif isinstance(event, StageEnded) and event.round:
            self._rounds[event.round] = self._rounds.get(event.round, 0.0) + event.seconds

    def spent(self, rounds: int) -> Spent:
        """Return the totals."""
        return Spent(
            rounds=rounds,
            wall_s=self.elapsed_s(),
            job_s=self._job_s,
            tokens=self._tokens,
            usd=self._usd,
        )

    def dearest(self, name: str) -> Dearest:
        """Return the most that one answer of a role, or one job (`JOB`), has cost so far."""
        return self._dearest.get(name, Dearest())

    def price(self) -> tuple[float, float]:
        """Return what a round costs, the median of those that ended: USD, job seconds."""
        usd = [usd for usd, _ in self._prices] or [0.0]
        job_s = [job_s for _, job_s in self._prices] or [0.0]
        return statistics.median(usd), statistics.median(job_s)

    def _note(self, name: str, cost: Dearest) -> None:
        before = self._dearest.get(name, Dearest())
        self._dearest[name] = Dearest(
            tokens=max(before.tokens, cost.tokens),
            usd=max(before.usd, cost.usd),
            job_s=max(before.job_s, cost.job_s),
        )

    def pace(self, ended_rounds: int) -> Pace:
        """Return how long rounds and benches took."""
        rounds = [s for number, s in self._rounds.items() if number <= ended_rounds]
        return Pace(
            round_s=statistics.median(rounds) if rounds else 0.0,
            side_s=statistics.median_high(self._sides) if self._sides else 0.0,
        )
