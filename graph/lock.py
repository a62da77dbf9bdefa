"""One process at a time works on a run: an advisory lock that dies with its holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graph.errors import RunLocked


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the run directory's lock.

    Raises:
        RunLocked: another process holds it; names its process id.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / "lock"
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            written = file.read(32).decode(errors="replace").strip() or "unknown"
            raise _refusal(root, written) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        yield


def refuse_held(root: Path) -> None:
    """Say at once that somebody works on a run, before anything of it is started.

    Raises:
        RunLocked: another process holds it; names its process id.
    """
    pid = holder(root)
    if pid is not None:
        raise _refusal(root, str(pid))


def holder(root: Path) -> int | None:
    """Return the process id that works on a run now; None where nobody does."""
    try:
        with (root / "lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read(32) or b"0") or None
    except (FileNotFoundError, ValueError):
        return None
    return None


def _refusal(root: Path, pid: str) -> RunLocked:
    return RunLocked(
        f"the run {root.name} is being worked on by process {pid}; wait for it, "
        f"or stop it with `kill {pid}`, then resume"
    )
