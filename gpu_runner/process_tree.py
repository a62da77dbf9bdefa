"""Processes that do not outlive their reason: death with the parent, orphans, signals as events.

Linux only. Everything here acts on the calling process and what is below it.
"""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_AGAIN_S = 0.002

EXIT_ORPHANED = 75
"""Exit code of a process whose parent was gone before it could ask to die with it."""


def die_with_parent(parent: int | None) -> None:
    """Let the kernel kill this process when its parent ends; end now if that has happened.

    The order makes it free of races: a parent that ends before the request is seen by the
    comparison after it, one that ends later by the kernel. The request holds for the parent's
    thread that started this process, so start processes from threads that stay.

    Args:
        parent: the pid of the process that should be the parent; None asks for nothing.
    """
    if parent is None:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_ORPHANED)


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children(pid: int) -> tuple[int, ...]:
    """Return the direct children of a process, zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError, IndexError):
            # "pid (any name) state ppid ...": the name may hold blanks and brackets.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return tuple(found)


def end_children(
    *, patience_s: float = 2.0, spared: frozenset[int] = frozenset()
) -> tuple[int, ...]:
    """Kill and reap everything below this process, in whatever session it is.

    Needs `adopt_orphans`: the children of a killed process become ours and are next. Call it when
    no child is managed by anything else.

    Args:
        patience_s: how long to try.
        spared: pids of direct children that live on, and all below them.

    Returns:
        The pids that are still there after `patience_s`: processes stuck in the kernel.
    """
    give_up_s = time.monotonic() + patience_s
    while True:
        below = tuple(pid for pid in children(os.getpid()) if pid not in spared)
        if not below or time.monotonic() >= give_up_s:
            return below
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(_LOOK_AGAIN_S)


@contextmanager
def signals_as_bytes(*numbers: signal.Signals) -> Iterator[int]:
    """Turn signals into bytes on a descriptor, one byte (its number) each; main thread only.

    A loop that polls the descriptor is never interrupted between two steps that belong together.
    """
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, _ignore) for number in numbers}
    old_writable = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    try:
        yield readable
    finally:
        signal.set_wakeup_fd(old_writable)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)


def _ignore(_number: int, _frame: object) -> None:
    """Keep the default action from happening; the byte is what counts."""


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        msg = f"prctl({option}, {value}): {os.strerror(number)}"
        raise OSError(number, msg)
