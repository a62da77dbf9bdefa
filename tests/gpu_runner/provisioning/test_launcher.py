"""What keeps a worker running: it is started again, found again, drained, and nobody's child."""

import os
import signal
from pathlib import Path

import pytest

from gpu_runner.errors import PoolError
from gpu_runner.provisioning.engine import Provisioned
from gpu_runner.provisioning.launcher import Launcher, own_variables
from gpu_runner.provisioning.local import LocalEngine
from gpu_runner.provisioning.placed import Placement, place
from tests.gpu_runner.provisioning.test_engine import make_plan
from tests.gpu_runner.security.secured import until

ROOT = Path(__file__).parents[3]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("gpu_runner.provisioning.launcher._LOOK_S", 0.1)
    plan = make_plan(pool="w", endpoint=f"ipc://{tmp_path}/bus", workspace=str(tmp_path / "ws"))
    yield plan
    engine = LocalEngine(plan)
    for worker in engine.list().workers:
        engine.stop(worker.name)


def seen(launcher):
    return Provisioned.model_validate_json(launcher.seen())


def pid_of(launcher):
    place = seen(launcher).place
    return int(place.split()[1]) if place.startswith("process") else 0


@pytest.mark.processes
def test_a_worker_is_started_again_found_by_the_next_launcher_and_stopped(plan):
    first = Launcher(plan.model_dump_json(), 3, where=lambda: "here")
    until(lambda: pid_of(first), patience_s=30)
    assert seen(first).name == "w-3"
    assert seen(first).place.endswith(" on here")
    before = pid_of(first)
    parent = Path(f"/proc/{before}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) != os.getpid()
    os.kill(before, signal.SIGKILL)
    until(lambda: pid_of(first) not in {0, before}, patience_s=30)
    after = pid_of(first)
    first.close()
    next_one = Launcher(plan.model_dump_json(), 3)
    assert pid_of(next_one) == after, "it went on without a launcher and is not started twice"
    next_one.stop()
    assert seen(next_one) == Provisioned(name="w-3", state="ended", place="")


@pytest.mark.processes
def test_a_drained_worker_is_not_started_again_and_its_place_is_given_back(plan):
    over: list[bool] = []
    launcher = Launcher(plan.model_dump_json(), 0, when_over=lambda: over.append(True))
    until(lambda: pid_of(launcher), patience_s=30)
    pid = pid_of(launcher)
    launcher.drain()
    os.kill(pid, signal.SIGKILL)  # before its handlers are there a drain does not end it
    until(lambda: over, patience_s=30)
    assert seen(launcher).state == "ended"


def test_what_keeps_a_worker_from_starting_is_said_and_tried_again(plan, tmp_path):
    (tmp_path / "ws").write_text("a file where the folder should be")
    launcher = Launcher(plan.model_dump_json(), 0)
    until(lambda: "could not be started" in seen(launcher).place, patience_s=30)
    launcher.close()
    with pytest.raises(PoolError, match=r"worker w-0 could not be started: .*cannot use"):
        place(Placement(plan=plan, number=0))
    (tmp_path / "ws").unlink()


def test_a_worker_gets_no_variable_that_ray_has_set_for_itself():
    variables = {"PATH": "/bin", "RAY_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "3"}
    assert own_variables({**variables, "OMP_NUM_THREADS": "1"}) == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "3",
    }
