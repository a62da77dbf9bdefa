"""A zygote: a process that has imported what others need, and forks them on request.

An interpreter that imports everything anew is ready after a second, with torch and CUDA after 4 s;
a fork of a prepared one after milliseconds. Each request comes on a connection of its own, which
stays open as a lifeline: when whoever asked is gone, however it ended, the fork is killed; when
the fork ends first, its exit code is the last message. Only trusted code is forked here.
"""

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gpu_runner.channel import Channel, ChannelClosed, ChannelTimedOut, Message

_REQUEST_S: Final = 5.0

Role = Callable[[Message, list[int]], int]
"""Called in the fork with the request and the descriptors after the log's; returns exit code."""


def prepare(modules: Iterable[str]) -> None:
    """Import modules now, and keep the collector from copying their pages in every fork."""
    for name in modules:
        importlib.import_module(name)
    gc.freeze()


@dataclass(slots=True)
class _Fork:
    pid: int
    pidfd: int
    lifeline: Channel | None


class Zygote:
    """Forks, and looks after what it forked."""

    def __init__(
        self,
        source: socket.socket,
        take: Callable[[socket.socket], socket.socket | None],
        roles: Mapping[str, Role],
    ) -> None:
        """Name where requests come from.

        Args:
            source: readable when there is a connection to take.
            take: takes it; None: no more will come.
            roles: what can be asked for.
        """
        self._source = source
        self._take = take
        self._roles = roles
        self._forks: dict[int, _Fork] = {}
        """By both of their descriptors: pidfd and lifeline."""
        self._poll = select.poll()
        self._poll.register(source, select.POLLIN)

    def run(self) -> None:
        """Fork on request until no more can come; then kill what is left."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            for descriptor in ready - {self._source.fileno()}:
                fork = self._forks.get(descriptor)  # None: its other descriptor came first
                if fork is not None and descriptor == fork.pidfd:
                    self._reap(fork)
                elif fork is not None:
                    self._cut(fork)
            # Last, for a new connection may get the number of one that has just been closed.
            if self._source.fileno() in ready:
                connection = self._take(self._source)
                if connection is None:
                    self._end_all()
                    return
                self._fork(Channel(connection))

    def _fork(self, lifeline: Channel) -> None:
        """Fork one child for a request; a malformed one is dropped."""
        try:
            message, descriptors = lifeline.receive(_REQUEST_S)
        except (ChannelClosed, ChannelTimedOut, ValueError):
            lifeline.close()
            return
        role = self._roles.get(str(message.get("role")))
        if role is None or not descriptors:
            lifeline.close()
            _close(descriptors)
            return
        child = os.fork()
        if child == 0:
            self._become(role, message, lifeline, descriptors)
        _close(descriptors)
        fork = _Fork(child, os.pidfd_open(child), lifeline)
        for descriptor in (fork.pidfd, lifeline.fileno()):
            self._forks[descriptor] = fork
            self._poll.register(descriptor, select.POLLIN)
        with contextlib.suppress(ChannelClosed):
            lifeline.send({"pid": child}, (fork.pidfd,))

    def _reap(self, fork: _Fork) -> None:
        """Say how a fork ended."""
        _, status = os.waitpid(fork.pid, 0)
        if fork.lifeline is not None:
            with contextlib.suppress(ChannelClosed):
                fork.lifeline.send({"code": os.waitstatus_to_exitcode(status)})
            self._forget_lifeline(fork)
        del self._forks[fork.pidfd]
        self._poll.unregister(fork.pidfd)
        os.close(fork.pidfd)

    def _cut(self, fork: _Fork) -> None:
        """Kill a fork that nobody holds any more; it is reaped when it has ended."""
        self._forget_lifeline(fork)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fork.pidfd, signal.SIGKILL)

    def _forget_lifeline(self, fork: _Fork) -> None:
        assert fork.lifeline is not None
        del self._forks[fork.lifeline.fileno()]
        self._poll.unregister(fork.lifeline.fileno())
        fork.lifeline.close()
        fork.lifeline = None

    def _end_all(self) -> None:
        for fork in self._forks.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fork.pidfd, signal.SIGKILL)

    def _become(
        self, role: Role, request: Message, lifeline: Channel, descriptors: list[int]
    ) -> None:
        """Turn a child into what was asked for; it keeps nothing of the zygote's, and ends here."""
        code = 1
        try:
            self._source.close()
            lifeline.close()
            for fork in self._forks.values():
                if fork.lifeline is not None:
                    fork.lifeline.close()
                with contextlib.suppress(OSError):  # each is in the table twice
                    os.close(fork.pidfd)
            os.setsid()
            log, *passed = descriptors
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            code = role(request, passed)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - told in the log that whoever asked quotes
            traceback.print_exc()
        finally:  # a fork must never go on as a second zygote
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


class Forked:
    """A fork as whoever asked for it holds it; with this goes the fork."""

    def __init__(
        self, connection: socket.socket, request: Message, descriptors: Iterable[int], wait_s: float
    ) -> None:
        """Ask for it.

        Args:
            connection: to a zygote; taken over.
            request: `role`, and what the role wants to know.
            descriptors: the log's, then what the fork keeps; they stay open here.
            wait_s: the longest wait for the fork.

        Raises:
            ChannelClosed: there is no zygote, or it does not know the role.
            ChannelTimedOut: it does not answer.
        """
        self._lifeline = Channel(connection)
        self._code: int | None = None
        try:
            self._lifeline.send(request, tuple(descriptors))
            answer, (self.pidfd,) = self._lifeline.receive(wait_s)
        except BaseException:
            self._lifeline.close()
            raise
        self.pid = int(answer["pid"])

    def wait(self, timeout_s: float) -> int:
        """Return the exit code, negative for a signal's number.

        Raises:
            ChannelTimedOut: it goes on.
        """
        if self._code is None:
            try:
                self._code = int(self._lifeline.receive(timeout_s)[0]["code"])
            except ChannelClosed:  # the zygote was killed, and its forks with it
                self._code = -signal.SIGKILL
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing to one that has ended or was let go."""
        if self.pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Let go of it, which kills it; can be called twice."""
        self._lifeline.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
