"""The device zygote: it has imported torch and not touched CUDA, and forks device processes.

A fresh interpreter with torch and CUDA is ready after 4 s, a fork of this one after 0.3 s (H200).
`python -m gpu_runner.device.zygote FOLDER PARENT` listens on a Unix socket in the folder, where
the supervisors of jobs find it. Ends with the worker that started it.
"""

import importlib
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from gpu_runner import rendezvous
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
    return rendezvous.listening(folder / SOCKET)


def connect(folder: Path, timeout_s: float) -> socket.socket | None:
    """Return a connection to the zygote that listens in the folder; None where none does."""
    return rendezvous.connect(folder / SOCKET, timeout_s)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
