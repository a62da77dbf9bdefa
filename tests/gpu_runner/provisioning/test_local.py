"""Workers of this machine: started once, found again, drained, stopped, never mistaken."""

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gpu_runner.cli import app
from gpu_runner.client import BusClient
from gpu_runner.errors import PoolError
from gpu_runner.host import bubblewrap
from gpu_runner.provisioning.local import LocalEngine, _began
from gpu_runner.security.keys import PUBLIC, make_pair
from gpu_runner.security.peer_file import change_peers
from gpu_runner.security.peers import Holder, Role
from tests.gpu_runner import bus_threads
from tests.gpu_runner.provisioning.test_engine import make_plan
from tests.gpu_runner.security.secured import Yard, serving, until

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.processes


def reap():
    """Take leave of ended workers: a test is their parent, the command is not."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    plan = make_plan(pool="w", endpoint=f"ipc://{tmp_path}/bus", workspace=str(tmp_path / "ws"))
    engine = LocalEngine(plan)
    yield engine
    for worker in engine.list().workers:
        engine.stop(worker.name)
    reap()


def states(provision):
    return {worker.name: worker.state for worker in provision.workers}


def pids(provision):
    return [int(worker.place.removeprefix("process ")) for worker in provision.workers]


async def registered(endpoint, **changes):
    client = BusClient(endpoint, patience_s=60, **changes)
    try:
        return await client.environment()
    finally:
        await client.close()


async def test_workers_register_and_outlive_who_started_them(engine, tmp_path):
    with bus_threads.serving(f"ipc://{tmp_path}/bus"):
        first = engine.start(1)
        assert states(first) == {"w-0": "running"}
        await registered(f"ipc://{tmp_path}/bus")
        again = LocalEngine(engine._plan).start(2)
        assert states(again) == {"w-0": "running", "w-1": "running"}
        assert pids(again)[0] == pids(first)[0]
        assert os.getsid(pids(first)[0]) == pids(first)[0]


def test_a_worker_that_is_stopped_is_gone_and_can_be_started_again(engine):
    before = pids(engine.start(1))
    assert states(engine.stop("w-0")) == {"w-0": "ended"}
    reap()
    assert _began(before[0]) is None
    after = engine.start(1)
    assert states(after) == {"w-0": "running"}
    assert pids(after) != before


async def test_a_drained_worker_ends_by_itself(engine, tmp_path):
    with bus_threads.serving(f"ipc://{tmp_path}/bus"):
        engine.start(1)
        await registered(f"ipc://{tmp_path}/bus")
        engine.drain("w-0")
        until(lambda: states(engine.list()) == {"w-0": "ended"}, patience_s=30)


def test_a_worker_that_was_killed_is_seen_as_ended(engine):
    (pid,) = pids(engine.start(1))
    os.kill(pid, signal.SIGKILL)
    until(lambda: states(engine.list()) == {"w-0": "ended"})
    assert states(engine.stop("w-0")) == {"w-0": "ended"}


def test_another_process_of_the_same_number_is_left_alone(engine, tmp_path):
    """The note names a process that lives, but began at another time."""
    other = subprocess.Popen(["sleep", "300"])
    home = tmp_path / "ws" / "w-0"
    home.mkdir(parents=True)
    note = {"pid": other.pid, "began": (_began(other.pid) or 0) + 1}
    (home / "provision.json").write_text(json.dumps(note))
    try:
        assert states(engine.list()) == {"w-0": "ended"}
        assert states(engine.stop("w-0")) == {"w-0": "ended"}
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_worker_that_nobody_started_is_named_with_those_that_are(engine):
    for deed in (engine.stop, engine.drain):
        with pytest.raises(PoolError, match="no worker 'x-9' was started here; known: none"):
            deed("x-9")
    assert engine.list().workers == ()


def test_each_worker_has_the_gpu_of_its_number(engine, tmp_path):
    plan = engine._plan.model_copy(update={"gpus": 1})
    for pid, expected in zip(pids(LocalEngine(plan).start(2)), (True, False), strict=True):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert (b"CUDA_VISIBLE_DEVICES=0" in variables) == expected


@pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap")
async def test_workers_with_keys_come_in_once_they_are_enrolled(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yard = Yard(tmp_path / "yard")
    mine = yard.enrolled("run")
    with serving(yard) as broker:
        started = CliRunner().invoke(
            app,
            [
                *("provision", "start", "--endpoint", broker.endpoint, "--json"),
                *("--workspace", str(tmp_path / "ws"), "--pool", "w"),
                *("--keys", str(tmp_path / "keys"), "--broker-key", yard.public),
            ],
        )
        assert json.loads(started.output)["workers"][0]["state"] == "running"
        key = (tmp_path / "keys" / "w-0" / PUBLIC).read_text().strip()
        assert make_pair(tmp_path / "keys" / "w-0")[0].public == key
        holder = Holder(key=key, role=Role.WORKER, name="w-0")
        change_peers(yard.broker, lambda allowed: allowed.enrolled(holder))
        try:
            assert (await registered(broker.endpoint, keys=mine)).cores > 0
        finally:
            done = CliRunner().invoke(
                app,
                ["provision", "stop", "w-0", "--workspace", str(tmp_path / "ws"), "--pool", "w"],
            )
            reap()
    assert done.output.split()[:2] == ["w-0", "ended"]


def test_a_folder_that_is_in_use_is_waited_for_and_said(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_runner.provisioning.local._LOCK_PATIENCE_S", 0.05)
    from gpu_runner.lock import lock_file  # noqa: PLC0415 - beside its use

    (tmp_path / "ws").mkdir()
    lock = lock_file(tmp_path / "ws" / "provision.lock", patience_s=0)
    begun_s = time.monotonic()
    with pytest.raises(PoolError, match="is in use by process"):
        engine.start(1)
    os.close(lock)
    assert time.monotonic() > begun_s
