"""The supervisor process: runs one job, writes its outcome, ends.

`python -m gpu_runner.child JOB_FILE OUTCOME_FILE --workspace DIR`. Started by a worker for every
job afresh; it holds no candidate code either, its subjects do. This is where an exception of ours
becomes an outcome, so that a bug in a task costs one job and not the pool.
"""

import argparse
import errno
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from gpu_runner.errors import ToolchainMissing
from gpu_runner.jobs import JOB, OUTCOME, AnyJob, AnyOutcome, Unserved
from gpu_runner.message import digest_of
from gpu_runner.outcomes import is_final
from gpu_runner.process_tree import adopt_orphans, die_with_parent, end_children
from gpu_runner.spool import write_outcome

DEFAULT_EXECUTOR = "gpu_runner.tasks.execute:execute"
"""`module:function`, called as `function(job, workspace=Path)`."""

EXIT_NO_SPACE = 28
"""The outcome could not be written: the disk is full."""

_TRACE_CHARACTERS = 8192
_ERROR_CHARACTERS = 1024
_FULL = {errno.ENOSPC, errno.EDQUOT}

Executor = Callable[..., AnyOutcome]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job named on the command line; 0 when its outcome is on disk."""
    arguments = _parser().parse_args(argv)
    die_with_parent(arguments.parent)
    adopt_orphans()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return _supervise(arguments)
    finally:
        end_children()


def execute_safely(job: AnyJob, executor: str, workspace: Path) -> AnyOutcome:
    """Return the executor's outcome, or what its failure means."""
    try:
        module, _, function = executor.partition(":")
        execute: Executor = getattr(importlib.import_module(module), function)
        outcome = OUTCOME.validate_python(execute(job, workspace=workspace))
    except Exception as error:  # noqa: BLE001 - a bug in a task ends as an outcome, see above
        return unserved_by(error, job.job_id)
    if outcome.job_id != job.job_id:
        message = f"executor {executor!r} answered for {outcome.job_id!r}, not {job.job_id!r}"
        return _internal_error(job.job_id, message, is_retryable=False)
    return outcome


def unserved_by(error: BaseException, job_id: str) -> Unserved:
    """Return the outcome that an exception of ours stands for."""
    if is_disk_full(error):
        return no_space(job_id, error)
    if isinstance(error, ToolchainMissing):
        return Unserved(job_id=job_id, cause="no_tool", message=str(error), is_retryable=True)
    if isinstance(error, MemoryError):
        message = "the supervisor ran out of memory; use smaller workloads or free some"
        return _internal_error(job_id, message, is_retryable=True)
    trace = "".join(traceback.format_exception(error))[-_TRACE_CHARACTERS:]
    text = f"{type(error).__name__}: {error!s:.{_ERROR_CHARACTERS}}\n{trace}"
    # Only text that JSON can carry: a path or a log may hold lone surrogates.
    message = text.encode(errors="replace").decode()
    return _internal_error(job_id, message, is_retryable=False)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk is the cause, directly or below."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def no_space(job_id: str, error: BaseException | str) -> Unserved:
    """Return the outcome of a job that met a full disk."""
    return Unserved(
        job_id=job_id,
        cause="no_space",
        message=f"no space left on the disk: {error}; free some, then resume",
        is_retryable=True,
    )


def _internal_error(job_id: str, message: str, *, is_retryable: bool) -> Unserved:
    return Unserved(
        job_id=job_id, cause="internal_error", message=message, is_retryable=is_retryable
    )


def _supervise(arguments: argparse.Namespace) -> int:
    job = JOB.validate_json(arguments.job_file.read_bytes())
    token, workspace = arguments.token, arguments.workspace
    try:
        _log(workspace, job.job_id, token, "started")
        outcome = execute_safely(job, arguments.executor, workspace)
        write_outcome(
            arguments.outcome_file,
            outcome,
            spec_digest=digest_of(job),
            token=token,
            is_flushed=not arguments.unflushed,
        )
        # After the file: an id is logged as finished only when it cannot run again.
        _log(workspace, job.job_id, token, "finished" if is_final(outcome) else "unserved")
    except OSError as error:
        if not is_disk_full(error):
            raise
        print(f"cannot write the outcome: {error}", file=sys.stderr)  # noqa: T201 - the job's log
        return EXIT_NO_SPACE
    return 0


def _log(workspace: Path, job_id: str, token: int, event: str) -> None:
    """Append one line; a single write to an O_APPEND file is not mixed with another's."""
    entry = {"job_id": job_id, "token": token, "pid": os.getpid(), "event": event}
    line = json.dumps(entry).encode() + b"\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(workspace / "executions.jsonl", flags, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _stop(number: int, _frame: object) -> None:
    """Unwind, so that what the task has open is closed, then `main` kills what is left."""
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gpu_runner.child",
        description="Run one job in this process and write its outcome.",
    )
    parser.add_argument("job_file", type=Path, metavar="JOB_FILE")
    parser.add_argument("outcome_file", type=Path, metavar="OUTCOME_FILE")
    parser.add_argument("--workspace", type=Path, required=True, metavar="DIR")
    parser.add_argument("--executor", default=DEFAULT_EXECUTOR, help=argparse.SUPPRESS)
    parser.add_argument("--token", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--unflushed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, default=None, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
