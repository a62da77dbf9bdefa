"""A broker as a process with a state directory, killed and started as a test wants."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

_NOTICED_S = 0.5

ROOT = Path(__file__).parents[2]


class BrokerProcess:
    """`with BrokerProcess(folder) as broker`: serves at `broker.endpoint` until the block ends."""

    def __init__(self, folder, *more, endpoint="", before=(), most_file_bytes=None):
        self.folder = folder
        self.endpoint = endpoint or f"ipc://{folder}/bus"
        self.before = before
        self.more = more
        self.most_file_bytes = most_file_bytes

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def start(self):
        command = [*self.before, sys.executable, "-m", "gpu_runner.cli", "broker"]
        command += [
            "--endpoint",
            self.endpoint,
            "--state",
            str(self.folder / "state"),
            *map(str, self.more),
        ]
        (self.folder / "state").mkdir(exist_ok=True)
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=log
            )
        if self.most_file_bytes is not None:
            limits = (self.most_file_bytes, self.most_file_bytes)
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limits)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        # What a peer sends before it has noticed is lost with the connection.
        time.sleep(_NOTICED_S)

    @property
    def log(self):
        return (self.folder / "broker.log").read_text()
