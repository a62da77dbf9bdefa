"""Writes `repo/` of a run directory: a scaffold, a commit for each promoted attempt, the rest."""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gpu_runner.jobs import Built
from graph.ledger import Attempt, RunManifest, RunResult, Tuning
from graph.repository.commits import Commits, head_of
from graph.repository.layout import Layout
from graph.run_files import RunFiles

logger = logging.getLogger(__name__)

NAME: Final = "repo"


def ship(
    files: RunFiles,
    manifest: RunManifest,
    attempts: tuple[Attempt, ...],
    tuning: Tuning,
    result: RunResult,
    built: Mapping[str, Built] | None = None,
) -> Path:
    """Write the repository of a run and return its path.

    The same facts give the same commits, so a repetition after a kill changes nothing. A repository
    of other content is kept beside the new one, named by its last commit.

    Args:
        files: of the run.
        manifest: target and environment.
        attempts: every row of the ledger; the promoted ones become versions.
        tuning: the regimes.
        result: how the run ended.
        built: device code of promoted attempts by id, as their builds handed it over.

    Raises:
        ShipFailed: git or something the sources need is missing; says what.
        RunDamaged: a file of the run that is cited cannot be read.
    """
    layout = Layout(files, manifest, attempts, tuning, result, built or {})
    scratch = Path(tempfile.mkdtemp(dir=files.root, prefix=f".{NAME}-"))
    try:
        head = _write(layout, Commits(scratch, manifest.created_at), manifest)
        return _put(scratch, files.root / NAME, head)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(layout: Layout, commits: Commits, manifest: RunManifest) -> str:
    name = manifest.target.problem.name
    commits.write(layout.scaffold())
    commits.commit(
        f"{name}: state the problem, its tests and its benchmark",
        f"Reference, workloads, baselines and a dispatcher that leaves everything to\n"
        f"{manifest.target.baselines[0].name}. Run {manifest.run_id}.",
    )
    for attempt in layout.promoted:
        commits.write(layout.version(attempt))
        commits.commit(*layout.message(attempt))
    commits.write(layout.conclusion())
    commits.commit(
        f"{name}: tune the dispatcher and write the ledgers",
        "Regimes, ledgers and figures are generated from the records in evidence/.",
    )
    return commits.head()


def _put(scratch: Path, root: Path, head: str) -> Path:
    """Move the repository into its place."""
    before = head_of(root)
    if before == head:
        return root
    if root.exists():
        kept = root.with_name(f"{NAME}-{before[:12] or 'unfinished'}")
        shutil.rmtree(kept, ignore_errors=True)
        root.replace(kept)
        logger.info("earlier repository kept path=%s", kept)
    scratch.chmod(0o755)
    scratch.replace(root)
    return root
