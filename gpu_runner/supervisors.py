"""Where the supervisors of jobs come from: forked from a zygote, or an interpreter each.

A supervisor (`gpu_runner.child`) imports for half a second to a second what it needs, more than
many jobs take. A worker keeps a zygote that has imported it; without one everything works as well.
`python -P -m gpu_runner.supervisors DESCRIPTOR PARENT EXECUTOR` is that zygote: connections are
handed to it over the descriptor, a socket that nobody else has.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, Protocol

from gpu_runner.channel import ChannelClosed, ChannelTimedOut, Message
from gpu_runner.process_tree import die_with_parent
from gpu_runner.zygote import Forked, Zygote, prepare

logger = logging.getLogger(__name__)

_CHILD: Final = "gpu_runner.child"
_ROLE: Final = "supervisor"
_FORK_S: Final = 5.0
_READY_S: Final = 60.0
_READY: Final = b"."


class Supervisor(Protocol):
    """A supervisor that was started."""

    pid: int
    pidfd: int

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit code, negative for a signal's number; None while it goes on."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing to one that has ended."""

    def close(self) -> None:
        """Release what is held of it; call it when it has ended."""


class _Spawned:
    """An interpreter of its own."""

    def __init__(self, argv: Sequence[str], log: BinaryIO, inherited: Sequence[int]) -> None:
        # -P: a file in the current directory must not stand in for a module.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD, *argv, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=inherited,
        )
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)

    def wait(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def close(self) -> None:
        os.close(self.pidfd)


class _Forked:
    """A fork of the zygote."""

    def __init__(self, fork: Forked) -> None:
        self._fork = fork
        self.pid = fork.pid
        self.pidfd = fork.pidfd

    def wait(self, timeout_s: float) -> int | None:
        try:
            return self._fork.wait(timeout_s)
        except ChannelTimedOut:
            return None

    def send_signal(self, number: signal.Signals) -> None:
        self._fork.send_signal(number)

    def close(self) -> None:
        self._fork.close()


class Supervisors:
    """Starts supervisors; as it is made, each in an interpreter of its own."""

    def __init__(self) -> None:
        """Begin without a zygote."""
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._is_ready = False

    @property
    def spared(self) -> frozenset[int]:
        """Processes that belong to no job and outlive them."""
        return frozenset() if self._zygote is None else frozenset({self._zygote.pid})

    def start(self, argv: Sequence[str], log: BinaryIO, inherited: Sequence[int]) -> Supervisor:
        """Start one, in a session of its own.

        Args:
            argv: its command line but for the parent.
            log: gets what it prints.
            inherited: descriptors that it keeps open.

        Raises:
            OSError: no process can be started.
        """
        fork = self._fork(argv, log, inherited)
        return _Spawned(argv, log, inherited) if fork is None else _Forked(fork)

    @contextmanager
    def prepared(self, executor: str) -> Iterator["Supervisors"]:
        """Keep a zygote; nothing waits until it is ready, and nothing fails with it.

        Args:
            executor: `module:function` that the supervisors will call; the module's `prepare()`,
                if it has one, is called before anything is forked.
        """
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        argv = [sys.executable, "-P", "-m", "gpu_runner.supervisors"]
        argv += [str(theirs.fileno()), str(os.getpid()), executor]
        try:
            with theirs:
                self._zygote = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
                )
            yield self
        finally:
            self._end_zygote()

    def wait_ready(self) -> bool:
        """Wait for the zygote; say whether there is one."""
        self._hear_ready(_READY_S)
        return self._is_ready

    def _end_zygote(self) -> None:
        """Kill the zygote, and with it every fork; return when none can run any more."""
        self._is_ready = False
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote.wait()
            self._zygote = None
        if self._control is not None:
            self._control.close()
            self._control = None

    def _hear_ready(self, timeout_s: float) -> None:
        if self._control is None:
            return
        self._control.settimeout(timeout_s)
        with suppress(OSError):  # not yet, or never
            self._is_ready = self._is_ready or self._control.recv(1) == _READY

    def _fork(self, argv: Sequence[str], log: BinaryIO, inherited: Sequence[int]) -> Forked | None:
        """Ask the zygote; None where there is none that answers."""
        if self._control is None or self._zygote is None:
            return None
        if not self._is_ready:
            self._hear_ready(0.0)
        if not self._is_ready:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        request = {"role": _ROLE, "argv": [*argv, "--parent", str(self._zygote.pid)]}
        try:
            self._control.settimeout(_FORK_S)
            with theirs:
                socket.send_fds(self._control, [_READY], [theirs.fileno()])
            return Forked(ours, request, (log.fileno(), *inherited), _FORK_S)
        except (OSError, ChannelClosed, ChannelTimedOut) as error:
            # It may still come to read the request, and the job must not run twice.
            logger.warning("supervisors are started without a zygote from here on: %s", error)
            ours.close()
            self._end_zygote()
            return None


def main(descriptor: int, parent: int, executor: str) -> int:
    """Fork supervisors until the worker hangs up."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module = executor.partition(":")[0]
    prepare((_CHILD, module))
    find_out: Callable[[], None] = getattr(sys.modules[module], "prepare", _nothing)
    find_out()
    # The worker may have ended while this process imported: nobody is there to be told of it.
    with socket.socket(fileno=descriptor) as control, suppress(BrokenPipeError):
        control.sendall(_READY)
        Zygote(control, _handed, {_ROLE: _supervise}).run()
    return 0


def _nothing() -> None:
    """Stand for an executor that has nothing to prepare."""


def _handed(control: socket.socket) -> socket.socket | None:
    content, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    return socket.socket(fileno=descriptors[0]) if content and descriptors else None


def _supervise(request: Message, _inherited: list[int]) -> int:
    from gpu_runner.child import main as supervise  # noqa: PLC0415 - imported by `prepare`

    return supervise([str(argument) for argument in request["argv"]])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
