"""Landlock: what a confined process can still do."""

import os
import subprocess
import sys

import pytest

from gpu_runner.host import landlock

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(landlock.version() == 0, reason="needs Landlock"),
]

CONFINED = """
import ctypes
import os
import runpy
import sys
module = runpy.run_path({path!r})
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
module["restrict"]([{allowed!r}])
{body}
"""


def confined(body, allowed):
    text = CONFINED.format(path=landlock.__file__, allowed=str(allowed), body=body)
    return subprocess.run(
        [sys.executable, "-I", "-c", text], capture_output=True, text=True, check=False
    )


def test_writes_end_at_the_named_folders(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "old").write_text("old")
    body = f"""
for action in (
    lambda: open({str(outside)!r} + "/new", "w"),
    lambda: open({str(outside)!r} + "/old", "a"),
    lambda: os.remove({str(outside)!r} + "/old"),
    lambda: os.mkdir({str(outside)!r} + "/made"),
    lambda: os.rename({str(outside)!r} + "/old", {str(inside)!r} + "/old"),
    lambda: os.symlink("/", {str(outside)!r} + "/link"),
):
    try:
        action()
    except OSError:
        pass
    else:
        print("allowed")
open({str(inside)!r} + "/new", "w").write("x")
os.mkdir({str(inside)!r} + "/made")
os.rmdir({str(inside)!r} + "/made")
print(open({str(outside)!r} + "/old").read(), open("/dev/null", "w").write("x"))
"""
    finished = confined(body, inside)
    assert (finished.stdout, finished.stderr) == ("old 1\n", "")
    assert [p.name for p in outside.iterdir()] == ["old"]
    assert [p.name for p in inside.iterdir()] == ["new"]


def test_memory_of_other_processes_is_out_of_reach(tmp_path):
    finished = confined(f"open('/proc/{os.getpid()}/mem', 'rb')", tmp_path)
    assert "PermissionError" in finished.stderr


@pytest.mark.skipif(landlock.version() < 6, reason="needs the scope of signals")
def test_other_processes_get_no_signals(tmp_path):
    finished = confined(f"os.kill({os.getpid()}, 0)", tmp_path)
    assert "PermissionError" in finished.stderr
