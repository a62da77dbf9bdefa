"""A control group for one enclosure: limits on memory and tasks, who is in it, end of all.

Both hierarchies are served, also mixed: version 1 `pids` and `memory`, version 2 with whatever its
parent delegates. Where no group can be made, nothing here is active and the other layers remain.
"""

import functools
import itertools
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_KILL_S = 2.0
_POLL_S = 0.002
_LIMIT_FILES = {"memory_bytes": ("memory.max", "memory.limit_in_bytes"), "tasks": ("pids.max",)}
_PREFIX = "kp-"
_serial = itertools.count()


@dataclass(frozen=True)
class Group:
    """The directories, one a hierarchy, that make up one group."""

    folders: tuple[Path, ...]

    def add(self, pid: int) -> None:
        """Move a process in; its later children are born in the group.

        Raises:
            OSError: the process is gone, or the hierarchy refuses it.
        """
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def pids(self) -> set[int]:
        """Return the processes in the group."""
        return {int(line) for line in (self.folders[0] / "cgroup.procs").read_text().split()}

    def close(self) -> None:
        """Kill every process in the group, then remove it."""
        deadline = time.monotonic() + _KILL_S
        while not self._is_removed() and time.monotonic() < deadline:
            self._kill_once()
            time.sleep(_POLL_S)

    def _kill_once(self) -> None:
        for folder in self.folders:
            with suppress(OSError):
                (folder / "cgroup.kill").write_text("1")
            with suppress(OSError):
                for line in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(line), signal.SIGKILL)

    def _is_removed(self) -> bool:
        for folder in self.folders:
            with suppress(OSError):
                folder.rmdir()
        return not any(folder.exists() for folder in self.folders)


def create(*, tasks: int, memory_bytes: int | None = None) -> Group | None:
    """Make a group below our own, or return None where the host allows none."""
    name = f"{_PREFIX}{os.getpid()}-{next(_serial)}"
    wanted = {"tasks": tasks, "memory_bytes": memory_bytes}
    folders = []
    for home in _homes():
        _sweep(home)
        folder = home / name
        with suppress(OSError):
            folder.mkdir()
            folders.append(folder)
            _limit(folder, wanted)
    return Group(tuple(folders)) if folders else None


def refusal() -> str | None:
    """Return why no group can be made here, or None."""
    homes = _homes()
    if not homes:
        return "no cgroup hierarchy with pids or memory is mounted"
    group = create(tasks=1)
    if group is None:
        return f"{homes[0]} is not writable; delegate a cgroup (systemd: Delegate=yes)"
    group.close()
    return None


@functools.cache
def _sweep(home: Path) -> None:
    """Remove empty groups of processes that were killed before they could; once a process."""
    for folder in home.glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            with suppress(OSError):
                folder.rmdir()


def _limit(folder: Path, wanted: dict[str, int | None]) -> None:
    for key, value in wanted.items():
        for file in _LIMIT_FILES[key]:
            # A version 2 group has the file only if its parent passes the controller on.
            if value is not None and (folder / file).exists():
                (folder / file).write_text(str(value))


def _homes() -> list[Path]:
    """Return our own group in each useful hierarchy, the one that counts tasks first."""
    mounts = _mounts()
    homes: dict[str, Path] = {}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for key in controllers.split(",") if controllers else ["unified"]:
                if key in ("pids", "memory", "unified") and key in mounts:
                    root, point = mounts[key]
                    homes[key] = point / os.path.relpath(path, root)
    found = [homes[key] for key in ("pids", "memory", "unified") if key in homes]
    return [home.resolve() for home in found if home.is_dir()]


def _mounts() -> dict[str, tuple[str, Path]]:
    """Return the root and mount point of every hierarchy, by controller."""
    found: dict[str, tuple[str, Path]] = {}
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(" ", 2)
            root, point = left.split(" ")[3:5]
            if kind == "cgroup2":
                found["unified"] = (root, Path(point))
            elif kind == "cgroup":
                for controller in options.split(","):
                    found[controller] = (root, Path(point))
    return found
