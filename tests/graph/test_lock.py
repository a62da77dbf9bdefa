"""One process at a time."""

import os
import subprocess
import sys

import pytest

from graph.errors import RunLocked
from graph.lock import holder, locked, refuse_held

_HOLD = """
import sys
from pathlib import Path
from graph.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_told_who_the_first_one_is(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(RunLocked, match=f"process {os.getpid()}"),
        locked(tmp_path),
    ):
        pass


def test_the_lock_is_free_after_the_block(tmp_path):
    with locked(tmp_path):
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None
    with locked(tmp_path):
        pass


def test_whoever_only_asks_is_told_the_same_and_takes_nothing(tmp_path):
    refuse_held(tmp_path)
    with locked(tmp_path), pytest.raises(RunLocked, match=f"process {os.getpid()}"):
        refuse_held(tmp_path)
    refuse_held(tmp_path)
    with locked(tmp_path):
        pass


def test_the_lock_makes_the_directory(tmp_path):
    with locked(tmp_path / "new"):
        assert holder(tmp_path / "new") == os.getpid()


def test_a_directory_without_a_lock_is_held_by_nobody(tmp_path):
    assert holder(tmp_path / "none") is None


@pytest.mark.processes
def test_the_lock_dies_with_its_holder(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert holder(tmp_path) == child.pid
        with pytest.raises(RunLocked, match=str(child.pid)), locked(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
        child.communicate()
    assert holder(tmp_path) is None
    with locked(tmp_path):
        pass
