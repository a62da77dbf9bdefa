"""Where jobs are handed in: each is run once for its id, tried again where our side failed.

The outcome of every job is a file of the run before anything is concluded from it, so a node that
runs again after a kill reads it instead of measuring a second time.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable

from gpu_runner.client import JobPool
from gpu_runner.jobs import AnyJob, AnyOutcome, Bench, Benched, Rejected, Unfit, Unserved
from graph.errors import OutOfTime, RunStopped
from graph.events import JobFinished, JobSubmitted
from graph.run_files import RunFiles
from graph.waiting import until_stopped

logger = logging.getLogger(__name__)

TimeLeft = Callable[[float], float | None]
"""Cuts a timeout to what the budget leaves now; None: too little. Infinity asks for all of it."""


class Desk:
    """Runs jobs through the pool, with the run directory as memory."""

    def __init__(self, pool: JobPool, files: RunFiles, *, tries: int, stop: asyncio.Event) -> None:
        """Take `tries` attempts at a job that comes back unserved; give up when `stop` is set."""
        self._pool = pool
        self._files = files
        self._tries = tries
        self._stop = stop

    async def run(self, job: AnyJob, *, time_left: TimeLeft, attempt_id: str = "") -> AnyOutcome:
        """Return the outcome of a job, from the run directory where it ended before.

        Args:
            job: its id is completed by the number of the try, its timeout cut to the budget.
            time_left: asked before each try.
            attempt_id: for whom, in the event log.

        Raises:
            RunStopped: the run is being cancelled.
        """
        outcome: AnyOutcome | None = None
        for number in range(self._tries):
            name = f"{job.job_id}-t{number}"
            outcome = self._files.outcome(name)
            if outcome is None:
                allowed = time_left(job.timeout_s)
                if allowed is None:
                    return _no_time(name)
                tried = job.model_copy(update={"job_id": name, "timeout_s": allowed})
                deadline_s = time_left(math.inf)
                started = time.monotonic()
                try:
                    outcome = await self._hand_in(tried, attempt_id, deadline_s)
                except OutOfTime:
                    late = _no_time(name)
                    self._finished(name, job.kind, attempt_id, late, time.monotonic() - started)
                    return late
            else:
                self._finished(name, job.kind, attempt_id, outcome, 0.0)
            if not (isinstance(outcome, Unserved) and outcome.is_retryable):
                return outcome
            logger.warning("job unserved job=%s cause=%s", outcome.job_id, outcome.cause)
        assert outcome is not None, "settings allow at least one try"
        return outcome

    async def _hand_in(self, job: AnyJob, attempt_id: str, deadline_s: float | None) -> AnyOutcome:
        """Await a job; also what it waits for a worker counts against the wall clock."""
        job = self._as_submitted(job, attempt_id)
        started = time.monotonic()
        outcome = await until_stopped(
            self._pool.run(job), self._stop, None if deadline_s == math.inf else deadline_s
        )
        if self._stop.is_set() and isinstance(outcome, Unserved):
            # A pool that is closing says so of every job; the next process asks for it again.
            raise RunStopped("cancelled while a job ran")
        self._files.save_outcome(outcome)
        self._finished(job.job_id, job.kind, attempt_id, outcome, time.monotonic() - started)
        return outcome

    def _as_submitted(self, job: AnyJob, attempt_id: str) -> AnyJob:
        """Log the job; one that an earlier process handed in keeps that one's timeout and plan."""
        key = f"job_submitted:{job.job_id}"
        plan = job.plan if isinstance(job, Bench) else None
        submitted = JobSubmitted(
            key=key,
            job_id=job.job_id,
            job=job.kind,
            attempt_id=attempt_id,
            timeout_s=job.timeout_s,
            plan=plan,
        )
        if self._files.events.append(submitted):
            return job
        earlier = self._files.events.find(key)
        if not isinstance(earlier, JobSubmitted):
            return job
        same = job.model_copy(update={"timeout_s": earlier.timeout_s})
        return same.model_copy(update={"plan": earlier.plan}) if earlier.plan else same

    def _finished(
        self, name: str, kind: str, attempt_id: str, outcome: AnyOutcome, seconds: float
    ) -> None:
        record = outcome.record if isinstance(outcome, Benched) else None
        self._files.events.append(
            JobFinished(
                key=f"job_finished:{name}",
                job_id=name,
                job=kind,
                attempt_id=attempt_id,
                outcome=outcome.kind,
                seconds=round(_own_seconds(outcome) or seconds, 3),
                sittings=len(record.sittings) if record else 0,
                sides=1 + len(record.against) if record else 0,
                message=_message(outcome),
            )
        )


def _no_time(name: str) -> Unserved:
    return Unserved(
        job_id=name,
        cause="timed_out",
        message="the budget leaves no time for this job",
        is_retryable=False,
    )


def _own_seconds(outcome: AnyOutcome) -> float:
    return float(getattr(outcome, "seconds", 0.0))


def _message(outcome: AnyOutcome) -> str:
    if isinstance(outcome, Rejected | Unfit | Unserved):
        return outcome.message
    if isinstance(outcome, Benched):
        return outcome.record.record_id
    return ""
