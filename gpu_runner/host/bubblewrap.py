"""Bubblewrap command lines, and which of its options work on this host."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpu_runner.host.grants import Grants

_PROBE_S = 10.0
_NOBODY = "65534"
_SYSTEM = ("/usr",)
_LINKED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Links into /usr on merged systems, folders on others."""
_FILES = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
_KERNELS = tuple(f"/proc/{name}" for name in ("sys", "irq", "bus", "fs", "scsi", "pressure"))
"""What /proc has of the whole machine. Its files are user 0's, and what user 0 started may write
them without a capability, even where a namespace gives its user another number; `core_pattern`
among them names a program that the host runs."""
_TMP_BYTES = 1 << 30
_ISOLATION = ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts")
_ALWAYS = ("--die-with-parent", "--new-session", "--cap-drop", "ALL")
_IDENTITY = ("--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY)
_VARIANTS = ((*_IDENTITY, *_ISOLATION), _ISOLATION)
"""Tried in this order: with a user of its own, then without."""


@functools.cache
def options() -> tuple[str, ...] | None:
    """Return the strongest isolation that works here, or None."""
    return _found()[0]


def refusal() -> str | None:
    """Return why bubblewrap does not work here, or None."""
    return _found()[1]


def has_own_user() -> bool:
    """Return whether enclosed processes run as a user that owns nothing."""
    return "--unshare-user" in (options() or ())


def command(argv: Sequence[str], grants: Grants, extra: Sequence[str] = ()) -> list[str]:
    """Return the command line that runs `argv` with these grants and nothing else.

    Args:
        argv: program and arguments.
        grants: what it may see.
        extra: more of bubblewrap's own options.
    """
    line = [shutil.which("bwrap") or "bwrap", *(options() or ()), *_ALWAYS, "--clearenv", *extra]
    for name in (*_SYSTEM, *_FILES, *_LINKED):
        line += _shown(Path(name))
    line += [*_own_proc(), "--dev", "/dev", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"]  # noqa: S108 - a mount of its own
    for path in _readable(grants):
        line += ["--ro-bind-try", str(path), str(path)]
    for path in grants.writable:
        line += ["--bind", str(path), str(path)]
    for name, value in grants.environment.items():
        line += ["--setenv", name, value]
    return [*line, "--", *argv]


def _own_proc() -> list[str]:
    """Return the options for a /proc of its own whose machine-wide parts cannot be written."""
    line = ["--proc", "/proc"]
    for name in _KERNELS:
        line += ["--ro-bind-try", name, name]
    return line


def _shown(path: Path) -> list[str]:
    if path.is_symlink() and path.parent == Path("/"):
        return ["--symlink", os.readlink(path), str(path)]  # noqa: PTH115 - the text of the link, not a path
    return ["--ro-bind-try", str(path), str(path)]


def _readable(grants: Grants) -> Iterator[Path]:
    """Yield folders before what lies in them, so that no mount hides another."""
    prefixes = {Path(sys.prefix), Path(sys.base_prefix)}
    wanted = {*grants.readable, *(p for p in prefixes if not p.is_relative_to("/usr"))}
    yield from sorted(wanted, key=lambda path: len(path.parts))


@functools.cache
def _found() -> tuple[tuple[str, ...] | None, str | None]:
    if shutil.which("bwrap") is None:
        return None, "bwrap is not on PATH; install bubblewrap"
    said = ""
    for variant in _VARIANTS:
        said = _try(variant)
        if not said:
            return variant, None
    return None, f"bwrap cannot make namespaces here: {said}"


def _try(variant: tuple[str, ...]) -> str:
    """Return what bubblewrap complains of, or nothing."""
    line = ["bwrap", *variant, *_ALWAYS, "--ro-bind", "/", "/", *_own_proc(), "--dev", "/dev"]
    line += ["--size", "4096", "--tmpfs", "/tmp", "--", "true"]  # noqa: S108 - a mount of its own
    try:
        finished = subprocess.run(
            line, capture_output=True, timeout=_PROBE_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if finished.returncode == 0:
        return ""
    return finished.stderr.decode(errors="replace").strip()[-200:] or "it failed without a word"
