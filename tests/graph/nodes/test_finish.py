"""The end of a run: fresh claims, and how they decide what it says of itself."""

import pytest

from gpu_runner.jobs import Unserved
from graph.ledger import ExitReason
from graph.nodes.finish import finish
from graph.target import Budget, Goal
from tests.graph.builders import make_target
from tests.graph.report.page import Page

ENDED = {"exit_reason": "plan_complete", "exit_message": "every criterion is met", "round": 3}


async def finished(workshop, **changes):
    update = await finish(workshop.state(**{**ENDED, **changes}), workshop.runtime)
    result = workshop.files.result()
    assert result is not None
    assert update == {
        "is_done": True,
        "exit_reason": result.exit_reason.value,
        "exit_message": result.message,
    }
    return result


async def test_the_kernel_is_measured_afresh_against_every_baseline(workshop):
    workshop.promoted(1, "us=50")
    result = await finished(workshop, incumbent="a0001")
    assert [claim.against for claim in result.best] == ["torch eager", "torch compile"]
    assert [job.job_id[-10:] for job in workshop.benches()] == ["final-0-t0", "final-1-t0"]
    assert [[w.name for w in job.hidden] for job in workshop.benches()] == [["odd"], []]
    assert all(job.plan.sittings >= 5 for job in workshop.benches())
    assert (result.best_attempt, result.rounds, result.attempts) == ("a0001", 2, 1)


async def test_what_the_final_claims_say_is_a_decision_with_its_records(workshop):
    workshop.promoted(1, "us=50")
    result = await finished(workshop, incumbent="a0001")
    (decision,) = workshop.decisions("final")
    assert decision.choice == "a0001"
    assert decision.evidence == tuple(claim.record_id for claim in result.best)
    assert decision.reason.startswith("FASTER than torch eager: 2.0")
    assert all(workshop.files.record(name) for name in decision.evidence)


async def test_without_a_kernel_nothing_is_measured(workshop):
    result = await finished(workshop, exit_reason="plateau", exit_message="nothing was faster")
    assert workshop.ran() == []
    assert (result.best_attempt, result.best, result.repository) == (None, (), "")
    assert result.exit_reason is ExitReason.PLATEAU
    assert "Nothing was faster." in Page((workshop.files.root / "report.html").read_text()).text


@pytest.mark.parametrize(
    ("us", "kind", "stopped", "expected", "words"),
    [
        (50, "trend", "plan_complete", "goal_met", "the goal is met; the search ended because"),
        (50, "hard", "budget_rounds", "goal_met", "the goal is met; the search ended because"),
        (50, "trend", "goal_met", "goal_met", "every criterion is met"),
        (99, "trend", "goal_met", "plan_complete", "does not confirm the goal of 1.5x"),
        (99, "hard", "goal_met", "plateau", "does not confirm the goal of 1.5x"),
        (99, "trend", "budget_wall", "budget_wall", "every criterion is met"),
    ],
)
async def test_the_fresh_claim_decides_whether_the_goal_is_met(
    make_workshop, us, kind, stopped, expected, words
):
    workshop = make_workshop(target=make_target(goal=Goal(speedup=1.5, kind=kind)))
    workshop.promoted(1, f"us={us}", 3.0)
    result = await finished(workshop, incumbent="a0001", exit_reason=stopped)
    assert result.exit_reason.value == expected
    assert words in result.message


async def test_a_baseline_that_cannot_be_measured_is_said_and_costs_no_other_claim(workshop):
    workshop.promoted(1, "us=50")
    workshop.files.save_outcome(
        Unserved(
            job_id="softmax-test-final-1-t0",
            cause="runner_lost",
            message="the worker was lost",
            is_retryable=False,
        )
    )
    result = await finished(workshop, incumbent="a0001")
    assert [claim.against for claim in result.best] == ["torch eager"]
    assert "no final claim against torch compile: the worker was lost" in result.message
    assert [d.choice for d in workshop.decisions("final")] == ["none", "a0001"]


async def test_a_run_out_of_time_ends_without_a_claim_and_says_so(make_workshop):
    workshop = make_workshop(target=make_target(budget=Budget(rounds=3, wall_s=60)))
    workshop.promoted(1, "us=50")
    workshop.clock.now_s = 59.0
    result = await finished(workshop, incumbent="a0001", exit_reason="budget_wall")
    assert workshop.ran() == []
    assert result.best == ()
    assert result.best_attempt == "a0001"
    assert result.exit_reason is ExitReason.BUDGET_WALL
    assert result.message.count("the budget leaves no time for this job") == 2


async def test_an_end_that_is_made_again_says_the_same(workshop):
    workshop.promoted(1, "us=50")
    first = await finished(workshop, incumbent="a0001")
    measured = len(workshop.ran())
    again = await finished(workshop, incumbent="a0001")
    assert len(workshop.ran()) == measured
    assert (again.best, again.message) == (first.best, first.message)
