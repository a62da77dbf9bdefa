"""The zygote beside a worker: one a workspace, ended with it, and it knows nothing."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gpu_runner.host import bubblewrap
from gpu_runner.host.graft import SOCKET, find_zygote
from gpu_runner.host.nursery import nursery
from tests.gpu_runner.executors import is_alive

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap"),
]


def test_it_ends_with_its_block_and_leaves_no_socket(tmp_path):
    with nursery(tmp_path, preloaded=()) as pids:
        (pid,) = pids
        assert is_alive(pid)
        assert (tmp_path / SOCKET).exists()
    assert not is_alive(pid)
    assert not (tmp_path / SOCKET).exists()
    assert find_zygote(tmp_path) is None


def test_the_first_worker_of_a_folder_keeps_it_for_all(tmp_path):
    with nursery(tmp_path, preloaded=()) as first:
        with nursery(tmp_path, preloaded=()) as second:
            assert (len(first), second) == (1, frozenset())
        end = find_zygote(tmp_path)
        assert end is not None
        end.close()
    with nursery(tmp_path, preloaded=()) as third:
        assert len(third) == 1


def test_it_has_no_word_of_the_worker_in_its_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELPILOT_SECRET", "a key")
    with nursery(tmp_path, preloaded=()) as pids:
        (pid,) = pids
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        open_files = set()
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it is starting, and has closed its script
                open_files.add(str(link.readlink()))
    assert open_files
    assert b"KERNELPILOT" not in environment
    assert str(tmp_path) not in "".join(words)
    assert not any(str(tmp_path) in name for name in open_files)


OWNER = """
import sys, time
from pathlib import Path
from gpu_runner.host.nursery import nursery
with nursery(Path(sys.argv[1]), preloaded=()) as pids:
    print(*pids, flush=True)
    time.sleep(300)
"""


def test_it_ends_with_its_owner_however_that_ends_and_another_takes_over(tmp_path):
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    give_up_s = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < give_up_s:
        time.sleep(0.01)
    assert not is_alive(pid)
    assert (tmp_path / SOCKET).exists()
    with nursery(tmp_path, preloaded=()) as pids:
        assert len(pids) == 1


def test_it_imports_nothing_before_it_is_asked(tmp_path):
    """A worker whose jobs need no fork pays a bare interpreter."""
    with nursery(tmp_path) as pids:
        (pid,) = pids
        time.sleep(0.5)
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
        assert os.getpgid(pid) == pid
