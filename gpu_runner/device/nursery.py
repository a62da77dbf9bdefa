"""The worker's zygote: started beside it, and ended with it."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_runner.device.machine import identities
from gpu_runner.device.zygote import SOCKET

_END_S = 5.0


@contextmanager
def zygote(workspace: Path) -> Iterator[frozenset[int]]:
    """Keep a zygote for the jobs of a workspace, where there is a device and torch for it.

    Jobs do without one too, only slower: nothing waits for it, and nothing fails with it. Gives
    its pid, for whoever kills what jobs leave behind.
    """
    if not identities() or importlib.util.find_spec("torch") is None:
        yield frozenset()
        return
    workspace.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "gpu_runner.device.zygote", str(workspace), str(os.getpid())]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
        try:
            yield frozenset({process.pid})
        finally:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
            (workspace / SOCKET).unlink(missing_ok=True)
