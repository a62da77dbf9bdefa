"""Makes jobs to carry from a target: of candidates to judge, or of a run that begins."""

import asyncio
import secrets
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from graph.archive import Origin, origin_of_run
from graph.archive_batch import Batch, make_batch
from graph.candidates import read_candidate
from graph.devices import choose
from graph.errors import RunError, SettingsError
from graph.ledger import ExitReason
from graph.runs import new_run_id
from graph.settings import Settings
from graph.target import Target
from graph.targets import load_target, target_names

_SUFFIXES = {".yaml", ".yml"}


def is_target(name: str) -> bool:
    """Whether a name means a target rather than a run."""
    path = Path(name)
    return name in target_names() or (path.suffix in _SUFFIXES and path.is_file())


def batch_of(name: str, candidates: tuple[str, ...], device: str, settings: Settings) -> Origin:
    """Put out the jobs that judge candidates against every baseline of a target.

    Args:
        name: the target.
        candidates: as `kernelpilot evaluate` takes them.
        device: of the other machine.
        settings: timing, timeouts, where runs are.

    Raises:
        GraphError: the target or a candidate cannot be read.
    """
    target = _target(name, device, _carried(settings))
    runs = settings.run.directory
    read = {label: read_candidate(label, target.problem, runs) for label in candidates}
    batch = Batch(
        name=new_run_id(target.name, datetime.now(UTC), secrets.token_hex(2)),
        target=target,
        candidates=read,
        plan=settings.bench.on(target.hardware.device).claim,
        jobs=settings.jobs,
    )
    return make_batch(batch, runs)


def run_of(name: str, device: str, settings: Settings) -> Origin:
    """Begin a run of a target; go as far as its first jobs.

    Raises:
        GraphError: it cannot be begun, or ended before it had to wait.
    """
    from graph.launch import start  # noqa: PLC0415 - with the console

    carried = _carried(settings)
    target = _target(name, device, carried)
    try:
        result, files = asyncio.run(start(carried, target, Console(stderr=True)))
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"a run needs more than is installed here ({error}): pip install 'kernelpilot[run]'; "
            "candidates of your own (--candidate FILE) are exported without it"
        ) from error
    if result.exit_reason is not ExitReason.WAITING:
        raise RunError(f"the run ended {result.exit_reason.value}: {result.message}")
    return origin_of_run(files)


def _carried(settings: Settings) -> Settings:
    if settings.pool.is_archive:
        return settings
    pool = settings.pool.model_copy(update={"endpoint": "archive"})
    return settings.model_copy(update={"pool": pool})


def _target(name: str, device: str, settings: Settings) -> Target:
    chosen = asyncio.run(choose(device, name, settings.pool))
    return load_target(name, chosen, settings.target)
