"""The zygote: a process that has imported torch and not touched CUDA, and forks device processes.

A fresh interpreter with torch and CUDA is ready after 4 s, a fork of this one after 0.3 s (H200).
`python -m gpu_runner.device.zygote FOLDER PARENT` listens on a Unix socket in the folder. Each
connection asks for one role, hands over its channel and log, and stays open as a lifeline: when
whoever asked is gone, however it ended, the fork is killed, though a kernel of it may never end.
Only trusted roles are forked here. Ends with the worker that started it.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gpu_runner.device.channel import Channel, ChannelClosed, ChannelTimedOut
from gpu_runner.process_tree import die_with_parent

ROLES: Final = {
    "launcher": "gpu_runner.device.launcher",
    "oracle": "gpu_runner.device.oracle_process",
    "baseline": "gpu_runner.device.baseline_process",
}
"""Role to module; each has `main(descriptor) -> exit code`."""
SOCKET: Final = "zygote.sock"
_PRELOADED: Final = ("torch", "numpy", "cuda.bindings.driver")
_BACKLOG: Final = 16
_REQUEST_S: Final = 5.0


def main(folder: Path, parent: int) -> int:
    """Listen until the parent ends."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    for name in (*_PRELOADED, *ROLES.values()):
        importlib.import_module(name)
    gc.freeze()
    with listening(folder) as listener:
        _Zygote(listener).run()
    return 0


def listening(folder: Path) -> socket.socket:
    """Return a listener on the folder's socket; one that a dead zygote has left is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    place = folder / SOCKET
    place.unlink(missing_ok=True)
    with _short(folder) as path:
        listener.bind(path)
    place.chmod(0o600)
    listener.listen(_BACKLOG)
    return listener


def connect(folder: Path, timeout_s: float) -> socket.socket | None:
    """Return a connection to the zygote that listens in the folder; None where none does."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    end.settimeout(timeout_s)
    try:
        with _short(folder) as path:
            end.connect(path)
    except OSError:
        end.close()
        return None
    return end


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Name the socket by a descriptor: the path of a Unix socket has 107 bytes at most."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


class _Zygote:
    """The listener and the lifelines of those that were forked."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._lifelines: dict[int, tuple[Channel, int]] = {}
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)

    def run(self) -> None:
        """Fork on request, and kill whose lifeline is cut."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._listener.fileno():
                    self._fork(self._listener.accept()[0])
                else:
                    self._end(descriptor)

    def _fork(self, end: socket.socket) -> None:
        """Fork one child for a request; a malformed one is dropped."""
        lifeline = Channel(end)
        try:
            message, descriptors = lifeline.receive(_REQUEST_S)
        except (ChannelClosed, ChannelTimedOut):
            lifeline.close()
            return
        role = ROLES.get(str(message.get("role")))
        if role is None or len(descriptors) != 2:  # noqa: PLR2004 - the channel and the log
            lifeline.close()
            return
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = self._become(role, lifeline, descriptors)
            except BaseException:  # noqa: BLE001 - told in the log that its supervisor quotes
                traceback.print_exc()
            finally:  # a fork must never go on as a second zygote
                sys.stderr.flush()
                os._exit(code)
        pidfd = os.pidfd_open(child)
        self._lifelines[lifeline.fileno()] = (lifeline, pidfd)
        self._poll.register(lifeline.fileno(), select.POLLIN)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChannelClosed):
            lifeline.send({"pid": child}, (pidfd,))

    def _end(self, descriptor: int) -> None:
        lifeline, pidfd = self._lifelines.pop(descriptor)
        self._poll.unregister(descriptor)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        lifeline.close()

    def _become(self, role: str, lifeline: Channel, descriptors: list[int]) -> int:
        """Turn the child into what was asked for; it keeps nothing of the zygote's."""
        self._listener.close()
        lifeline.close()
        for other, pidfd in self._lifelines.values():
            other.close()
            os.close(pidfd)
        channel, log = descriptors
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        serve: Callable[[int], int] = importlib.import_module(role).main
        return serve(channel)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
