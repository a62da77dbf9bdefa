"""One execution of one job: its child process, its deadline, and what its end means.

Used by the worker's loop and by `kernelpilot-runner run-job`. The child is never waited for
without a limit.
"""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.child import DEFAULT_EXECUTOR, EXIT_NO_SPACE, is_disk_full, no_space
from gpu_runner.jobs import AnyJob, AnyOutcome, Unserved
from gpu_runner.message import digest_of
from gpu_runner.outcomes import is_final
from gpu_runner.spool import Spool
from gpu_runner.supervisors import Supervisors

TERMINATE_S = 0.5
"""What a child gets to close its subjects after SIGTERM; SIGKILL follows."""
_REAP_S = 5.0
_TAIL_BYTES = 8192


@dataclass(frozen=True, kw_only=True)
class ExecutionPlan:
    """How every job of a worker is run."""

    workspace: Path
    """Absolute."""
    executor: str = DEFAULT_EXECUTOR
    """`module:function` that the child calls."""
    grace_s: float = 10.0
    """The job's own limits come first; the child is killed this long after `timeout_s`."""
    is_flushed: bool = True
    """Whether each child waits for the disk; a worker that keeps a log of its spool does that."""
    slots: int = 1
    """Builds that may run at the same time; anything else runs alone."""
    tags: tuple[str, ...] = ()
    """What this machine offers beside what its environment says, for jobs that need it."""


class Execution:
    """A running child; `close` it when it has ended."""

    def __init__(
        self,
        job: AnyJob,
        token: int,
        plan: ExecutionPlan,
        spool: Spool,
        inherited: tuple[int, ...] = (),
        supervisors: Supervisors | None = None,
    ) -> None:
        """Launch the child.

        Args:
            job: what to run.
            token: the lease's token, for the log of executions.
            plan: how to run it.
            spool: where the outcome goes.
            inherited: descriptors the child keeps open: the worker's lock, so that no other
                worker of this name runs before the child has ended.
            supervisors: where the child comes from; by default an interpreter of its own.

        Raises:
            OSError: the disk is full, or no process can be started.
        """
        self.job = job
        self.token = token
        """The current lease's; a broker may lease a running job again under a newer one."""
        self._launch_token = token
        self.spec_digest = digest_of(job)
        self._plan = plan
        self._spool = spool
        self._job_path = plan.workspace / "jobs" / f"{job.job_id}.json"
        self._log_path = plan.workspace / "logs" / f"{job.job_id}.log"
        for path in (self._job_path, self._log_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._job_path.write_text(job.model_dump_json())
        with self._log_path.open("wb") as log:
            self._child = (supervisors or Supervisors()).start(self._argv(), log, inherited)
        self.pidfd = self._child.pidfd
        self.deadline_s = time.monotonic() + job.timeout_s + plan.grace_s
        self._is_overdue = False
        self._terminated_s: float | None = None

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._child.pid

    def terminate(self) -> None:
        """Ask the child to end; `end` does not ask again, and waits so much shorter."""
        if self._terminated_s is None:
            self._terminated_s = time.monotonic()
            self._child.send_signal(signal.SIGTERM)

    def end(self, *, is_overdue: bool = False) -> None:
        """End the child: SIGTERM, a moment for its subjects, SIGKILL to its whole group."""
        self._is_overdue = is_overdue
        self.terminate()
        assert self._terminated_s is not None
        left_s = self._terminated_s + TERMINATE_S - time.monotonic()
        if self._child.wait(max(0.0, left_s)) is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.send_signal(signal.SIGKILL)  # a fork that does not lead its group yet
            self._child.wait(_REAP_S)

    def wait(self) -> AnyOutcome:
        """Wait for the child's end, at most until its deadline; return the outcome."""
        if self._child.wait(max(0.0, self.deadline_s - time.monotonic())) is None:
            self.end(is_overdue=True)
        return self.outcome()

    def outcome(self) -> AnyOutcome:
        """Return what an ended execution came to."""
        code = self._child.wait(_REAP_S)
        written = self._spool.read(self.job.job_id)
        # What ends nothing may be an earlier execution's; it is this one's if its token is.
        if written is not None and (
            is_final(written.outcome) or written.token == self._launch_token
        ):
            return written.outcome
        return self._explained(code)

    def close(self) -> None:
        """Release what the execution holds; the log stays."""
        self._child.close()
        self._job_path.unlink(missing_ok=True)

    def _argv(self) -> list[str]:
        return [
            *(str(self._job_path), str(self._spool.path(self.job.job_id))),
            *("--workspace", str(self._plan.workspace)),
            *("--executor", self._plan.executor),
            *("--token", str(self._launch_token)),
            *(() if self._plan.is_flushed else ("--unflushed",)),
        ]

    def _explained(self, code: int | None) -> Unserved:
        """Say why there is no outcome."""
        job_id = self.job.job_id
        if self._is_overdue:
            limit_s = self.job.timeout_s + self._plan.grace_s
            return Unserved(
                job_id=job_id,
                cause="timed_out",
                message=f"job {job_id!r} was killed after {limit_s:g} s; its log: {self._tail()}",
                is_retryable=False,
            )
        if code == EXIT_NO_SPACE:
            return no_space(job_id, self._tail())
        how = "nothing that could be seen"
        if code is not None:
            how = f"exit code {code}" if code >= 0 else f"signal {signal.strsignal(-code)}"
        message = f"the supervisor of job {job_id!r} ended by {how}; its log: {self._tail()}"
        # A signal comes from outside, as from the kernel's out-of-memory killer.
        return Unserved(
            job_id=job_id,
            cause="internal_error",
            message=message,
            is_retryable=code is None or code < 0,
        )

    def _tail(self) -> str:
        with self._log_path.open("rb") as log:
            log.seek(max(0, self._log_path.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace").strip() or "(empty)"


def not_kept(job_id: str, error: OSError) -> Unserved:
    """Return the outcome of a job whose own outcome could not be made durable."""
    if is_disk_full(error):
        return no_space(job_id, error)
    message = f"the outcome of job {job_id!r} cannot be kept: {error}"
    return Unserved(job_id=job_id, cause="internal_error", message=message, is_retryable=True)


def not_launched(job: AnyJob, error: OSError) -> Unserved:
    """Return the outcome of a job whose child could not be started."""
    if is_disk_full(error):
        return no_space(job.job_id, error)
    message = f"no supervisor could be started: {error}"
    return Unserved(job_id=job.job_id, cause="internal_error", message=message, is_retryable=True)
