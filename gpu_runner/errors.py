"""Exceptions of this package: bugs and bad callers. What the world does is an outcome.

RunnerError
├── DefinitionError      a problem definition or workload file cannot be read
├── ToolchainMissing     a compiler or tool this call needs is not installed
├── SubjectFailed        a measured process broke the protocol (carries a Reason); host/ only
├── ReferenceFailed      the target's reference raised or answered nonsense
├── PlanError            a launch plan is wrong, or serves no such shape; the candidate's fault
├── ArchiveError         an archive of jobs or results cannot be read, written or taken in
├── ResultsAwaited       jobs wait to be carried to another machine
└── PoolError            the job bus cannot serve a caller
"""

from gpu_runner.jobs import Reason


class RunnerError(Exception):
    """Root of this package's exceptions."""


class DefinitionError(RunnerError):
    """A definition is malformed; the message names file, key and remedy."""


class ToolchainMissing(RunnerError):
    """A compiler or tool is not installed; the message says which and how to get it."""


class SubjectFailed(RunnerError):
    """The process that holds a candidate did something a right candidate does not do."""

    def __init__(self, reason: Reason, message: str, log_tail: str = "") -> None:
        """Keep the reason beside the message."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.log_tail = log_tail


class ReferenceFailed(RunnerError):
    """The reference raised, or answered with a wrong shape, type or value."""


class PlanError(RunnerError):
    """A launch plan is wrong for its problem or workload; names plan, launch, kernel and field."""


class PoolError(RunnerError):
    """The pool cannot be reached or refused the request."""


class ArchiveError(RunnerError):
    """An archive is damaged, does not fit or cannot be written; what was there before is kept."""


class ResultsAwaited(RunnerError):
    """Nothing goes on here before the outcomes of jobs come back from another machine."""

    def __init__(self, jobs: int) -> None:
        """Count the jobs."""
        noun = "job" if jobs == 1 else "jobs"
        super().__init__(f"waiting for results of {jobs} {noun}")
        self.jobs = jobs
