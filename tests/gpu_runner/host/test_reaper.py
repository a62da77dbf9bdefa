"""The stand-in for bubblewrap, as the program it is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu_runner.host import reaper, seccomp

pytestmark = pytest.mark.processes


class Reaped:
    """A command under the reaper, which waits for `go`."""

    def __init__(self, command, *, program=b"", writable=None):
        gate_out, self._gate = os.pipe()
        limits = os.memfd_create("limits")
        os.write(limits, json.dumps({"filter": program.hex(), "writable": writable}).encode())
        os.lseek(limits, 0, os.SEEK_SET)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, str(gate_out), str(limits), *command],
            pass_fds=(gate_out, limits),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.close(gate_out)
        os.close(limits)

    def go(self, byte=b"g"):
        if byte:
            os.write(self._gate, byte)
        os.close(self._gate)
        return self

    def finish(self):
        output, _ = self.process.communicate(timeout=20)
        return self.process.returncode, output


def is_alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.parametrize(
    ("text", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -11 $$", 139)]
)
def test_status_is_the_commands(text, status):
    assert Reaped(["sh", "-c", text]).go().finish() == (status, "")


def test_nothing_starts_before_it_is_told_to(tmp_path):
    reaped = Reaped(["touch", str(tmp_path / "started")])
    time.sleep(0.2)
    assert not (tmp_path / "started").exists()
    assert reaped.go().finish()[0] == 0
    assert (tmp_path / "started").exists()


def test_nothing_starts_when_the_gate_is_closed(tmp_path):
    assert Reaped(["touch", str(tmp_path / "started")]).go(b"").finish()[0] == 1
    assert not (tmp_path / "started").exists()


def test_orphans_end_with_the_command():
    text = "(setsid sleep 60 >/dev/null 2>&1 & echo $!) ; exit 4"
    status, output = Reaped(["sh", "-c", text]).go().finish()
    assert status == 4
    assert not is_alive(int(output))


def test_termination_ends_everything():
    reaped = Reaped(["sh", "-c", "trap '' TERM; setsid sleep 60 & echo $!; sleep 60"]).go()
    orphan = int(reaped.process.stdout.readline())
    reaped.process.terminate()
    assert reaped.finish()[0] == 128 + signal.SIGTERM
    assert not is_alive(orphan)


def test_command_ends_when_the_reaper_is_killed():
    reaped = Reaped(["sh", "-c", "echo $$; exec sleep 60"]).go()
    pid = int(reaped.process.stdout.readline())
    reaped.process.kill()
    reaped.process.communicate()
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(pid)


def test_filter_is_installed():
    text = "import socket; socket.socket()"
    command = [sys.executable, "-I", "-S", "-c", text]
    status, output = Reaped(command, program=seccomp.assemble("base")).go().finish()
    assert status == 1
    assert "PermissionError" in output


def test_command_that_is_missing_is_named():
    assert Reaped(["no-such-command"]).go().finish() == (
        127,
        "no-such-command: No such file or directory\n",
    )
