"""A worker with several slots: builds run side by side, all else alone; each ends on its own."""

import signal
import time

import pytest

from gpu_runner import wire
from gpu_runner.execution import ExecutionPlan
from gpu_runner.executions import Executions
from gpu_runner.jobs import AnyJob
from gpu_runner.spool import Spool
from gpu_runner.spool_log import SpoolLog
from gpu_runner.supervisors import Supervisors
from gpu_runner.wire import Held
from tests.gpu_runner.executors import EXECUTOR, executions, is_alive, make_check, make_job, seen
from tests.gpu_runner.test_worker import ROOT, Stage

pytestmark = pytest.mark.processes

SLOTS = 3


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """Left idle by every test; each uses its own job ids."""
    stage = Stage(tmp_path_factory.mktemp("slots"), "--slots", str(SLOTS), "--grace-s", "0")
    assert stage.welcome().slots == SLOTS
    yield stage
    stage.close()


def started(stage, *job_ids, order="await"):
    """Lease builds that wait for a file of their name; return when all have begun."""
    for token, job_id in enumerate(job_ids, start=1):
        stage.lease(f"{order} {job_id}.go", token=token, job_id=job_id)
    begun = {stage.receive(wire.Started).job_id for _ in job_ids}
    assert begun == set(job_ids)


def let_go(stage, job_id):
    (stage.workspace / f"{job_id}.go").touch()


def acknowledged(stage):
    done = stage.receive(wire.Done)
    stage.send(wire.Ack(job_id=done.outcome.job_id, token=done.token, is_accepted=True))
    return done


def running(stage):
    return {held.job_id for held in stage.receive(wire.Beat).running}


def test_builds_run_side_by_side_and_each_is_told_when_it_ends(worker):
    started(worker, "b1", "b2", "b3")
    assert running(worker) == {"b1", "b2", "b3"}
    for job_id in ("b2", "b3", "b1"):
        let_go(worker, job_id)
        assert acknowledged(worker).outcome.job_id == job_id
    worker.become_idle()
    assert {"b1", "b2", "b3"} <= set(executions(worker.workspace))


def test_an_abort_ends_its_job_and_no_other(worker):
    started(worker, "a1", "a2")
    worker.send(wire.Abort(job_id="a1", token=1))
    done = acknowledged(worker)
    assert (done.outcome.job_id, done.outcome.cause) == ("a1", "cancelled")
    assert running(worker) == {"a2"}
    let_go(worker, "a2")
    assert acknowledged(worker).outcome.kind == "built"
    worker.become_idle()


def test_what_one_job_leaves_behind_dies_and_its_neighbour_lives(worker):
    started(worker, "n1")
    worker.lease("fork 0.1", token=5, job_id="n2")
    daemon = worker.daemon()
    assert acknowledged(worker).outcome.job_id == "n2"
    assert not is_alive(daemon)
    assert running(worker) == {"n1"}
    let_go(worker, "n1")
    assert acknowledged(worker).outcome.kind == "built"
    worker.become_idle()


def test_one_that_takes_too_long_is_killed_alone(worker):
    started(worker, "t1")
    worker.lease("sleep 60", token=5, job_id="t2", timeout_s=0.5)
    done = acknowledged(worker)
    assert (done.outcome.job_id, done.outcome.cause) == ("t2", "timed_out")
    let_go(worker, "t1")
    assert acknowledged(worker).outcome.kind == "built"
    worker.become_idle()


@pytest.mark.parametrize("first", ["build", "check"])
def test_what_owns_the_worker_shares_it_with_nobody_whatever_the_broker_says(worker, first):
    """A lease that does not fit is not run: the worker registers again and says what it has."""
    names = [f"own-{first}-build", f"own-{first}-check"]
    orders = {name: f"await {name}.go" for name in names}
    jobs: list[AnyJob] = [
        make_job(names[0], orders[names[0]]),
        make_check(names[1], orders[names[1]]),
    ]
    if first == "check":
        jobs.reverse()
    worker.send(wire.Lease(token=1, job=jobs[0]))
    assert worker.receive(wire.Started).job_id == jobs[0].job_id
    worker.send(wire.Lease(token=2, job=jobs[1]))
    hello = worker.welcome()
    assert [held.job_id for held in hello.running] == [jobs[0].job_id]
    let_go(worker, jobs[0].job_id)
    assert acknowledged(worker).outcome.job_id == jobs[0].job_id
    worker.become_idle()


def test_no_more_run_than_there_are_slots(worker):
    names = [f"full{number}" for number in range(SLOTS)]
    started(worker, *names)
    worker.lease("answer", token=9, job_id="full-more")
    assert {held.job_id for held in worker.welcome().running} == set(names)
    for name in names:
        let_go(worker, name)
        acknowledged(worker)
    worker.become_idle()
    assert "full-more" not in executions(worker.workspace, "started")


def test_a_broker_that_drops_one_lease_leaves_the_others(worker):
    started(worker, "d1", "d2")
    worker.send(wire.Who())
    worker.welcome(drop=(Held(job_id="d1", token=1, spec_digest="0" * 64),))
    assert running(worker) == {"d2"}
    let_go(worker, "d2")
    assert acknowledged(worker).outcome.job_id == "d2"
    worker.become_idle()


def test_all_are_killed_before_their_leases_end_and_a_drain_waits_for_all(tmp_path):
    stage = Stage(tmp_path, "--slots", "2")
    try:
        stage.welcome(lease_s=2.0)
        started(stage, "f1", "f2")
        give_up_s = time.monotonic() + 20
        while "jobs killed" not in stage.log_text() and time.monotonic() < give_up_s:
            time.sleep(0.05)  # no beat is answered meanwhile
        assert "jobs killed jobs=f1,f2" in stage.log_text()
        assert executions(tmp_path) == []
        stage.send(wire.Who())
        stage.welcome()
        started(stage, "e1", "e2")
        stage.process.send_signal(signal.SIGUSR1)
        stage.receive(wire.Drain)
        for name in ("e1", "e2"):
            let_go(stage, name)
            acknowledged(stage)
        stage.receive(wire.Bye)
        assert stage.process.wait(20) == 0
        assert sorted(executions(tmp_path)) == ["e1", "e2"]
    finally:
        stage.close()


def test_outcomes_that_cannot_be_kept_are_not_told_as_done(tmp_path, monkeypatch):
    """The log is closed under it, as of a disk that fails; the job may be asked for again."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    spool = Spool(tmp_path)
    log = SpoolLog(spool, "w1")
    plan = ExecutionPlan(workspace=tmp_path, executor=EXECUTOR, slots=2, is_flushed=False)
    lock = spool.lock("w1", patience_s=0)
    running_here = Executions(plan, spool, log, Supervisors(), frozenset(), lock)
    execution = running_here.begin(make_job("k1"), 1)
    assert [running_here.has_room(job) for job in (make_job("k2"), make_check("k3"))] == [
        True,
        False,
    ]
    log.close()
    assert execution.wait().kind == "built"
    ((ended, outcome),) = running_here.finish([execution])
    assert ended is execution
    assert (seen(outcome).kind, seen(outcome).is_retryable) == ("unserved", True)
    assert len(running_here) == 0
