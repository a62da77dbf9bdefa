"""The jobs that one worker runs at a time: one that owns it, or as many builds as it has slots.

What measures or runs a kernel has the worker for itself, whatever the broker says. Everything a job
leaves behind is killed when it ends; jobs that go on beside it are not touched.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress

from gpu_runner.execution import Execution, ExecutionPlan, not_kept
from gpu_runner.jobs import AnyJob, AnyOutcome
from gpu_runner.process_tree import end_children
from gpu_runner.spool import Spool
from gpu_runner.spool_log import SpoolLog
from gpu_runner.supervisors import Supervisors
from gpu_runner.terms import terms_of

logger = logging.getLogger(__name__)


class Executions:
    """Running children by their jobs."""

    def __init__(
        self,
        plan: ExecutionPlan,
        spool: Spool,
        log: SpoolLog,
        supervisors: Supervisors,
        spared: frozenset[int],
        lock: int,
    ) -> None:
        """Run nothing yet.

        Args:
            plan: how jobs are run.
            spool: where outcomes go.
            log: makes them durable.
            supervisors: where children come from.
            spared: processes that belong to no job and outlive them.
            lock: the spool's lock; every child inherits it.
        """
        self._plan = plan
        self._spool = spool
        self._log = log
        self._supervisors = supervisors
        self._spared = spared
        self._lock = lock
        self._running: dict[str, Execution] = {}

    def __iter__(self) -> Iterator[Execution]:
        """Iterate over those that run now."""
        return iter(tuple(self._running.values()))

    def __len__(self) -> int:
        """Return how many run."""
        return len(self._running)

    def find(self, job_id: str) -> Execution | None:
        """Return the execution of a job that runs."""
        return self._running.get(job_id)

    def has_room(self, job: AnyJob) -> bool:
        """Whether a job may begin beside those that run."""
        if not self._running:
            return True
        jobs = (job, *(execution.job for execution in self))
        return len(jobs) <= self._plan.slots and all(terms_of(j).demand.is_shared for j in jobs)

    def begin(self, job: AnyJob, token: int) -> Execution:
        """Launch a child.

        Raises:
            OSError: the disk is full, or no process can be started.
        """
        execution = Execution(job, token, self._plan, self._spool, (self._lock,), self._supervisors)
        self._running[job.job_id] = execution
        return execution

    @property
    def deadline_s(self) -> float:
        """When the first of them must have ended."""
        return min((execution.deadline_s for execution in self), default=float("inf"))

    def finish(self, ended: list[Execution]) -> list[tuple[Execution, AnyOutcome]]:
        """Return what executions that have ended came to, once that is on the disk."""
        outcomes = [(execution, execution.outcome()) for execution in ended]
        self._forget(ended)
        kept = self.kept([outcome for _, outcome in outcomes])
        return list(zip(ended, kept, strict=True))

    def kept(self, outcomes: list[AnyOutcome]) -> list[AnyOutcome]:
        """Return outcomes of the spool once they are on the disk, or that they cannot be kept.

        A child's file is complete when it is there, and on the disk only after this.
        """
        try:
            self._log.keep(outcome.job_id for outcome in outcomes)
        except OSError as error:
            logger.error("outcomes cannot be kept: %s", error)  # noqa: TRY400 - a full disk is no bug
            return [not_kept(outcome.job_id, error) for outcome in outcomes]
        return outcomes

    def end_overdue(self, now_s: float) -> list[Execution]:
        """Kill those beyond their deadlines and return them; they are to be finished."""
        overdue = [execution for execution in self if now_s >= execution.deadline_s]
        for execution in overdue:
            execution.terminate()
        for execution in overdue:
            execution.end(is_overdue=True)
        return overdue

    def drop(self, dropped: list[Execution]) -> None:
        """Kill children and everything below them; say nothing."""
        for execution in dropped:
            execution.terminate()
        for execution in dropped:
            execution.end()
        self._forget(dropped)

    def close(self) -> None:
        """Kill whatever runs."""
        self.drop(list(self))
        with suppress(OSError):
            self._log.close()

    def _forget(self, ended: list[Execution]) -> None:
        for execution in ended:
            self._running.pop(execution.job.job_id, None)
        going_on = frozenset(execution.pid for execution in self)
        survivors = end_children(spared=self._spared | going_on) if ended else ()
        if survivors:
            logger.error("processes cannot be killed pids=%s", survivors)
        for execution in ended:
            execution.close()
