"""What becomes of a lane whose job has no result."""

import pytest

from gpu_runner.jobs import Build, Built, Check, Reason, Rejected, Stage, Unserved
from graph.errors import LoopError
from graph.ledger import AttemptOutcome
from graph.nodes.common import plan_in_force, stopped
from tests.builders import make_candidate, make_problem, make_workload
from tests.graph.builders import make_plan

JOB = Build(
    job_id="softmax-test-r001-l0-a0001-build-t0",
    problem=make_problem(),
    timeout_s=60.0,
    candidate=make_candidate(),
)
REJECTED = Rejected(
    job_id=JOB.job_id,
    stage=Stage.BUILD,
    reason=Reason.COMPILE_FAILED,
    message="g++ failed: kernel.cpp:3: error",
)
UNSERVED = Unserved(
    job_id=JOB.job_id, cause="no_tool", message="g++ is not installed", is_retryable=False
)


@pytest.mark.parametrize(
    ("outcome", "status", "ended"),
    [
        (REJECTED, "rejected", AttemptOutcome.REJECTED),
        (UNSERVED, "unserved", AttemptOutcome.UNSERVED),
    ],
)
def test_a_stopped_lane_says_why_and_has_its_row(workshop, outcome, status, ended):
    lane = workshop.lane(0, "us=60", status="drafted")
    after = stopped(workshop.services, lane, JOB, outcome)
    assert (after.status, after.message) == (status, outcome.message)
    assert after.attempt_id == lane.attempt_id
    (row,) = workshop.files.attempts()
    assert (row.attempt_id, row.outcome, row.message) == (lane.attempt_id, ended, outcome.message)


def test_a_lane_that_is_stopped_again_keeps_its_one_row(workshop):
    lane = workshop.lane(0, "us=60", status="drafted")
    first, again = (stopped(workshop.services, lane, JOB, REJECTED) for _ in range(2))
    assert first == again
    assert len(workshop.files.attempts()) == 1


def test_the_answer_to_another_job_ends_the_loop_and_writes_no_row(workshop):
    lane = workshop.lane(0, "us=60", status="drafted")
    other = Built(
        job_id=JOB.job_id, artefact_digest="0" * 64, compiler="g++ 13", seconds=1.0, is_cached=False
    )
    check = Check(**JOB.model_dump(exclude={"kind", "returns_files"}), workloads=(make_workload(),))
    with pytest.raises(LoopError, match=r"\(check\) ended as 'built'.*update it"):
        stopped(workshop.services, lane, check, other)
    assert workshop.files.attempts() == ()


def test_the_plan_in_force_is_the_one_that_the_state_names(workshop):
    assert plan_in_force(workshop.services, workshop.state()) == make_plan()
    with pytest.raises(LoopError, match="the plan 'r007' is missing from"):
        plan_in_force(workshop.services, workshop.state(plan="r007"))
