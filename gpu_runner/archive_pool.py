"""A pool whose workers cannot be reached: jobs leave by archive, outcomes come back by archive."""

import asyncio
from pathlib import Path

from gpu_runner.archive_exchange import Exchange
from gpu_runner.errors import ResultsAwaited
from gpu_runner.jobs import AnyJob, AnyOutcome
from gpu_runner.records import Environment

UNSEEN = Environment(
    machine="not seen yet: no results were imported",
    arch="unknown",
    cores=0,
    memory_bytes=0,
    kernel="",
    python="",
)
"""What stands for the machine until the first results say which it is."""

_QUIET_S = 0.2
"""Whoever waits for several jobs at once hands them in within one turn of the loop or a few."""


class ArchivePool:
    """Implements `JobPool` over an exchange folder.

    A job whose outcome is there is answered. Another one is put out, and once no further job has
    come for a moment, every caller that waits is told so by `ResultsAwaited`: the process can end,
    and the next one asks for the same jobs by the same ids.
    """

    def __init__(self, folder: Path) -> None:
        self._exchange = Exchange(folder)
        self._asked: set[str] = set()
        self._quiet = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, job: AnyJob) -> AnyOutcome:
        """Return the outcome of a job.

        Raises:
            ResultsAwaited: it is not there; the job is among those to export.
            ArchiveError: an outcome of this id is there, of another job.
        """
        outcome = self._exchange.take(job)
        if outcome is not None:
            return outcome
        self._exchange.put(job)
        self._asked.add(job.job_id)
        self._stop_timer()
        self._quiet.clear()
        self._timer = asyncio.get_running_loop().call_later(_QUIET_S, self._quiet.set)
        await self._quiet.wait()
        raise ResultsAwaited(len(self._asked))

    async def environment(self) -> Environment:
        """Return the machine of the last results, `UNSEEN` before any."""
        return self._exchange.environment() or UNSEEN

    async def close(self) -> None:
        """Forget what was asked; the folder keeps it."""
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
