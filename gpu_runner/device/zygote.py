"""The device zygote: it has imported torch and not touched CUDA, and forks device processes.

A fresh interpreter with torch and CUDA is ready after 4 s, a fork of this one after 0.3 s (H200).
`python -m gpu_runner.device.zygote FOLDER PARENT` listens on a Unix socket in the folder, where
the supervisors of jobs find it. Ends with the worker that started it.
"""

import contextlib
import importlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gpu_runner.channel import Message
from gpu_runner.process_tree import die_with_parent
from gpu_runner.zygote import Zygote, prepare

ROLES: Final = {
    "launcher": "gpu_runner.device.launcher",
    "oracle": "gpu_runner.device.oracle_process",
    "baseline": "gpu_runner.device.baseline_process",
}
"""Role to module; each has `main(descriptor) -> exit code`."""
SOCKET: Final = "zygote.sock"
_PRELOADED: Final = ("torch", "numpy", "cuda.bindings.driver")
_BACKLOG: Final = 16


def main(folder: Path, parent: int) -> int:
    """Listen until the parent ends."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare((*_PRELOADED, *ROLES.values()))
    with listening(folder) as listener:
        Zygote(listener, lambda source: source.accept()[0], dict.fromkeys(ROLES, _serve)).run()
    return 0


def _serve(request: Message, descriptors: list[int]) -> int:
    (channel,) = descriptors
    return int(importlib.import_module(ROLES[request["role"]]).main(channel))


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


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
