"""Stopping one process with all its threads from outside, and knowing that it has stopped.

The process may be a grandchild in another pid namespace, so `waitpid` is of no use; what the kernel
says of each thread is. A stop is confirmed when every thread is stopped and no thread was added
meanwhile. A stopped process does not use processor time: time that passes on its clock between two
calls proves that something has woken it.
"""

import os
import select
import signal
import time
from contextlib import suppress

_STOPPED = b"TtZX"
"""Stopped, traced, and two states of a thread that has ended."""
_CLOCK_OF_PROCESS = 2
_YIELD_S = 200e-6
_NAP_S = 50e-6
_RESEND_S = 1e-3
_BLIND_NAP_S = 1e-3
_TEXT_BYTES = 512


class NotStopping(Exception):
    """The process keeps running although it was told to stop."""


class Freezer:
    """The handle on one process; holds its pidfd, so the number cannot come to mean another."""

    def __init__(self, pid: int) -> None:
        """Open it.

        Raises:
            ProcessLookupError: it is gone.
        """
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._tasks = os.open(f"/proc/{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._states: dict[str, int] = {}
        self._calls: dict[str, int] = {}
        self._clock = (~pid << 3) | _CLOCK_OF_PROCESS
        self._settled_ns = 0
        self._rescan()

    def is_dead_within(self, timeout_s: float) -> bool:
        """Return whether the process has ended, or does so in this time."""
        return bool(select.select([self.pidfd], [], [], timeout_s)[0])

    @property
    def cpu_ns(self) -> int:
        """Processor time of all threads so far, also of those that have ended; exact if settled."""
        with suppress(OSError):
            return time.clock_gettime_ns(self._clock)
        return self._settled_ns

    def resume(self) -> None:
        """Let it run."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)

    def stop(self, timeout_s: float) -> None:
        """Stop it and return once every thread has stopped, or the process is dead.

        Raises:
            NotStopping: a thread still runs after the time given.
        """
        started = time.monotonic()
        self._send_stop()
        sent = started
        while not (self._all_stopped() and not self._rescan()):
            now = time.monotonic()
            if now - started > timeout_s:
                raise NotStopping
            if now - sent > _RESEND_S:
                # A SIGCONT that a thread sent itself before it stopped takes the stop back.
                self._send_stop()
                sent = now
            if now - started < _YIELD_S:
                os.sched_yield()
            else:
                time.sleep(_NAP_S)

    def settle(self) -> int:
        """After a stop: wait until no thread is on a processor any more; return its clock."""
        if not all(self._is_off_processor(fd) for fd in self._calls.values()):
            time.sleep(_BLIND_NAP_S)
        self._settled_ns = self.cpu_ns
        return self._settled_ns

    @property
    def has_run(self) -> bool:
        """Whether it has used the processor since it settled."""
        return self.cpu_ns != self._settled_ns

    def close(self) -> None:
        """Let go of the process; it stays as it is."""
        for fd in (*self._states.values(), *self._calls.values(), self._tasks, self.pidfd):
            os.close(fd)
        self._states, self._calls = {}, {}

    def _send_stop(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGSTOP)

    def _all_stopped(self) -> bool:
        for thread, fd in list(self._states.items()):
            try:
                text = os.pread(fd, _TEXT_BYTES, 0)
            except OSError:
                self._forget(thread)
                continue
            if text[text.rfind(b")") + 2] not in _STOPPED:
                return False
        return True

    def _rescan(self) -> bool:
        """Return whether there is a thread not seen before."""
        try:
            now = os.listdir(self._tasks)  # noqa: PTH208 - of a descriptor, not of a path
        except OSError:
            return False
        fresh = [thread for thread in now if thread not in self._states]
        for thread in fresh:
            with suppress(OSError):
                self._states[thread] = self._open(thread, "stat")
            with suppress(OSError):
                self._calls[thread] = self._open(thread, "syscall")
        return bool(fresh)

    def _open(self, thread: str, name: str) -> int:
        return os.open(f"{thread}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._tasks)

    def _forget(self, thread: str) -> None:
        for opened in (self._states, self._calls):
            fd = opened.pop(thread, None)
            if fd is not None:
                os.close(fd)

    def _is_off_processor(self, fd: int) -> bool:
        """Return whether the kernel could show where the thread stopped.

        It can only do so of a thread that is off the processor, and waits for that; until then the
        time of its last slice is missing from its clock.
        """
        for _ in range(100):
            try:
                if not os.pread(fd, _TEXT_BYTES, 0).startswith(b"running"):
                    return True
            except ProcessLookupError:
                return True
            except OSError:
                return False
        return False
