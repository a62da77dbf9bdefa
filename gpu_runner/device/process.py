"""A device process as the supervisor holds it: started, asked, and ended for sure."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gpu_runner.channel import (
    ChannelClosed,
    ChannelTimedOut,
    Message,
    connected,
)
from gpu_runner.device.zygote import ROLES, connect
from gpu_runner.errors import RunnerError
from gpu_runner.zygote import Forked

_LOG_BYTES: Final = 8192
_CONNECT_S: Final = 10.0
_END_S: Final = 5.0


class ProcessFailed(RunnerError):
    """A device process failed, and how: what it said of itself, or that it said nothing."""

    def __init__(self, kind: str, name: str, message: str, log_tail: str) -> None:
        """Keep the parts.

        Args:
            kind: `driver`, `plan`, `runner`, `internal`, `silent` (timed out) or `gone`.
            name: the driver's error, or the exception's class.
            message: what it said.
            log_tail: end of what the process printed.
        """
        super().__init__(message)
        self.kind = kind
        self.name = name
        self.log_tail = log_tail


class DeviceProcess:
    """One process and our end of its channel."""

    def __init__(self, role: str, workspace: Path) -> None:
        """Fork it from the worker's zygote, or start an interpreter where none listens."""
        self.role = role
        self._channel, theirs = connected()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._child: subprocess.Popen[bytes] | None = None
        self._fork: Forked | None = None
        with theirs:
            if not self._is_forked(theirs, workspace):
                self._start(theirs)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close()

    def ask(self, do: str, timeout_s: float, **arguments: object) -> Message:
        """Return the answer to one message.

        Raises:
            ProcessFailed: it failed, ended or took too long; the process is then dead.
        """
        self.tell({"do": do, **arguments})
        return self.answer(timeout_s)

    def tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message without waiting for the answer.

        Raises:
            ProcessFailed: the process is gone.
        """
        try:
            self._channel.send(message, descriptors)
        except ChannelClosed:
            self._raise_last_words()

    def answer(self, timeout_s: float) -> Message:
        """Return the next answer.

        Raises:
            ProcessFailed: as `ask`.
        """
        return self.answer_with_descriptors(timeout_s)[0]

    def answer_with_descriptors(self, timeout_s: float) -> tuple[Message, list[int]]:
        """Return the next answer and what came with it.

        Raises:
            ProcessFailed: as `ask`.
        """
        try:
            message, descriptors = self._channel.receive(timeout_s)
        except ChannelTimedOut as error:
            self._kill()
            text = f"no answer for {timeout_s:.0f} s"
            raise ProcessFailed("silent", "timed out", text, self._log_tail()) from error
        except ChannelClosed as error:
            self._kill()
            text = "the process ended without a word"
            raise ProcessFailed("gone", "ended", text, self._log_tail()) from error
        if "failed" in message:
            self._kill()
            raise ProcessFailed(
                str(message["failed"]),
                str(message["name"]),
                str(message["message"]),
                self._log_tail(),
            )
        return dict(message["ok"]), descriptors

    def close(self) -> None:
        """Hang up, and kill what does not end by itself; its context goes with it."""
        self._channel.close()
        self._await_end()
        self._kill()
        if self._fork is not None:
            self._fork.close()
        self._log.close()

    def _await_end(self) -> None:
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(_END_S)
        elif self._fork is not None:
            with suppress(ChannelTimedOut):
                self._fork.wait(_END_S)

    def _raise_last_words(self) -> None:
        self.answer(1.0)
        raise ProcessFailed("gone", "ended", "the process hung up", self._log_tail())

    def _kill(self) -> None:
        """End the process, also one that waits for a kernel; return when it has ended."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        elif self._fork is not None:
            self._fork.send_signal(signal.SIGKILL)
            with suppress(ChannelTimedOut):
                self._fork.wait(_END_S)

    def _log_tail(self) -> str:
        self._log.flush()
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - _LOG_BYTES)
        return os.pread(self._log.fileno(), _LOG_BYTES, start).decode(errors="replace")

    def _is_forked(self, theirs: socket.socket, workspace: Path) -> bool:
        """Ask the zygote for a child; False where there is none."""
        end = connect(workspace, _CONNECT_S)
        if end is None:
            return False
        request = {"role": self.role}
        descriptors = (self._log.fileno(), theirs.fileno())
        try:
            self._fork = Forked(end, request, descriptors, _CONNECT_S)
        except (ChannelClosed, ChannelTimedOut, ValueError):
            return False
        return True

    def _start(self, theirs: socket.socket) -> None:
        argv = [sys.executable, "-m", ROLES[self.role], str(theirs.fileno())]
        self._child = subprocess.Popen(
            argv,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
