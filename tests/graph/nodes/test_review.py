"""What a reviewed round comes to: a promotion, counters, a route, and what the log says of it."""

import asyncio

import pytest

from agents.contexts import ReviewContext
from agents.errors import NothingFits
from agents.replies import CheckRule, Finding
from gpu_runner.jobs import Benched
from gpu_runner.records import Verdict
from graph.events import BudgetRead, DecisionTaken, Promoted, Reviewed
from graph.ledger import AttemptOutcome
from graph.nodes.review import ledger_of, review
from graph.target import Budget, Goal
from tests.graph.builders import (
    make_admitted,
    make_check,
    make_decision,
    make_plan,
    make_record,
    make_review,
    make_target,
)
from tests.graph.teams import TableTeam

FASTER = {"status": "measured", "verdict": Verdict.FASTER, "speedup": 1.5, "version": "v001"}
BLOCK = make_review(findings=(Finding(lane="blocking", severity=9, text="it reads the clock"),))
ATTEMPTS = make_plan(
    (make_check(CheckRule.ATTEMPTS_MADE, "16"), make_check(CheckRule.WRONG_IS_REJECTED))
)


def claimed(workshop, us: float = 60.0, rivals: dict[str, float] | None = None, lane: int = 0):
    """A lane with a claim in the run directory."""
    made = workshop.lane(lane, f"us={us}", **FASTER)
    record = make_record(us, rivals or {"torch eager": 100.0}, candidate_digest=made.digest)
    job_id = f"softmax-test-r001-l{lane}-{made.attempt_id}-claim-t0"
    workshop.files.save_outcome(Benched(job_id=job_id, record=record, seconds=3.0))
    return made


async def reviewed(workshop, *lanes, **changes):
    counted = {"claim_tries": 1, **changes} if "claimed" in changes else changes
    return await review(workshop.state(*lanes, **counted), workshop.runtime)


def events(workshop, kind):
    return [event for event in workshop.files.events.read() if isinstance(event, kind)]


# -- promotions ----------------------------------------------------------------------------------


async def test_a_claim_that_says_faster_is_promoted(workshop):
    update = await reviewed(workshop, claimed(workshop), claimed="a0001", claim_tries=1)
    assert (update["incumbent"], update["promoted"]) == ("a0001", 1)
    assert (update["claimed"], update["round"], update["claim_tries"]) == ("", 2, 0)
    (row,) = workshop.files.attempts()
    assert (row.outcome, row.version) == (AttemptOutcome.PROMOTED, "v001")
    assert [claim.against for claim in row.claims] == ["torch eager"]
    assert row.claims[0].record_id in workshop.files.records()
    (event,) = events(workshop, Promoted)
    assert event.intervals["torch eager"].speedup == pytest.approx(100 / 60, rel=0.01)


async def test_a_claim_that_does_not_say_faster_is_a_measured_row(workshop):
    lane = claimed(workshop, us=99.0)
    update = await reviewed(workshop, lane, claimed="a0001", claim_tries=1)
    assert (update["incumbent"], update["promoted"], update["claim_tries"]) == ("", 0, 1)
    (row,) = workshop.files.attempts()
    assert (row.outcome, row.message) == (AttemptOutcome.MEASURED, "the claim does not say FASTER")
    assert row.claims, "what was measured is kept"


async def test_the_rival_of_a_later_claim_is_the_incumbent(workshop):
    workshop.promoted(1, "us=50")
    lane = claimed(workshop, 60.0, {"incumbent": 50.0, "torch eager": 100.0}, lane=1)
    update = await reviewed(workshop, lane, claimed="a0002", incumbent="a0001", promoted=1)
    assert (update["incumbent"], update["promoted"]) == ("a0001", 1)
    assert workshop.files.attempts()[1].outcome is AttemptOutcome.MEASURED


async def test_a_blocking_finding_stops_a_promotion_and_is_written_down(make_workshop):
    workshop = make_workshop(team=TableTeam(reviews={1: BLOCK}))
    update = await reviewed(workshop, claimed(workshop), claimed="a0001")
    assert update["incumbent"] == ""
    (row,) = workshop.files.attempts()
    assert row.outcome is AttemptOutcome.MEASURED
    assert row.message.endswith("the review blocks it: it reads the clock")
    (event,) = events(workshop, Reviewed)
    assert event.blocking == ("it reads the clock",)
    assert events(workshop, Promoted) == []


class Speechless(TableTeam):
    """Its reviewer has nothing to say."""

    async def review(self, context):
        raise NothingFits("no reviewer is configured")


async def test_without_a_review_nothing_is_promoted(make_workshop):
    workshop = make_workshop(team=Speechless())
    update = await reviewed(workshop, claimed(workshop), claimed="a0001")
    assert (update["incumbent"], update["review"]) == ("", "")
    (row,) = workshop.files.attempts()
    assert "there was no time for a review" in row.message
    (decision,) = workshop.decisions("review")
    assert (decision.choice, decision.reason) == ("none", "no reviewer is configured")


async def test_a_review_that_takes_too_long_does_not_hold_up_the_end(make_workshop):
    class Slow(TableTeam):
        async def review(self, context):
            await asyncio.sleep(60)
            return make_review()

    workshop = make_workshop(team=Slow(), target=make_target(budget=Budget(rounds=3, wall_s=60)))
    workshop.clock.now_s = 59.0
    update = await reviewed(workshop, workshop.lane(0, "us=100", status="measured"))
    assert update["exit_reason"] == "budget_wall"
    assert update["review"] == ""


