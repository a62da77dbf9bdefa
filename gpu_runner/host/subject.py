"""A subject: the untrusted, frozen process that holds one side, and the clock around its calls.

The supervisor writes inputs while the subject is stopped, sends a token, lets it run, waits for the
token's number, and stops it again. What counts is how long that took and what lies in the outputs
once every thread has stopped. Nothing else that comes from the subject is read, except as text for
people to look at.
"""

import math
import re
import secrets
import select
import signal
import socket
import struct
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from gpu_runner.errors import RunnerError, SubjectFailed
from gpu_runner.host import seccomp
from gpu_runner.host.freeze import Freezer, NotStopping
from gpu_runner.host.launch import SubjectPlan, launch
from gpu_runner.jobs import Reason

__all__ = ["CallTime", "Subject", "SubjectPlan"]

_TOKEN = struct.Struct("=8sIIII")
_CREDENTIALS = struct.Struct("=3i")
_HELLO = bytes(8)
_NUMBER_BYTES = 8
_PACKET_BYTES = 64
_STOP_S = 5.0
_DEATH_S = 1.0
_CODES = {
    b"\x01": (Reason.LOAD_FAILED, "the candidate could not be loaded"),
    b"\x02": (Reason.ENTRY_FAILED, "the entry point failed"),
    b"\x03": (Reason.OUTPUT_MISSHAPEN, "run returned something else than the outputs"),
}
"""What one byte means; every meaning is a failure."""


@dataclass(frozen=True, kw_only=True)
class CallTime:
    """What one token cost, all its slots together."""

    wall_ns: int
    """From before the token was sent until every thread had stopped."""
    cpu_ns: int
    """Processor time of all threads of the process."""


