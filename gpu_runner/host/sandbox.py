"""Running a command that is not trusted: what it may see, how long, and which layers hold it.

Every layer is used where it works; where one does not, the others remain. `probe` says which.
"""

import os
import select
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.host import bubblewrap, cgroup, landlock, seccomp
from gpu_runner.host.enclosure import Enclosure, memory_file
from gpu_runner.host.grants import Grants, LayerName

__all__ = ["Finished", "Grants", "Layer", "LayerName", "active_layers", "probe", "run", "wrap"]

_TAIL_BYTES = 8 * 1024
_CHUNK_BYTES = 64 * 1024
_DRAIN_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command ended."""

    returncode: int | None
    """Minus the number of the signal that killed it; None: it ran out of time and was killed."""
    output: str
    """Last 8 KiB of stdout and stderr together, decoded with replacement."""
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of confinement."""

    name: str
    is_active: bool
    detail: str
    """What it does here, or why it does not, with the remedy."""


def wrap(argv: Sequence[str], grants: Grants) -> list[str]:
    """Return the bubblewrap command line, or `argv` itself where bubblewrap does not work."""
    if "bubblewrap" in grants.without or bubblewrap.options() is None:
        return list(argv)
    return bubblewrap.command(argv, grants)


def run(
    argv: Sequence[str],
    grants: Grants,
    *,
    timeout_s: float,
    cwd: Path,
    stdin: bytes = b"",
    zygote: Path | None = None,
) -> Finished:
    """Run a command to its end; whatever it has started is dead when this returns.

    Args:
        argv: program and arguments.
        grants: what it may do; `cwd` becomes readable.
        timeout_s: wall clock until it is killed.
        cwd: where it starts.
        stdin: what it can read; any size.
        zygote: folder of a zygote that may fork it, as `Enclosure` has it.

    Raises:
        RunnerError: it could not be started.
    """
    started = time.monotonic()
    with ExitStack() as opening:
        source = memory_file(opening, stdin)
        out, into = os.pipe()
        opening.callback(os.close, out)
        try:
            enclosure = Enclosure(
                argv,
                _with_readable(grants, cwd),
                stdin=source,
                output=into,
                cwd=cwd,
                zygote=zygote,
            )
        finally:
            os.close(into)
        opening.callback(enclosure.close)
        tail = _Tail(out)
        is_late = not tail.read_until_end_of(enclosure, started + timeout_s)
        returncode = None if is_late else enclosure.wait(_DRAIN_S)
        enclosure.close()
        tail.drain(time.monotonic() + _DRAIN_S)
    return Finished(returncode=returncode, output=tail.text, seconds=time.monotonic() - started)


def active_layers() -> tuple[str, ...]:
    """Return the names of the layers that hold a subject here."""
    return tuple(layer.name for layer in probe() if layer.is_active)


def probe() -> tuple[Layer, ...]:
    """Try every layer once and say what came of it."""
    bare = bubblewrap.refusal()
    layers = (
        _layer("bubblewrap", bare, "own pid, mount, ipc and network namespaces"),
        _layer("user", None if bubblewrap.has_own_user() else _NO_USER, "own user namespace"),
        _layer("seccomp", _seccomp_refusal(), "system calls filtered, no new processes"),
        _layer("cgroup", cgroup.refusal(), "memory and tasks limited, killed as one"),
        _layer("rlimits", None, "core dumps off, files, descriptors and data limited"),
    )
    return layers if bare is None else (*layers, _layer("landlock", _landlock_refusal(), _WRITES))


_WRITES = "writes only below named folders, other processes out of reach"
_NO_USER = "needs bubblewrap and user namespaces (sysctl user.max_user_namespaces above 0)"


def _layer(name: str, refusal: str | None, what: str) -> Layer:
    return Layer(name=name, is_active=refusal is None, detail=refusal or what)


def _seccomp_refusal() -> str | None:
    if not seccomp.assemble("strict"):
        return f"no table of system calls for {os.uname().machine}"
    try:
        status = Path("/proc/self/status").read_text()
    except OSError as error:
        return f"/proc/self/status cannot be read: {error}"
    return None if "Seccomp:" in status else "the kernel is built without CONFIG_SECCOMP_FILTER"


def _landlock_refusal() -> str | None:
    return None if landlock.version() else "the kernel is built or started without Landlock"


def _with_readable(grants: Grants, cwd: Path) -> Grants:
    if any(cwd.is_relative_to(path) for path in (*grants.readable, *grants.writable)):
        return grants
    return Grants(**{**vars(grants), "readable": (*grants.readable, cwd)})


class _Tail:
    """The last bytes of a pipe, read as they come so that the writer never waits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = b""
        self._is_open = True
        os.set_blocking(fd, False)

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace")

    def read_until_end_of(self, enclosure: Enclosure, deadline: float) -> bool:
        """Return whether the command ended in time."""
        ended = enclosure.end()
        try:
            while True:
                wanted = [ended, self._fd] if self._is_open else [ended]
                left_s = max(0.0, deadline - time.monotonic())
                readable, _, _ = select.select(wanted, [], [], left_s)
                if self._fd in readable:
                    self._read()
                elif ended in readable:
                    return True
                elif not readable:
                    return False
        finally:
            os.close(ended)

    def drain(self, deadline: float) -> None:
        """Read what is left; with every writer dead this ends at once."""
        while self._is_open and time.monotonic() < deadline:
            select.select([self._fd], [], [], _DRAIN_S)
            self._read()

    def _read(self) -> None:
        try:
            chunk = os.read(self._fd, _CHUNK_BYTES)
        except BlockingIOError:
            return
        self._is_open = bool(chunk)
        self._kept = (self._kept + chunk)[-_TAIL_BYTES:]
