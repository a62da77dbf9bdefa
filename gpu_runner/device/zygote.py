"""The zygote: a process that has imported torch and not touched CUDA, and forks device processes.

A fresh interpreter with torch and CUDA is ready after 4 s, a fork of this one after 0.3 s (H200).
`python -m gpu_runner.device.zygote SOCKET PARENT` listens on a Unix socket; each connection sends
one role and one descriptor, and becomes a child that serves it until its peer hangs up. Only
trusted roles are forked here. Ends with the worker that started it.
"""

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable
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
_PRELOADED: Final = ("torch", "numpy", "cuda.bindings.driver")
_BACKLOG: Final = 16
_REQUEST_S: Final = 5.0


def main(path: str, parent: int) -> int:
    """Listen until the parent ends."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    for name in (*_PRELOADED, *ROLES.values()):
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        Path(path).unlink(missing_ok=True)
        listener.bind(path)
        Path(path).chmod(0o600)
        listener.listen(_BACKLOG)
        while True:
            end, _ = listener.accept()
            _fork(listener, end)


def _fork(listener: socket.socket, end: socket.socket) -> None:
    """Fork one child for a request; a malformed one is dropped."""
    request = Channel(end)
    try:
        message, descriptors = request.receive(_REQUEST_S)
    except (ChannelClosed, ChannelTimedOut):
        request.close()
        return
    role = ROLES.get(str(message.get("role")))
    if role is None or len(descriptors) != 2:  # noqa: PLR2004 - the channel and the log
        request.close()
        return
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            listener.close()
            os._exit(_become(role, request, descriptors))
        os._exit(1)
    request.send({"pid": child})
    request.close()
    for descriptor in descriptors:
        os.close(descriptor)


def _become(role: str, request: Channel, descriptors: list[int]) -> int:
    request.close()
    channel, log = descriptors
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent(os.getppid())
    serve: Callable[[int], int] = importlib.import_module(role).main
    return serve(channel)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
