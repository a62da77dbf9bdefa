"""Runs jobs as an archive in a process of its own: what ends there are all children of a process.

`python -m tests.gpu_runner.archive_run` reads a Request and prints an Answer.
"""

import os
import subprocess
import sys
from pathlib import Path

from pydantic import Field

from gpu_runner import archive_execute
from gpu_runner.archive_content import JobArchive
from gpu_runner.archive_execute import ArchiveRun, Executed, make_folder
from gpu_runner.errors import ArchiveError
from gpu_runner.execution import ExecutionPlan
from gpu_runner.jobs import AnyJob, AnyOutcome
from gpu_runner.lock import lock_file
from gpu_runner.message import Message
from gpu_runner.process_tree import adopt_orphans
from tests.builders import make_environment
from tests.gpu_runner.executors import EXECUTOR

ROOT = Path(__file__).parents[2]


class Request(Message):
    """What to run, where, and how."""

    jobs: tuple[AnyJob, ...]
    folder: Path
    stop: int
    """A descriptor that the process inherits."""
    executor: str = EXECUTOR
    heartbeat_s: float = 15.0


class Answer(Message):
    """What was done, and the lines that were told; or the error that came."""

    outcomes: dict[str, AnyOutcome] = Field(default_factory=dict)
    kept: int = 0
    is_stopped: bool = False
    lines: tuple[str, ...] = ()
    error: str = ""


def run_archive(request: Request) -> tuple[Executed, list[str]]:
    """Run jobs in the workspace `work` of a folder, results in `results.zip` there.

    Raises:
        ArchiveError: as the other process met it.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "tests.gpu_runner.archive_run"],
        input=request.model_dump_json().encode(),
        capture_output=True,
        check=False,
        pass_fds=(request.stop,),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr.decode()
    answer = Answer.model_validate_json(ended.stdout)
    if answer.error:
        raise ArchiveError(answer.error)
    results = request.folder / "results.zip"
    done = Executed(
        results, len(request.jobs), dict(answer.outcomes), answer.kept, answer.is_stopped
    )
    return done, list(answer.lines)


def main() -> None:
    request = Request.model_validate_json(sys.stdin.buffer.read())
    archive_execute._HEARTBEAT_S = request.heartbeat_s
    adopt_orphans()
    lock = lock_file(request.folder / "lock", patience_s=1)
    work = make_folder(request.folder / "work")
    plan = ExecutionPlan(workspace=work, executor=request.executor, grace_s=0.2)
    lines: list[str] = []
    archive = JobArchive("a-run", "0", request.jobs)
    run = ArchiveRun(archive, plan, lock=lock, tell=lines.append)
    try:
        done = run.run(request.stop, make_environment(), request.folder / "results.zip")
    except ArchiveError as error:
        answer = Answer(error=str(error))
    else:
        answer = Answer(
            outcomes=done.outcomes,
            kept=done.kept,
            is_stopped=done.is_stopped,
            lines=tuple(lines),
        )
    sys.stdout.write(answer.model_dump_json())


if __name__ == "__main__":
    main()
