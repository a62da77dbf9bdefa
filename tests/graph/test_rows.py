"""Rows of the ledger, made from what the run directory holds."""

import pytest

from gpu_runner.jobs import Benched, Reason, Rejected, Stage
from graph.rows import decisions_on, feedback_on, interval
from tests.graph.builders import make_decision, make_record
from tests.graph.teams import TableTeam

REJECTED = Rejected(job_id="j", stage=Stage.BENCH, reason=Reason.CRASHED, message="m")


def benched(*, sittings: int = 5) -> Benched:
    record = make_record(50, {"incumbent": 60, "torch eager": 100}, sittings=sittings)
    return Benched(job_id="j", record=record, seconds=1)


def test_a_claim_is_decided_against_every_contender_of_its_record():
    decisions = decisions_on(benched(), 1)
    assert [d.against for d in decisions] == ["incumbent", "torch eager"]
    assert {d.basis for d in decisions} == {"claim"}
    assert decisions[1].overall.speedup == pytest.approx(2.0, rel=0.01)


def test_the_level_of_a_claim_is_shared_among_the_claims_tried():
    assert decisions_on(benched(), 4)[0].confidence > decisions_on(benched(), 1)[0].confidence


def test_feedback_is_decided_against_the_first_contender():
    decision = feedback_on(benched(sittings=1))
    assert decision is not None
    assert (decision.against, decision.basis) == ("incumbent", "feedback")


@pytest.mark.parametrize("outcome", [None, REJECTED])
def test_without_a_record_nothing_is_decided(outcome):
    assert feedback_on(outcome) is None
    assert decisions_on(outcome, 1) == ()


def test_an_interval_is_the_decisions_overall_one():
    found = interval(make_decision(1.5))
    assert (found.speedup, found.low, found.high) == (1.5, 1.5 * 0.98, 1.5 * 1.02)


async def test_a_row_holds_its_jobs_their_seconds_and_where_it_came_from(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=60"}))
    promoted, other = ran.files.attempts()
    assert [job.split("a0001-")[1] for job in promoted.job_ids] == [
        "build-t0",
        "check-t0",
        "bench-t0",
        "claim-t0",
        "profile-t0",
    ]
    assert set(promoted.seconds) == {"build", "check", "bench", "claim", "profile"}
    assert set(other.seconds) == {"build", "check", "bench"}
    assert (promoted.family, promoted.recipe, promoted.language) == ("row", "online", "cpp")
    assert promoted.feedback is not None
    assert promoted.feedback.basis == "feedback"
    assert {claim.basis for claim in promoted.claims} == {"claim"}
    assert ran.files.candidate(promoted.candidate_digest).sources[0].text == "#pragma us=60"


async def test_every_job_of_a_row_has_its_outcome_in_the_run_directory(run_loop):
    ran = await run_loop(TableTeam({"1.0": "us=60", "1.1": "check=fail"}))
    for row in ran.files.attempts():
        assert row.job_ids
        assert all(ran.files.outcome(job) is not None for job in row.job_ids)
