"""What a local pool gives its processes, before any is started."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from gpu_runner.errors import PoolError
from gpu_runner.local import _KEPT_VARIABLES, LocalPlan, LocalPool


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CACHE_HOME", "PYTHONPATH", "CXX"),
        *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
        *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "MKL_NUM_THREADS", "KERNELPILOT_LOG"),
    ],
)
def test_what_a_compiler_or_a_kernel_needs_is_passed_on(name):
    assert _KEPT_VARIABLES.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    [
        *("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"),
        *("SSH_AUTH_SOCK", "LD_PRELOAD", "PATHS", "MY_PATH", "HTTP_PROXY", "path", ""),
    ],
)
def test_keys_and_strangers_stay_here(name):
    assert not _KEPT_VARIABLES.fullmatch(name)


def options(command: list[str]) -> dict[str, str]:
    """Return option to value; every option of these commands has one."""
    start = command.index("--endpoint")
    return dict(zip(command[start::2], command[start + 1 :: 2], strict=True))


def test_commands_run_this_interpreter_away_from_the_current_folder(tmp_path):
    pool = LocalPool(tmp_path, plan=LocalPlan(executor="m:f", grace_s=3.5))
    for word, command in (
        ("broker", pool._broker_command("ipc:///x")),
        ("worker", pool._worker_command("ipc:///x", "local-0")),
    ):
        assert command[:5] == [sys.executable, "-P", "-m", "gpu_runner.cli", word]
        assert options(command)["--endpoint"] == "ipc:///x"
        assert options(command)["--parent"] == str(os.getpid())


def test_the_plan_reaches_the_processes(tmp_path):
    plan = LocalPlan(executor="m:f", grace_s=3.5, beat_s=0.25, lease_s=7)
    pool = LocalPool(tmp_path / "a" / ".." / "state", workers=3, plan=plan)
    broker = options(pool._broker_command("ipc:///x"))
    assert broker["--state"] == str(tmp_path / "state")
    assert (broker["--workers"], broker["--beat-s"], broker["--lease-s"]) == ("3", "0.25", "7")
    worker = options(pool._worker_command("ipc:///x", "local-2"))
    assert worker["--workspace"] == broker["--state"]
    assert (worker["--name"], worker["--executor"], worker["--grace-s"]) == (
        "local-2",
        "m:f",
        "3.5",
    )


@pytest.fixture
def short(tmp_path, monkeypatch):
    """A short folder for sockets that is removed after the test."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="kp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_a_socket_has_a_private_folder_that_is_noted(tmp_path, short):
    pool = LocalPool(tmp_path)
    endpoint = pool._make_endpoint()
    folder = Path((tmp_path / "socket_folder").read_text())
    assert endpoint == f"ipc://{folder}/bus"
    assert folder.parent == short
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_folder_of_a_killed_pool_is_removed(tmp_path, short):
    LocalPool(tmp_path)._make_endpoint()
    old = Path((tmp_path / "socket_folder").read_text())
    (old / "bus").write_text("left behind")
    LocalPool(tmp_path)._make_endpoint()
    assert not old.exists()
    assert len(list(short.iterdir())) == 1


@pytest.mark.parametrize("note", ["precious", "", "../precious", "no/such/kernelpilot-x"])
def test_a_note_that_names_something_else_removes_nothing(tmp_path, short, monkeypatch, note):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work").write_text("years")
    (tmp_path / "socket_folder").write_text(note)
    LocalPool(tmp_path)._make_endpoint()
    assert (tmp_path / "precious" / "work").read_text() == "years"


async def test_a_closed_pool_answers_nobody_and_may_be_closed_again(tmp_path):
    pool = LocalPool(tmp_path)
    assert dict(pool.pids) == {}
    await pool.close()
    await pool.close()
    with pytest.raises(PoolError, match="not open"):
        await pool.environment()
