"""Which worker gets which job: slots that are shared or owned, tags, drains, spools."""

import pytest

from gpu_runner import wire
from gpu_runner.jobs import Check
from gpu_runner.roster import Roster, tags_of
from tests.builders import make_candidate, make_environment, make_problem, make_workload
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.pool_cases import (
    CLIENT,
    W1,
    W2,
    make_hello,
    make_pool,
    messages,
    server_of,
)

GPU = make_environment(arch="sm_90")


def make_check(job_id="check", language="cpp"):
    """A job that owns its worker."""
    return Check(
        job_id=job_id,
        problem=make_problem(),
        candidate=make_candidate(language=language),
        workloads=(make_workload(),),
    )


class Line:
    """A pool with workers, what they were leased, and a clock."""

    def __init__(self, *hellos, **changes):
        self.pool = make_pool(**changes)
        self.now_s = 0.0
        self.leases = {}
        for index, hello in enumerate(hellos):
            self.take(self.pool.receive(bytes([index]), hello, 0.0))

    def take(self, sends):
        for peer, message in sends:
            if isinstance(message, wire.Lease):
                self.leases[message.job.job_id] = (peer, message.token)
        return sends

    def submit(self, job, **terms):
        self.take(self.pool.receive(CLIENT, wire.Submit(job=job, **terms), self.now_s))

    def finish(self, job_id):
        peer, token = self.leases[job_id]
        done = wire.Done(token=token, outcome=make_built(job_id))
        self.take(self.pool.receive(peer, done, self.now_s))

    def wait(self, seconds):
        self.now_s += seconds
        self.take(self.pool.tick(self.now_s))

    @property
    def where(self):
        return {job_id: peer[0] for job_id, (peer, _) in self.leases.items()}


def test_builds_share_a_worker_and_what_runs_kernels_owns_it():
    line = Line(make_hello(slots=3))
    line.submit(make_job("build-1"))
    line.submit(make_job("build-2"))
    line.submit(make_check("check-1"))
    assert line.where == {"build-1": 0, "build-2": 0}
    line.finish("build-1")
    assert "check-1" not in line.where
    line.finish("build-2")
    assert "check-1" in line.where
    line.submit(make_job("build-3"))
    line.submit(make_check("check-2"))
    assert line.where.keys() & {"build-3", "check-2"} == set()


def test_builds_go_to_workers_without_a_gpu_first_and_to_others_when_those_are_busy():
    line = Line(make_hello("gpu", environment=GPU), make_hello("cpu"))
    line.submit(make_job("build-1"))
    line.submit(make_job("build-2"))
    assert line.where == {"build-1": 1, "build-2": 0}


def test_device_code_runs_on_a_gpu_and_waits_for_one_that_is_busy():
    line = Line(make_hello("cpu"), make_hello("gpu", environment=GPU))
    line.submit(make_check("check-1", "cuda"))
    line.submit(make_check("check-2", "cuda"))
    assert line.where == {"check-1": 1}
    line.finish("check-1")
    assert line.where == {"check-1": 1, "check-2": 1}


def test_where_nobody_has_a_gpu_anybody_is_asked_and_says_so():
    line = Line(make_hello("cpu"))
    line.submit(make_check("check-1", "cuda"))
    assert line.where == {"check-1": 0}


def test_what_a_job_needs_is_waited_for():
    line = Line(make_hello("w1", tags=("rack-1",)))
    line.submit(make_job("job"), need=("rack-2",))
    assert line.where == {}
    line.take(line.pool.receive(b"new", make_hello("w2", tags=("rack-2", "fast")), 0.0))
    assert line.leases["job"][0] == b"new"


def test_a_client_is_told_of_the_workers_that_can_serve_its_job():
    pool = make_pool()
    pool.receive(W1, make_hello("w1", tags=("rack-1",)), 0.0)
    submit = wire.Submit(job=make_job(), need=("rack-2",))
    (submitted,) = messages(pool.receive(CLIENT, submit, 0.0))
    assert submitted.workers == 0
    pool.receive(W2, make_hello("w2", tags=("rack-2",)), 0.0)
    (submitted,) = messages(pool.receive(CLIENT, wire.Wait(job_id="job"), 0.0))
    assert submitted.workers == 1


class TestExclusiveStarvation:
    """A job that owns its worker waits for one on which builds run."""

    def line(self, **changes):
        line = Line(make_hello(slots=2), lease_s=1000.0, most_drain_s=10.0, **changes)
        line.submit(make_job("build-1"))
        line.submit(make_job("build-2"))
        line.submit(make_check())
        return line

    def test_no_further_build_gets_in_before_it(self):
        line = self.line()
        line.submit(make_job("build-3"))
        line.finish("build-1")
        assert "build-3" not in line.where
        line.finish("build-2")
        assert "check" in line.where
        assert "build-3" not in line.where

    def test_a_build_of_higher_priority_does(self):
        line = self.line()
        line.submit(make_job("urgent"), priority=6)
        line.finish("build-1")
        assert "urgent" in line.where

    def test_it_ends_after_a_while_and_comes_again(self):
        line = self.line()
        line.finish("build-1")
        line.submit(make_job("build-3"))
        line.wait(9.9)
        assert "build-3" not in line.where
        line.wait(0.1)
        assert "build-3" in line.where
        line.finish("build-3")
        line.submit(make_job("build-4"))
        assert "build-4" in line.where  # let in for as long as was drained
        line.finish("build-4")
        line.wait(10.0)
        line.submit(make_job("build-5"))
        assert "build-5" not in line.where
        line.finish("build-2")
        assert "check" in line.where

    def test_one_job_drains_one_worker(self):
        line = Line(make_hello("w1", slots=2), make_hello("w2", slots=2))
        for number in range(4):
            line.submit(make_job(f"build-{number}"))
        line.submit(make_check())
        line.finish("build-0")
        line.finish("build-2")
        line.submit(make_job("build-4"))
        line.submit(make_job("build-5"))
        assert line.where.keys() & {"build-4", "build-5"} == {"build-4"}

    def test_it_is_over_when_nobody_waits_for_the_worker_any_more(self):
        line = self.line()
        line.finish("build-1")
        line.pool.receive(CLIENT, wire.Cancel(job_id="check"), 0.0)
        line.submit(make_job("build-3"))
        assert "build-3" in line.where


@pytest.mark.parametrize(
    ("environment", "tags", "wanted"),
    [
        (make_environment(), (), {"x86_64", "cpu"}),
        (make_environment(), ("ncu",), {"x86_64", "cpu", "ncu"}),
        (GPU, (), {"sm_90", "gpu", "nvrtc", "triton", "ncu"}),
        (GPU, ("nvrtc",), {"sm_90", "gpu", "nvrtc"}),
    ],
)
def test_tags_are_what_a_worker_says_and_what_its_machine_is(environment, tags, wanted):
    assert tags_of(make_hello(environment=environment, tags=tags)) == wanted


def test_a_priority_is_no_way_to_a_worker_that_cannot_serve():
    roster = Roster(beat_s=1.0, lease_s=10.0)
    roster.register(W1, make_hello("w1"), 0.0)
    assert server_of(roster, priority=9, need=("absent",)) is None
