"""The worker process against a broker that the test plays, message by message."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zmq

from gpu_runner import wire
from gpu_runner.endpoint import router
from gpu_runner.message import digest_of
from gpu_runner.outcomes import cancelled
from gpu_runner.spool import Spool, write_outcome
from gpu_runner.wire import Held, Inbox
from tests.gpu_runner.executors import EXECUTOR, executions, is_alive, make_built, make_job

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
TERMS: dict[str, Any] = {"epoch": 1, "beat_s": 0.1, "lease_s": 20.0}

pytestmark = pytest.mark.processes


class Stage:
    """A ROUTER and one worker process connected to it."""

    def __init__(self, workspace, *more):
        self.workspace = workspace
        self.endpoint = f"ipc://{workspace}/bus"
        self.context = zmq.Context()
        self.open()
        command = [sys.executable, "-m", "gpu_runner.cli", "worker", "--name", "w1"]
        command += ["--endpoint", self.endpoint, "--workspace", str(workspace)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.log = (workspace / "worker.log").open("wb")
        self.process = subprocess.Popen(
            [*command, "--executor", EXECUTOR, *more], env=environment, stderr=self.log
        )
        self.inbox = Inbox(wire.TO_BROKER)
        self.peer = b""

    def open(self):
        self.socket = router(self.context, self.endpoint)
        self.socket.setsockopt(zmq.RCVTIMEO, 15_000)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.socket.close(linger=0)
        self.context.term()

    def receive(self, kind):
        """The next message of a kind; beats are answered on the way."""
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            self.peer, *frames = self.socket.recv_multipart()
            message = self.inbox.parse(frames)
            if isinstance(message, wire.Beat):
                self.send(wire.Pong(seq=message.seq))
            if isinstance(message, kind):
                return message
        msg = f"no {kind} came"
        raise AssertionError(msg)

    def send(self, message):
        self.socket.send_multipart([self.peer, *wire.encode(message)])

    def welcome(self, **changes):
        hello = self.receive(wire.Hello)
        self.send(wire.Welcome(seq=hello.seq, **{**TERMS, **changes}))
        return hello

    def lease(self, order="answer", token=1, job_id="job", **changes):
        job = make_job(job_id, order, **changes)
        self.send(wire.Lease(token=token, job=job))
        return job

    def done(self):
        """The next outcome, acknowledged."""
        done = self.receive(wire.Done)
        job_id, token = done.outcome.job_id, done.token
        self.send(wire.Ack(job_id=job_id, token=token, is_accepted=True))
        self.become_idle()
        return done

    def become_idle(self):
        give_up_s = time.monotonic() + PATIENCE_S
        while self.receive(wire.Beat).running:
            assert time.monotonic() < give_up_s

    def daemon(self):
        """The pid of what a job left below itself; the file is taken away."""
        path = self.workspace / "daemon"
        give_up_s = time.monotonic() + PATIENCE_S
        while not path.exists():
            assert time.monotonic() < give_up_s
            self.receive(wire.Beat)
        pid = int(path.read_text())
        path.unlink()
        return pid

    def log_text(self):
        return (self.workspace / "worker.log").read_text()


@pytest.fixture
def stage(tmp_path):
    stages = []

    def build(*more):
        stages.append(Stage(tmp_path, *more))
        return stages[-1]

    yield build
    for each in stages:
        each.close()


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """One worker for all tests that leave it idle; every test uses its own job ids."""
    stage = Stage(tmp_path_factory.mktemp("worker"), "--grace-s", "0")
    stage.welcome()
    yield stage
    stage.close()


def test_an_outcome_is_owed_until_it_is_acknowledged(worker):
    job = worker.lease(token=3, job_id="owed")
    assert worker.receive(wire.Started) == wire.Started(job_id="owed", token=3)
    done = wire.Done(token=3, outcome=make_built("owed"))
    assert worker.receive(wire.Done) == done
    held = Held(job_id="owed", token=3, spec_digest=digest_of(job))
    assert worker.receive(wire.Beat).running == (held,)
    worker.send(wire.Who())
    hello = worker.welcome()
    assert (hello.worker, hello.running) == ("w1", (held,))
    assert "owed" in hello.spooled
    assert worker.done() == done


def test_a_spooled_outcome_answers_a_lease_and_another_job_of_its_id_does_not_run(worker):
    job = make_job("spooled")
    path = Spool(worker.workspace).path("spooled")
    write_outcome(path, make_built("spooled"), spec_digest=digest_of(job), token=1)
    worker.lease(token=8, job_id="spooled")
    assert worker.done() == wire.Done(token=8, outcome=make_built("spooled"))
    worker.lease("sleep 1", token=9, job_id="spooled")
    outcome = worker.done().outcome
    assert outcome.cause == "internal_error"
    assert "has an outcome for another job" in outcome.message
    assert "spooled" not in executions(worker.workspace, "started")


def test_a_damaged_spool_file_lets_the_job_run_again(worker):
    path = Spool(worker.workspace).path("damaged")
    job = make_job("damaged")
    write_outcome(path, make_built("damaged"), spec_digest=digest_of(job), token=1)
    path.write_bytes(path.read_bytes()[:-20])
    worker.lease(token=2, job_id="damaged")
    assert worker.done() == wire.Done(token=2, outcome=make_built("damaged"))
    assert executions(worker.workspace).count("damaged") == 1
    assert len(list((worker.workspace / "spool" / "quarantine").iterdir())) == 1


def test_a_worker_beats_while_its_child_works_and_keeps_it_under_a_new_token(worker):
    job = worker.lease("await go", token=1, job_id="long")
    worker.receive(wire.Started)
    first, second = (worker.receive(wire.Beat) for _ in range(2))
    assert (second.seq, second.heard) == (first.seq + 1, first.seq)
    assert second.running == (Held(job_id="long", token=1, spec_digest=digest_of(job)),)
    worker.lease("await go", token=2, job_id="long")
    assert worker.receive(wire.Started).token == 2
    (worker.workspace / "go").touch()
    assert worker.done().token == 2
    assert executions(worker.workspace, "started").count("long") == 1


def test_an_aborted_job_is_killed_with_everything_below_it(worker):
    worker.lease("hang", job_id="aborted")
    daemon = worker.daemon()
    worker.send(wire.Abort(job_id="aborted", token=1))
    assert worker.done().outcome.cause == "cancelled"
    assert not is_alive(daemon)


def test_an_abort_for_a_job_that_never_came_is_answered(worker):
    worker.send(wire.Abort(job_id="never-leased", token=4))
    assert worker.done() == wire.Done(token=4, outcome=cancelled("never-leased"))


def test_a_job_over_its_time_is_killed_and_the_next_one_served(worker):
    worker.lease("hang", job_id="slow", timeout_s=1.0)
    assert worker.done().outcome.cause == "timed_out"
    # On a busy machine the time may be over before the job has come to its daemon.
    note = worker.workspace / "daemon"
    assert not note.exists() or not is_alive(worker.daemon())
    worker.lease(token=2, job_id="next")
    assert worker.done().outcome == make_built("next")


def test_an_execution_that_is_not_wanted_is_killed_in_silence(worker):
    worker.lease("fork", job_id="unwanted")
    daemon = worker.daemon()
    worker.send(wire.Who())
    hello = worker.receive(wire.Hello)
    worker.send(wire.Welcome(seq=hello.seq, drop=hello.running, **TERMS))
    worker.become_idle()
    assert not is_alive(daemon)


def test_a_second_lease_for_the_one_slot_asks_for_a_new_picture(worker):
    worker.lease("await later", job_id="first")
    worker.receive(wire.Started)
    worker.lease(token=2, job_id="second")
    assert [held.job_id for held in worker.welcome().running] == ["first"]
    (worker.workspace / "later").touch()
    assert worker.done().outcome == make_built("first")


def test_an_outcome_too_large_for_the_wire_says_so(worker):
    worker.lease(f"much {17 << 20}", job_id="large")
    outcome = worker.done().outcome
    assert (outcome.cause, outcome.is_retryable) == ("internal_error", False)
    assert "larger than the job bus carries" in outcome.message


def test_a_lease_from_before_the_last_hello_is_not_started(worker):
    worker.send(wire.Who())
    hello = worker.receive(wire.Hello)
    worker.send(wire.Welcome(seq=hello.seq - 1, **TERMS))
    worker.lease(job_id="stale")
    worker.send(wire.Welcome(seq=hello.seq, **TERMS))
    worker.lease(token=2, job_id="fresh")
    assert worker.done().outcome == make_built("fresh")
    assert "stale" not in executions(worker.workspace, "started")


def test_nonsense_from_a_broker_is_ignored(worker):
    worker.receive(wire.Beat)
    worker.socket.send_multipart([worker.peer, wire.MAGIC, b"\xff"])
    for _ in range(2):
        worker.receive(wire.Beat)
    assert "message refused reason=body" in worker.log_text()


def test_a_worker_that_is_not_answered_kills_its_job_before_the_lease_is_over(stage):
    worker = stage()
    worker.welcome(lease_s=1.0)
    worker.lease("fork")
    daemon = worker.daemon()
    give_up_s = time.monotonic() + 10
    while is_alive(daemon):
        assert time.monotonic() < give_up_s
        worker.socket.recv_multipart()  # heard, and not answered
    assert "no broker for a lease" in worker.log_text()


def test_a_drained_worker_finishes_its_job_and_leaves(stage, tmp_path):
    worker = stage()
    worker.welcome()
    worker.lease("await go")
    worker.receive(wire.Started)
    worker.process.send_signal(signal.SIGUSR1)
    worker.receive(wire.Drain)
    (tmp_path / "go").touch()
    worker.receive(wire.Done)
    worker.send(wire.Ack(job_id="job", token=1, is_accepted=True))
    worker.receive(wire.Bye)
    assert worker.process.wait(10) == 0


def test_a_stopped_worker_takes_its_job_along_and_says_goodbye(stage):
    worker = stage()
    worker.welcome()
    worker.lease("fork")
    daemon = worker.daemon()
    worker.process.terminate()
    worker.receive(wire.Bye)
    assert worker.process.wait(10) == 0
    assert not is_alive(daemon)


def test_a_name_in_use_is_asked_for_again_and_a_refusal_ends_the_worker(stage):
    worker = stage()
    first = worker.receive(wire.Hello)
    worker.send(wire.Busy(retry_after_s=0.05))
    assert worker.receive(wire.Hello).incarnation == first.incarnation
    worker.send(wire.Refused(code=wire.Refusal.PROTOCOL, message="install one version"))
    assert worker.process.wait(10) == 3
    assert "the broker refuses what this worker sends: install one version" in worker.log_text()


def test_a_worker_whose_device_is_unhealthy_leaves_service(stage):
    worker = stage()
    worker.welcome()
    worker.lease("unhealthy")
    worker.receive(wire.Drain)
    done = worker.receive(wire.Done)
    assert (done.outcome.cause, done.outcome.is_retryable) == ("unhealthy_device", True)
    worker.lease(token=2, job_id="late")  # sent before the broker heard of it
    late = worker.receive(wire.Done)
    assert (late.outcome.job_id, late.outcome.cause) == ("late", "unhealthy_device")
    assert executions(worker.workspace, "started") == ["job"]
    for job_id, token in (("job", 1), ("late", 2)):
        worker.send(wire.Ack(job_id=job_id, token=token, is_accepted=True))
    worker.receive(wire.Bye)
    assert worker.process.wait(10) == 3
    assert "device GPU-0 is out of service: Xid 79" in worker.log_text()
