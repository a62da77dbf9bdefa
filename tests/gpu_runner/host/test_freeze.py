"""Freezing real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu_runner.host.freeze import Freezer

pytestmark = pytest.mark.processes

SPINNING = """
import sys, threading
def spin():
    while True:
        sum(range(100))
for _ in range(int(sys.argv[1])):
    threading.Thread(target=spin, daemon=True).start()
print("spins", flush=True)
spin()
"""
SLEEPING = "import sys; print('sleeps', flush=True); sys.stdin.read()"
MAKING_THREADS = """
import threading
print("makes", flush=True)
while True:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
"""
WAKING_ITSELF = """
import os, signal, threading
def wake():
    while True:
        os.kill(os.getpid(), signal.SIGCONT)
threading.Thread(target=wake, daemon=True).start()
print("wakes", flush=True)
wake()
"""


class Running:
    """A Python process that has printed its first line."""

    def __init__(self, text, *words):
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", text, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline()
        self.freezer = Freezer(self.process.pid)

    def __enter__(self):
        return self.freezer

    def __exit__(self, *unused):
        self.freezer.close()
        self.process.kill()
        self.process.communicate()


def states(pid):
    """The state letter of every thread."""
    texts = [p.read_bytes() for p in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {text.rpartition(b")")[2].split()[0] for text in texts}


@pytest.mark.parametrize(("text", "words"), [(SPINNING, ["0"]), (SPINNING, ["3"]), (SLEEPING, [])])
def test_every_thread_is_stopped_when_stop_returns(text, words):
    with Running(text, *words) as freezer:
        for _ in range(20):
            freezer.stop(5)
            assert states(freezer.pid) == {b"T"}
            freezer.resume()


def test_threads_that_come_and_go_are_caught():
    with Running(MAKING_THREADS) as freezer:
        for _ in range(20):
            freezer.stop(5)
            assert states(freezer.pid) <= {b"T", b"Z", b"X"}
            freezer.settle()
            time.sleep(0.002)
            assert not freezer.has_run
            freezer.resume()
            time.sleep(0.001)


def test_process_that_wakes_itself_is_stopped_in_the_end():
    with Running(WAKING_ITSELF) as freezer:
        freezer.stop(10)
        assert states(freezer.pid) == {b"T"}


def test_frozen_process_uses_no_processor_time():
    with Running(SPINNING, "2") as freezer:
        for _ in range(20):
            freezer.stop(5)
            settled = freezer.settle()
            time.sleep(0.003)
            assert freezer.cpu_ns == settled
            assert not freezer.has_run
            freezer.resume()
            time.sleep(0.002)


def test_process_woken_by_somebody_else_is_noticed():
    with Running(SPINNING, "0") as freezer:
        freezer.stop(5)
        freezer.settle()
        os.kill(freezer.pid, signal.SIGCONT)
        time.sleep(0.02)
        os.kill(freezer.pid, signal.SIGSTOP)
        time.sleep(0.02)
        assert freezer.has_run


def test_processor_time_counts_all_threads():
    with Running(SPINNING, "1") as freezer:
        freezer.stop(5)
        before = freezer.settle()
        freezer.resume()
        time.sleep(0.1)
        freezer.stop(5)
        assert freezer.settle() - before > 1_000_000


def test_dead_process_is_known_and_stopping_it_returns():
    with Running(SLEEPING) as freezer:
        assert not freezer.is_dead_within(0)
        os.kill(freezer.pid, signal.SIGKILL)
        os.waitpid(freezer.pid, 0)
        assert freezer.is_dead_within(0)
        freezer.stop(1)
        freezer.resume()
        assert freezer.settle() == freezer.cpu_ns


def test_process_that_is_gone_cannot_be_opened():
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(ProcessLookupError):
        Freezer(process.pid)


def test_no_descriptor_is_left_behind():
    def descriptors():
        return sorted(path.name for path in Path("/proc/self/fd").iterdir())

    before = descriptors()
    with Running(MAKING_THREADS) as freezer:
        for _ in range(5):
            freezer.stop(5)
            freezer.resume()
    assert descriptors() == before