class Subject:
    """One process from its start to its end."""

    def __init__(self, plan: SubjectPlan) -> None:
        """Launch it; it loads while the caller goes on.

        Raises:
            RunnerError: it could not be started.
            ToolchainMissing: the native host cannot be compiled.
        """
        self._plan = plan
        self._freezer: Freezer | None = None
        self._can_fork = True
        self._tail: str | None = None
        with ExitStack() as opening:
            self._launched = launch(plan, opening)
            self._closing = opening.pop_all()
        self._channel = self._launched.channel
        self._deadline = time.monotonic() + plan.start_timeout_s

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def wait_ready(self) -> None:
        """Return when the candidate is loaded and the process is frozen.

        Raises:
            SubjectFailed: the candidate could not be loaded in time.
            RunnerError: the host program failed before it came to the candidate.
        """
        pid = self._greet()
        freezer = self._freezer = Freezer(pid)
        self._closing.callback(freezer.close)
        number = secrets.token_bytes(_NUMBER_BYTES)
        self._send(number + self._filter(pid))
        self._expect(number, self._deadline - time.monotonic())
        self._can_fork = not self._is_filtered(pid)
        self._freeze(freezer)
        self._inspect(freezer)

    def call(self, arena: int, first_slot: int, count: int) -> CallTime:
        """Let it serve `count` slots, and freeze it again.

        Raises:
            SubjectFailed: anything but the one right answer came, and the subject is gone.
        """
        freezer = self._freezer
        if freezer is None or self._tail is not None:
            raise RunnerError("a subject is called between wait_ready() and its first failure")
        self.refuse_movement()
        number = secrets.token_bytes(_NUMBER_BYTES)
        token = _TOKEN.pack(number, arena, first_slot, count, 0)
        cpu_before = freezer.cpu_ns
        started = time.monotonic_ns()
        self._send(token)
        freezer.resume()
        self._expect(number, self._plan.call_timeout_s)
        self._freeze(freezer)
        wall_ns = time.monotonic_ns() - started
        self._inspect(freezer)
        return CallTime(wall_ns=wall_ns, cpu_ns=freezer.cpu_ns - cpu_before)

    @property
    def cpu_s(self) -> float:
        """Processor time of the process so far, seconds; 0 before it is ready."""
        return self._freezer.cpu_ns / 1e9 if self._freezer is not None else 0.0

    def refuse_movement(self) -> None:
        """See that it has not run since it was last frozen; every call does this first.

        Call it after the outputs of the last call were read.

        Raises:
            SubjectFailed: something has woken it.
        """
        freezer = self._freezer
        if freezer is None or self._tail is not None or not freezer.has_run:
            return
        if freezer.is_dead_within(_DEATH_S):
            raise self._death()
        raise self._failure(Reason.PROTOCOL_VIOLATED, "the process ran while it was to be stopped")

    def close(self) -> str:
        """End the process and everything it has started; return the end of its log."""
        if self._tail is None:
            self._launched.enclosure.close()
            self._tail = self._launched.log.tail()
            self._closing.close()
        return self._tail

    def _greet(self) -> int:
        """Wait for the host program, not yet for the candidate; return its pid as we see it."""
        self._poll(self._deadline - time.monotonic())
        with suppress(OSError):
            hello, extra, _, _ = self._channel.recvmsg(
                _PACKET_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_DONTWAIT
            )
            for level, kind, data in extra:
                is_sender = (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
                if is_sender and hello == _HELLO:
                    return int(_CREDENTIALS.unpack(data)[0])
        tail = self.close()
        raise RunnerError(
            f"the host of a subject did not start within {self._plan.start_timeout_s:g} s; the "
            f"doctor command says what is missing. Its last words: {tail[-500:] or 'none'}"
        )

    def _filter(self, pid: int) -> bytes:
        """Return the seccomp filter for a process about to load a candidate."""
        if self._plan.is_trusted or "seccomp" in self._plan.without:
            return b""
        inside = re.search(r"^NSpid:.*?(\d+)$", _status(pid), re.MULTILINE)
        own_pid = int(inside.group(1)) if inside else None
        return seccomp.assemble("strict", own_pid=own_pid, may_pin=self._plan.threads > 1)

    def _send(self, packet: bytes) -> None:
        try:
            self._channel.send(packet)
        except OSError as error:
            raise self._death() from error

    def _expect(self, number: bytes, timeout_s: float) -> None:
        """Block until exactly this number has come."""
        if not self._poll(timeout_s):
            raise self._failure(Reason.TIMED_OUT, f"gave no answer within {timeout_s:.1f} s")
        try:
            answer = self._channel.recv(_PACKET_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            answer = b""
        if answer == number:
            return
        if answer in _CODES:
            reason, what = _CODES[answer]
            said = self._launched.log.last_line()
            raise self._failure(reason, f"{what}: {said}" if said else what)
        if answer:
            raise self._failure(
                Reason.PROTOCOL_VIOLATED, "answered with something else than the token's number"
            )
        raise self._death()

    def _poll(self, timeout_s: float) -> bool:
        """Sleep until something has come, or the process is dead; False: neither in time."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        if self._freezer is not None:
            poller.register(self._freezer.pidfd, select.POLLIN)
        return bool(poller.poll(max(0, math.ceil(timeout_s * 1000))))

    def _freeze(self, freezer: Freezer) -> None:
        try:
            freezer.stop(_STOP_S)
        except NotStopping:
            raise self._failure(
                Reason.PROTOCOL_VIOLATED, f"does not stop within {_STOP_S:g} s when told to"
            ) from None

    def _inspect(self, freezer: Freezer) -> None:
        """See that the frozen process lives, is alone, and has nothing more to say."""
        if freezer.is_dead_within(0):
            raise self._death()
        freezer.settle()
        self._refuse_more()
        if self._can_fork and not self._plan.is_trusted:
            others = self._launched.enclosure.pids() - {freezer.pid}
            if others:
                raise self._failure(
                    Reason.FORKED, f"started {len(others)} other processes; threads are allowed"
                )

    def _refuse_more(self) -> None:
        try:
            more = self._channel.recv(_PACKET_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if more:
            raise self._failure(Reason.PROTOCOL_VIOLATED, "answered more than once")
        raise self._death()

    def _is_filtered(self, pid: int) -> bool:
        return re.search(r"^Seccomp:\s*2$", _status(pid), re.MULTILINE) is not None

    def _death(self) -> SubjectFailed:
        """Say how the process ended, or that it only stopped listening."""
        status = self._launched.enclosure.wait(_DEATH_S)
        if status is None:
            return self._failure(Reason.PROTOCOL_VIOLATED, "closed its end of the channel")
        if status >= 0:
            return self._failure(
                Reason.EXITED, f"the process ended itself with status {status} before it answered"
            )
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        hint = {
            "SIGSEGV": ": it touched memory that is not mapped, or wrote an input",
            "SIGBUS": ": it touched memory that is not there",
            "SIGKILL": ": it was out of memory, or killed itself",
            "SIGILL": ": it used an instruction this processor has not",
            "SIGSYS": ": it made a system call that is not allowed",
        }.get(name, "")
        return self._failure(Reason.CRASHED, f"the process was killed by {name}{hint}")

    def _failure(self, reason: Reason, message: str) -> SubjectFailed:
        return SubjectFailed(reason, message, self.close())


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
