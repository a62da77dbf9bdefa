"""Runs the jobs of an archive, each as a worker would: without a broker, a network or a client.

The spool in the workspace is the memory: a job that has finished is there before anybody is told,
so whoever was killed goes on with the next one.
"""

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gpu_runner.archive_content import JobArchive, write_results
from gpu_runner.errors import ArchiveError
from gpu_runner.execution import Execution, ExecutionPlan, not_launched
from gpu_runner.jobs import AnyJob, AnyOutcome, Unserved
from gpu_runner.message import digest_of
from gpu_runner.process_tree import end_children
from gpu_runner.records import Environment
from gpu_runner.spool import Spool, encode_outcome
from gpu_runner.supervisors import Supervisors

_HEARTBEAT_S = 15.0

Tell = Callable[[str], None]
"""Takes a line of progress."""


@dataclass
class Executed:
    """How far the jobs of an archive are."""

    results: Path
    jobs: int
    outcomes: dict[str, AnyOutcome] = field(default_factory=dict)
    """By job id, of the jobs that ended."""
    kept: int = 0
    """Jobs that had finished before."""
    is_stopped: bool = False

    @property
    def unserved(self) -> tuple[Unserved, ...]:
        """Outcomes that end nothing: running the archive again tries these jobs again."""
        return tuple(o for o in self.outcomes.values() if isinstance(o, Unserved))


class ArchiveRun:
    """One archive in one workspace; the caller holds the spool's lock."""

    def __init__(
        self,
        archive: JobArchive,
        plan: ExecutionPlan,
        *,
        lock: int,
        tell: Tell,
        spared: frozenset[int] = frozenset(),
        supervisors: Supervisors | None = None,
    ) -> None:
        """Name what is run.

        Args:
            archive: the jobs.
            plan: how each is run.
            lock: every child inherits it, so that nobody else begins before the last one ended.
            tell: gets a line at each beginning and end, and now and then between them.
            spared: processes below this one that belong to no job and outlive them.
            supervisors: where children come from; by default each is a new interpreter.
        """
        self._archive = archive
        self._plan = plan
        self._lock = lock
        self._tell = tell
        self._supervisors = supervisors or Supervisors()
        self._spared = spared | self._supervisors.spared
        self._spool = Spool(plan.workspace)
        self._began_s = time.monotonic()
        self._contents: dict[str, bytes] = {}

    def run(self, stop: int, environment: Environment, results: Path) -> Executed:
        """Run what has not finished yet, then write the results of everything that ended.

        Args:
            stop: readable when it is time to stop; the job in hand is then abandoned.
            environment: this machine.
            results: the archive to write.

        Raises:
            ArchiveError: the workspace knows another job by one of the ids and nothing was run,
                or the results cannot be written and the outcomes are in the workspace.
        """
        jobs = self._archive.jobs
        self._refuse_other_jobs()
        done = Executed(results, len(jobs))
        for number, job in enumerate(jobs, start=1):
            name = f"{number}/{len(jobs)} {job.kind} {job.job_id}"
            before = self._spool.find(job.job_id)
            if before is not None:
                done.kept += 1
                outcome: AnyOutcome | None = before.outcome
            else:
                outcome = self._run(job, name, stop)
            if outcome is None:
                done.is_stopped = True
                self._say(f"{name}: stopped; the same command goes on with it")
                break
            self._note(job, outcome)
            done.outcomes[job.job_id] = outcome
            self._say(f"{name}: {_words(outcome)}{' (before)' if before else ''}")
            if isinstance(outcome, Unserved) and outcome.cause == "unhealthy_device":
                self._say("no further job is run: the device must not be measured on")
                break
        write_results(results, self._archive.origin, environment, self._contents)
        return done

    def _refuse_other_jobs(self) -> None:
        for job in self._archive.jobs:
            before = self._spool.find(job.job_id)
            if before is not None and before.spec_digest != digest_of(job):
                msg = (
                    f"{self._plan.workspace} has an outcome of another job {job.job_id}, "
                    "or one of another version; nothing was run: name another --workspace"
                )
                raise ArchiveError(msg)

    def _run(self, job: AnyJob, name: str, stop: int) -> AnyOutcome | None:
        """Run one job; None when it was stopped."""
        earlier = self._spool.read(job.job_id)
        token = earlier.token + 1 if earlier else 1
        self._say(f"{name}: started")
        try:
            execution = Execution(
                job, token, self._plan, self._spool, (self._lock,), self._supervisors
            )
        except OSError as error:
            return not_launched(job, error)
        try:
            if not self._wait(execution, name, stop):
                execution.end()
                found = self._spool.find(job.job_id)  # it may have won the race
                return found.outcome if found else None
            return execution.outcome()
        finally:
            survivors = end_children(spared=self._spared)
            if survivors:
                self._say(f"{name}: processes cannot be killed: {survivors}")
            execution.close()

    def _wait(self, execution: Execution, name: str, stop: int) -> bool:
        """Wait for the child's end, at most until its deadline; false when told to stop."""
        poller = select.poll()
        poller.register(execution.pidfd, select.POLLIN)
        poller.register(stop, select.POLLIN)
        began_s = time.monotonic()
        beat_s = began_s + _HEARTBEAT_S
        while True:
            now_s = time.monotonic()
            if now_s >= execution.deadline_s:
                execution.end(is_overdue=True)
                return True
            wait_s = max(0.0, min(execution.deadline_s, beat_s) - now_s)
            ready = {descriptor for descriptor, _ in poller.poll(int(wait_s * 1000) + 1)}
            if execution.pidfd in ready:
                return True
            if stop in ready:
                return False
            if time.monotonic() >= beat_s:
                self._say(f"{name}: running for {time.monotonic() - began_s:.0f} s")
                beat_s = time.monotonic() + _HEARTBEAT_S

    def _note(self, job: AnyJob, outcome: AnyOutcome) -> None:
        """Keep the outcome for the results: as the spool has it, or as we explain it."""
        content = b""
        spooled = self._spool.read(job.job_id)
        if spooled is not None and spooled.outcome == outcome:
            with suppress(OSError):
                content = self._spool.path(job.job_id).read_bytes()
        self._contents[job.job_id] = content or encode_outcome(
            outcome, spec_digest=digest_of(job), token=0
        )

    def _say(self, line: str) -> None:
        seconds = int(time.monotonic() - self._began_s)
        self._tell(f"[{seconds // 60}:{seconds % 60:02}] {line}")


def _words(outcome: AnyOutcome) -> str:
    """Return an outcome in one line."""
    match outcome.kind:
        case "rejected":
            text = f"rejected ({outcome.stage}, {outcome.reason}): {outcome.message}"
        case "unserved":
            text = f"unserved ({outcome.cause}): {outcome.message}"
        case "unfit":
            text = f"unfit target: {outcome.message}"
        case _:
            text = outcome.kind
    return text.partition("\n")[0]


def make_folder(folder: Path) -> Path:
    """Make a workspace; return it as an absolute path.

    Raises:
        ArchiveError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"workspace {folder}: {error.strerror}; name another --workspace"
        raise ArchiveError(msg) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        msg = f"workspace {folder} cannot be written; name another --workspace"
        raise ArchiveError(msg)
    return folder.resolve()
