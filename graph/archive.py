"""Runs whose jobs are carried by hand: where their exchange folder is, and what is known of it.

`pool.endpoint` is `archive` (the folder is the run's own `pool/`) or `archive:DIR` (several runs
may share one). A run remembers it, so that a plain `resume` never measures on another machine.
"""

from dataclasses import dataclass
from pathlib import Path

from gpu_runner.archive_exchange import Exchange
from gpu_runner.archive_pool import UNSEEN
from gpu_runner.client import JobPool
from graph.devices import refuse_mismatch
from graph.durable import write_bytes
from graph.errors import RunError
from graph.ledger import RunManifest
from graph.run_files import RunFiles
from graph.runs import find_run
from graph.settings import PoolSettings

BATCH = "batch.json"
"""File of a batch: candidates of a target, judged far away (`archive_batch.py`)."""
POOL = "pool"
"""Folder of a run that holds its own pool's state."""

_BATCHES = ".batches"
_NOTE = "archive"


def exchange_folder(settings: PoolSettings, state: Path) -> Path | None:
    """Return the exchange folder of a run, and remember it; None: its jobs are not carried.

    Args:
        settings: without an endpoint the run goes on as it began.
        state: of the run's own pool.
    """
    if settings.is_archive:
        place = settings.endpoint.partition(":")[2]
        write_bytes(state / _NOTE, str(Path(place).resolve() if place else ".").encode())
    elif settings.endpoint:
        return None
    return _noted(state)


def _noted(state: Path) -> Path | None:
    try:
        return state.resolve() / (state / _NOTE).read_text()
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Origin:
    """Whose jobs are carried."""

    name: str
    """Of the run or batch; archives carry it."""
    exchange: Exchange
    run: str = ""
    """Run id, where it is a run's."""


def find_origin(name: str, runs: Path) -> Origin:
    """Return what a user, or an archive, names: a run, a batch, or an exchange folder itself.

    Raises:
        RunNotFound: there is none.
        RunError: it is a run whose jobs are not carried.
    """
    for folder in (batch_folder(name, runs), Path(name)):
        if (folder / BATCH).is_file() or Exchange(folder).is_there:
            return Origin(folder.resolve().name, Exchange(folder))
    return origin_of_run(find_run(runs, name))


def origin_of_run(files: RunFiles) -> Origin:
    """Return the origin of a run's jobs.

    Raises:
        RunError: they are not carried.
    """
    run_id = files.read_manifest().run_id
    folder = _noted(files.root / POOL)
    if folder is None:
        raise RunError(
            f"the jobs of {run_id} are not carried: a pool ran them; "
            f"`kernelpilot resume {files.root} --pool archive` carries the ones to come"
        )
    return Origin(run_id, Exchange(folder), run_id)


def batch_folder(name: str, runs: Path) -> Path:
    """Return where a batch of this name is, or would be."""
    return runs / _BATCHES / name


async def with_machine(manifest: RunManifest, files: RunFiles, pool: JobPool) -> RunManifest:
    """Return the manifest with the machine that the jobs run on, once it was seen.

    A run whose jobs are carried begins before anybody knows their machine. Nothing but `admit`
    happens before its first results say so.

    Raises:
        TargetError: the target is for a GPU and that machine has none.
    """
    if manifest.environment != UNSEEN:
        return manifest
    environment = await pool.environment()
    if environment == UNSEEN:
        return manifest
    refuse_mismatch(manifest.target, environment)
    seen = manifest.model_copy(update={"environment": environment})
    files.write_manifest(seen)
    return seen
