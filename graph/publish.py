"""What a run leaves behind for people: the standalone repository and the report."""

from collections.abc import Mapping
from pathlib import Path

from gpu_runner.jobs import Built
from graph.durable import write_bytes
from graph.ledger import Attempt, RunManifest, RunResult, Tuning
from graph.lock import holder
from graph.report import render
from graph.repository import ship
from graph.retrospective import markdown, retrospective
from graph.run_files import RunFiles

RETROSPECTIVE = "retrospective.md"
_NOTHING = Tuning(
    points=(),
    regimes=(),
    is_trivial=True,
    reason="nothing was promoted: the baseline serves every shape",
)


def publish(
    files: RunFiles,
    manifest: RunManifest,
    result: RunResult,
    built: Mapping[str, Built] | None = None,
) -> RunResult:
    """Write repository and report; return the result with where they are.

    Args:
        files: of the run.
        manifest: what the run was asked.
        result: how it ended.
        built: device code of promoted attempts by id, which the repository keeps.
    """
    attempts = files.attempts()
    tuning = files.tuning()
    if result.best_attempt and tuning is not None:
        shipped = ship(files, manifest, attempts, tuning, result, built)
        result = result.model_copy(update={"repository": str(shipped)})
    look_back(files, manifest, attempts, result)
    path = render(files, manifest, attempts, tuning or _NOTHING, result)
    return result.model_copy(update={"report": str(path)})


def look_back(
    files: RunFiles,
    manifest: RunManifest,
    attempts: tuple[Attempt, ...],
    result: RunResult,
) -> None:
    """Write what the run's effort bought."""
    found = retrospective(manifest.target, attempts, files.events.read(), result)
    write_bytes(files.root / RETROSPECTIVE, markdown(found).encode())


def report(files: RunFiles) -> Path:
    """Render the report from what the run directory holds now.

    A run that somebody works on is in progress, also where an earlier process cancelled it.
    """
    result = None if holder(files.root) else files.result()
    tuning = files.tuning() or (_NOTHING if result else None)
    return render(files, files.read_manifest(), files.attempts(), tuning, result)
