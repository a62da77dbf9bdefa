"""What a run leaves behind for people: the standalone repository and the report."""

from pathlib import Path

from graph.ledger import ExitReason, RunManifest, RunResult, Tuning
from graph.report import render
from graph.repository import ship
from graph.run_files import RunFiles

_NOTHING = Tuning(
    points=(),
    regimes=(),
    is_trivial=True,
    reason="nothing was promoted: the baseline serves every shape",
)


def publish(files: RunFiles, manifest: RunManifest, result: RunResult) -> RunResult:
    """Write repository and report; return the result with where they are."""
    attempts = files.attempts()
    tuning = files.tuning()
    if result.best_attempt and tuning is not None:
        shipped = ship(files, manifest, attempts, tuning, result)
        result = result.model_copy(update={"repository": str(shipped)})
    path = render(files, manifest, attempts, tuning or _NOTHING, result)
    return result.model_copy(update={"report": str(path)})


def report(files: RunFiles) -> Path:
    """Render the report from what the run directory holds now."""
    manifest = files.read_manifest()
    attempts = files.attempts()
    result = files.result() or RunResult(
        run_id=manifest.run_id,
        exit_reason=ExitReason.CANCELLED,
        message="the run has not ended",
        rounds=max((attempt.round for attempt in attempts), default=0),
        attempts=len(attempts),
        wall_s=max((event.elapsed_s for event in files.events.read()), default=0.0),
        job_s=0.0,
    )
    return render(files, manifest, attempts, files.tuning() or _NOTHING, result)
