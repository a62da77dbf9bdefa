"""Locks that die with their owner."""

import os
import re
import subprocess
import sys
import threading

import pytest

from gpu_runner.errors import PoolError
from gpu_runner.lock import lock_file
from tests.gpu_runner.executors import seen

HOLD = """
import sys
from pathlib import Path
from gpu_runner.lock import lock_file
lock_file(Path(sys.argv[1]), patience_s=0)
print("held", flush=True)
input()
"""


def test_a_lock_is_exclusive_and_names_its_owner(tmp_path):
    path = tmp_path / "made" / "lock"
    held = lock_file(path, patience_s=0)
    with pytest.raises(PoolError, match=f"{re.escape(str(path))} is in use by process"):
        lock_file(path, patience_s=0)
    assert path.read_text() == str(os.getpid())
    os.close(held)
    os.close(lock_file(path, patience_s=0))


def test_a_lock_is_not_inherited_by_chance(tmp_path):
    held = lock_file(tmp_path / "lock", patience_s=0)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, close_fds=False)
    os.close(held)
    os.close(lock_file(tmp_path / "lock", patience_s=5))  # gone at the child's exec
    assert child.poll() is None
    child.communicate(b"\n")


def test_a_killed_owner_frees_the_lock(tmp_path):
    run = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(run, stdin=-1, stdout=-1) as owner:
        assert seen(owner.stdout).readline() == b"held\n"
        with pytest.raises(PoolError, match=f"process {owner.pid} "):
            lock_file(tmp_path / "lock", patience_s=0)
        owner.kill()
        os.close(lock_file(tmp_path / "lock", patience_s=10))


def test_a_lock_that_is_freed_in_time_is_taken(tmp_path):
    held = lock_file(tmp_path / "lock", patience_s=0)
    timer = threading.Timer(0.1, os.close, (held,))
    timer.start()
    os.close(lock_file(tmp_path / "lock", patience_s=10))
    timer.join()
