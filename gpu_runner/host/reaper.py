"""Stands in for bubblewrap where that does not work: a program, executed as a file.

It imports nothing of this package and takes two words before the command: a descriptor to wait on,
and one with a JSON object: `filter`, a seccomp filter in hexadecimal, may be empty, and `writable`,
the only folders below which the command may write, or null: no limit. On SIGTERM it ends everything
and itself. Orphans of the command become its children, so that nothing the command starts outlives
it. It ends with the command's status, or 128 + the signal's number, as bubblewrap does.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_LAST_CAPABILITY = 63
_STEP_BYTES = 8

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def main(words: list[str]) -> int:
    """Wait for the byte that lets us go, run the command, end what is left of it."""
    gate = int(words[0])
    with os.fdopen(int(words[1])) as file:
        limits = json.load(file)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for capability in range(_LAST_CAPABILITY):
        _libc.prctl(_PR_CAPBSET_DROP, capability)
    if not os.read(gate, 1):
        return 1
    os.close(gate)
    signal.signal(signal.SIGTERM, _end)
    pid = os.fork()
    if pid == 0:
        _become(words[2:], limits)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    status = _wait_for(pid)
    _kill_tree()
    return 128 - status if status < 0 else status


def _end(number: int, _frame: object) -> None:
    _kill_tree()
    os._exit(128 + number)


def _become(command: list[str], limits: dict[str, Any]) -> None:
    """Turn this fork into the command; never returns."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if limits["writable"] is not None:
        landlock = runpy.run_path(str(Path(__file__).with_name("landlock.py")))
        landlock["restrict"](limits["writable"])
    program = bytes.fromhex(limits["filter"])
    if program:
        steps = ctypes.create_string_buffer(program, len(program))
        header = _Program(len(program) // _STEP_BYTES, ctypes.addressof(steps))
        _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command is a list made by our caller
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


def _wait_for(wanted: int) -> int:
    """Reap every child until the wanted one has ended; return its status."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == wanted:
            return os.waitstatus_to_exitcode(status)


def _kill_tree() -> None:
    """Kill children until there are none; grandchildren become children when theirs die."""
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        children = _children()
        if not children:
            return
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _children() -> list[int]:
    own = os.getpid()
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are wanted, a hundred of them, often
        if entry.isdigit():
            with suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == own:
                    found.append(int(entry))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
