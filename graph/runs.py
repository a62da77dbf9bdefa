"""Finds run directories by what a user calls them, and makes new ones."""

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from gpu_runner.message import JobId
from graph.errors import RunError, RunNotFound
from graph.run_files import RunFiles

_MOST_NAME = 40


def new_run_id(target: str, now: datetime, suffix: str) -> JobId:
    """Return a run id that sorts by time within a target and may begin a job id."""
    name = target.lower().strip("_")[:_MOST_NAME] or "run"
    return f"{name}-{now.strftime('%Y%m%d-%H%M%S')}-{suffix}"


def make_run(directory: Path, target: str, run_dir: Path | None = None) -> RunFiles:
    """Make an empty run directory.

    Args:
        directory: where runs lie.
        target: names the run.
        run_dir: the directory itself, where the user names one; its name is the run id.

    Raises:
        RunError: the directory holds a run already, or cannot be made.
    """
    root = run_dir or directory / new_run_id(target, datetime.now(UTC), secrets.token_hex(2))
    try:
        root.mkdir(parents=True, exist_ok=run_dir is not None)
    except OSError as error:
        raise RunError(f"run directory {root}: {error.strerror}; choose another") from error
    if (root / "run.json").exists():
        raise RunError(f"{root} holds a run already; `kernelpilot resume {root}` goes on with it")
    return RunFiles(root)


def run_id_of(root: Path) -> JobId:
    """Return the run id of a directory: its name, as far as a job id allows."""
    name = re.sub(r"[^a-z0-9._-]", "-", root.resolve().name.lower()).lstrip("._-")
    return name[: 2 * _MOST_NAME] or "run"


def all_runs(directory: Path) -> tuple[RunFiles, ...]:
    """Return the runs of a directory, the newest last."""
    found = [path.parent for path in directory.glob("*/run.json")]
    return tuple(RunFiles(root) for root in sorted(found, key=_made))


def find_run(directory: Path, name: str) -> RunFiles:
    """Return the run that a user names: an id, a unique beginning of one, a path, or `latest`.

    Raises:
        RunNotFound: there is none, or several begin so; names what there is.
    """
    if (Path(name) / "run.json").is_file():
        return RunFiles(Path(name))
    runs = all_runs(directory)
    ids = {run.root.name: run for run in runs}
    if name == "latest" and runs:
        return runs[-1]
    if name in ids:
        return ids[name]
    matching = sorted(key for key in ids if key.startswith(name))
    if len(matching) == 1:
        return ids[matching[0]]
    if matching:
        raise RunNotFound(f"{name!r} begins several runs: {', '.join(matching)}")
    known = f"; runs there: {', '.join(sorted(ids))}" if ids else ", which holds no runs"
    raise RunNotFound(f"no run {name!r} in {directory}{known}")


def _made(root: Path) -> tuple[int, str]:
    return (root / "run.json").stat().st_mtime_ns, root.name
