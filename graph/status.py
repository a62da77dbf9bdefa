"""What `status` says of a run, read from its directory; never touches the run."""

from pathlib import Path

from gpu_runner.message import Message
from graph.errors import RunError
from graph.lock import holder
from graph.progress import Progress
from graph.run_files import RunFiles
from graph.runs import all_runs
from graph.saying import waiting


class RunStatus(Message):
    """One run as its files tell it."""

    run_id: str
    path: str
    target: str = ""
    state: str
    """`running`, `interrupted` (can be resumed), an exit reason, or `unreadable`."""
    pid: int | None = None
    stage: str = ""
    round: int = 0
    rounds: int = 0
    attempts: int = 0
    promoted: int = 0
    rejected: int = 0
    best: str = ""
    predictions: str = ""
    """How often the digests' predictions came true, by rule."""
    controls: str = ""
    """What users said to it, and what of that was not picked up yet."""
    left: str = ""
    elapsed_s: float = 0.0
    exit_reason: str | None = None
    message: str = ""
    report: str = ""
    repository: str = ""


def status_of(files: RunFiles) -> RunStatus:
    """Return the status of a run; one that cannot be read is said to be so."""
    try:
        manifest = files.read_manifest()
        progress = Progress()
        for event in files.events.read():
            progress.add(event)
        said = waiting(files)
        result = files.result()
    except RunError as error:
        return RunStatus(
            run_id=files.root.name, path=str(files.root), state="unreadable", message=str(error)
        )
    pid = holder(files.root)
    ended = result.exit_reason.value if result and pid is None else None
    return RunStatus(
        run_id=manifest.run_id,
        path=str(files.root),
        target=manifest.target.name,
        state="running" if pid else ended or "interrupted",
        pid=pid,
        stage=progress.stage,
        round=progress.round,
        rounds=manifest.target.budget.rounds,
        attempts=progress.attempts,
        promoted=progress.promoted,
        rejected=progress.rejected,
        best=progress.best_words(),
        predictions=progress.prediction_words(),
        controls=progress.control_words(said),
        left=progress.left_words(),
        elapsed_s=progress.elapsed_s,
        exit_reason=ended,
        message=result.message if result and ended else "",
        report=result.report if result and ended else "",
        repository=result.repository if result and ended else "",
    )


def all_status(directory: Path) -> tuple[RunStatus, ...]:
    """Return the status of every run of a directory, the newest last."""
    return tuple(status_of(files) for files in all_runs(directory))
