"""What a run has used up, read from its event log, so that a kill loses none of it."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable

from graph.budget import Pace, Spent
from graph.events import AnyEvent, JobFinished, Replied, StageEnded

_RECENT = 4
"""Benches that the pace is read from: a machine's load changes."""
_COUNTED = {"check", "bench", "profile"}
"""Jobs whose seconds the budget's `gpu_s` limits."""


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
        for event in past:
            self.add(event)
            self._before_s = max(self._before_s, event.elapsed_s)

    def elapsed_s(self) -> float:
        """Return the wall clock of the run so far, all processes together."""
        return self._before_s + self._clock() - self._started

    def add(self, event: AnyEvent) -> None:
        """Count an event."""
        if isinstance(event, JobFinished):
            if event.job in _COUNTED:
                self._job_s += event.seconds
            if event.sittings and event.sides:
                self._sides.append(event.seconds / (event.sittings * event.sides))
        elif isinstance(event, Replied):
            self._tokens += event.tokens
            self._usd += event.usd
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

    def pace(self, ended_rounds: int) -> Pace:
        """Return how long rounds and benches took."""
        rounds = [s for number, s in self._rounds.items() if number <= ended_rounds]
        return Pace(
            round_s=statistics.median(rounds) if rounds else 0.0,
            side_s=statistics.median_high(self._sides) if self._sides else 0.0,
        )
