"""A script that begins as a fork of a zygote (`forker.py`), moved into namespaces that are there.

Bubblewrap cannot be entered from a fork: it starts what it encloses. So it makes the namespaces for
a process that only waits, the first of them; the fork joins it there and gives up everything else
by itself. What confines the script is the same as of an interpreter that bubblewrap has started.
"""

import json
import os
import select
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gpu_runner import rendezvous
from gpu_runner.errors import RunnerError
from gpu_runner.host.grants import Grants

SOCKET: Final = "forks.sock"
INTERPRETER: Final = (sys.executable, "-I", "-B")
"""How the command line of a script begins that can be forked."""
WAITING: Final = ("/bin/sh", "-c", "echo .; read line")
"""The first process of the namespaces: says that they are there, and waits for the end."""
_SPACES: Final = ("pid", "mnt", "net", "ipc", "uts", "user")
_PACKET_BYTES: Final = 4096
_CONNECT_S: Final = 5.0
_FORK_S: Final = 120.0
"""The first fork waits for torch, on a machine that may be busy."""


class GraftFailed(RunnerError):
    """The zygote did not give the fork, or it could not be confined; nothing has run."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """What is to run, and on which descriptors."""

    words: tuple[str, ...]
    """Its path, then its arguments."""
    cwd: Path
    cpus: frozenset[int]
    stdin: int
    output: int
    program: bytes
    """Seccomp filter, may be empty."""


def script_words(argv: Sequence[str], grants: Grants) -> tuple[str, ...] | None:
    """Return script and words where a fork can take the place of this command, else None.

    libgomp reads how many threads there are when it is loaded: forks have one.
    """
    count = len(INTERPRETER)
    if tuple(argv[:count]) != INTERPRETER or grants.environment.get("OMP_NUM_THREADS") != "1":
        return None
    return tuple(argv[count:])


def find_zygote(folder: Path) -> socket.socket | None:
    """Return a connection to the zygote of a folder, or None."""
    return rendezvous.connect(folder / SOCKET, _CONNECT_S, socket.SOCK_SEQPACKET)


class Graft:
    """One fork, from the request to its end."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connection to the zygote."""
        self._connection = connection
        self._status: int | None = None
        self.pid = 0
        """As we see it; its number inside is another."""

    def begin(self, script: Script, grants: Grants, first_pid: int, gate: int) -> None:
        """Have it forked; it then confines itself.

        Args:
            script: what to run.
            grants: what it may do.
            first_pid: of the namespaces it goes to.
            gate: gives the byte that lets it go.

        Raises:
            GraftFailed: there is no fork.
        """
        with ExitStack() as opening:
            spaces = {name: _space(first_pid, name, opening) for name in _SPACES}
            if os.path.sameopenfile(spaces["user"], _space(os.getpid(), "user", opening)):
                del spaces["user"]
            request = {
                "spaces": list(spaces),
                "script": script.words[0],
                "words": script.words[1:],
                "cwd": str(script.cwd),
                "cpus": sorted(script.cpus),
                "descriptors": grants.descriptors,
                "environment": dict(grants.environment),
                "filter": script.program.hex(),
            }
            passed = [*spaces.values(), gate, script.stdin, script.output, *grants.descriptors]
            try:
                socket.send_fds(self._connection, [json.dumps(request).encode()], passed)
            except OSError as error:
                raise GraftFailed(f"the zygote takes no request: {error}") from error
        self.pid = int(self._answer(_FORK_S, "pid"))

    def wait_confined(self) -> None:
        """Return when all it has is what it was granted; it then waits at the gate.

        Raises:
            GraftFailed: it could not be confined, and has ended.
        """
        self._answer(_FORK_S, "confined")

    def fileno(self) -> int:
        """Return what is readable when the script has ended."""
        return self._connection.fileno()

    def wait(self, timeout_s: float) -> int | None:
        """Return how the script ended, minus the signal's number if killed; None: it runs.

        A zygote that was killed tells nobody; its forks end by SIGKILL then.
        """
        if self._status is None and select.select([self._connection], [], [], timeout_s)[0]:
            self._status = int(_received(self._connection).get("status", -9))
        return self._status

    def close(self) -> None:
        """Hang up; this ends nothing."""
        self._connection.close()

    def _answer(self, timeout_s: float, word: str) -> Any:
        self._connection.settimeout(timeout_s)
        answer = _received(self._connection)
        if word not in answer:
            raise GraftFailed(f"the zygote said {answer or 'nothing'} instead of {word}")
        return answer[word]


def _received(connection: socket.socket) -> dict[str, Any]:
    """Return the next answer; empty when there is none."""
    with suppress(OSError, ValueError):
        return dict(json.loads(connection.recv(_PACKET_BYTES)))
    return {}


def _space(pid: int, name: str, opening: ExitStack) -> int:
    descriptor = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    opening.callback(os.close, descriptor)
    return descriptor