async def test_a_round_reviewed_again_after_a_kill_is_the_same_round(workshop):
    lane = claimed(workshop)
    first = await reviewed(workshop, lane, claimed="a0001")
    again = await reviewed(workshop, lane, claimed="a0001")
    assert {**first, "pace": None} == {**again, "pace": None}, "of the clock alone"
    assert len(workshop.files.attempts()) == 1
    assert len(workshop.team.asked) == 1
    assert workshop.kinds().count("promoted") == 1


# -- what the reviewer is shown ------------------------------------------------------------------


def shown(workshop) -> ReviewContext:
    (context,) = workshop.team.asked
    assert isinstance(context, ReviewContext)
    return context


async def test_the_reviewer_sees_the_change_and_the_claims_on_it(workshop):
    workshop.promoted(1, "us=80")
    lane = claimed(workshop, 60.0, {"incumbent": 80.0, "torch eager": 100.0}, lane=1)
    await reviewed(workshop, lane, claimed="a0002", incumbent="a0001")
    context = shown(workshop)
    assert "-#pragma us=80" in context.diff
    assert "+#pragma us=60" in context.diff
    assert {decision.against for decision in context.decisions} == {"incumbent", "torch eager"}


async def test_without_a_claim_the_fastest_candidate_is_reviewed(workshop):
    slow = workshop.lane(0, "us=140 slow", status="measured", speedup=0.7)
    fast = workshop.lane(1, "us=110 fast", status="measured", speedup=0.9)
    await reviewed(workshop, slow, fast)
    assert "+#pragma us=110 fast" in shown(workshop).diff


async def test_a_round_without_a_candidate_has_no_change(workshop):
    await reviewed(workshop, workshop.lane(0, "us=1", status="undrafted"))
    assert shown(workshop).diff == ""
    assert shown(workshop).decisions == ()


async def test_criteria_come_with_their_standing_and_not_with_evidence_alone(make_workshop):
    workshop = make_workshop(plan=ATTEMPTS)
    workshop.files.save_outcome(make_admitted())
    await reviewed(workshop, workshop.lane(0, "us=100", status="measured"))
    (found,) = shown(workshop).criteria
    assert (found.status, found.evidence) == ("PARTIAL", ("softmax-test-admit-t0",))


# -- what follows --------------------------------------------------------------------------------


async def test_a_plan_whose_criteria_are_met_ends_the_run(workshop):
    workshop.files.save_outcome(make_admitted())
    update = await reviewed(workshop, claimed(workshop), claimed="a0001")
    assert (update["route"], update["exit_reason"]) == ("stop", "goal_met")
    (event,) = events(workshop, Reviewed)
    assert (event.met, event.criteria, event.route) == (1, 1, "stop")


async def test_a_goal_that_the_promotion_misses_does_not_end_it(make_workshop):
    workshop = make_workshop(target=make_target(goal=Goal(speedup=5.0)))
    workshop.files.save_outcome(make_admitted())
    update = await reviewed(workshop, claimed(workshop), claimed="a0001")
    assert (update["exit_reason"], update["incumbent"]) == ("", "a0001")


@pytest.mark.parametrize(
    ("wish", "route"), [("refine", "write"), ("research", "research"), ("replan", "plan")]
)
async def test_the_review_chooses_the_route(make_workshop, wish, route):
    workshop = make_workshop(team=TableTeam(reviews={1: make_review(route=wish)}))
    update = await reviewed(workshop, workshop.lane(0, "us=100", status="measured"))
    assert update["route"] == route
    assert [d.choice for d in workshop.decisions("route")] == ([route] if route != "write" else [])


async def test_lanes_that_have_nothing_left_end_the_run(workshop):
    lanes = [
        workshop.lane(number, "us=1", status="exhausted", message="every recipe was tried")
        for number in range(2)
    ]
    update = await reviewed(workshop, *lanes)
    assert update["exit_reason"] == "infeasible"
    assert "every recipe was tried" in update["exit_message"]


async def test_what_is_left_of_the_budget_is_told_each_round(make_workshop):
    limits = Budget(rounds=3, wall_s=1000, tokens=500)
    workshop = make_workshop(target=make_target(budget=limits), team=TableTeam(tokens=40))
    workshop.clock.now_s = 250.0
    await reviewed(workshop, workshop.lane(0, "us=100", status="measured"))
    (event,) = events(workshop, BudgetRead)
    assert (event.rounds_left, event.wall_left_s, event.tokens_left) == (2, 750.0, 460)
    assert (event.usd_left, event.job_left_s) == (None, None)


# -- what the criteria are evaluated over --------------------------------------------------------


def test_of_several_admissions_the_last_try_counts(workshop):
    for number in range(workshop.services.jobs.tries):
        workshop.files.save_outcome(make_admitted(f"softmax-test-admit-t{number}"))
    ledger = ledger_of(workshop.services, "")
    last = workshop.services.jobs.tries - 1
    assert ledger.admission is not None
    assert ledger.admission.job_id == f"softmax-test-admit-t{last}"


def test_only_a_decision_to_stop_is_a_recorded_plateau(workshop):
    for at, choice in (("r001", "pivot"), ("r002", "stop")):
        workshop.services.decide("plateau", choice, "nothing new", at=at)
    workshop.services.tell(
        DecisionTaken(key="decision:stop:r003", subject="stop", choice="stop", reason="no")
    )
    ledger = ledger_of(workshop.services, "", plateau=("to come",))
    assert ledger.plateau_events == ("decision:plateau:r002", "to come")


def test_the_ledger_is_of_the_incumbent_named(workshop):
    workshop.promoted(1, "us=80")
    workshop.promoted(2, "us=60", claims=(make_decision(1.8),))
    best = ledger_of(workshop.services, "a0002").best
    assert best is not None
    assert best.attempt_id == "a0002"
    assert ledger_of(workshop.services, "").best is None
