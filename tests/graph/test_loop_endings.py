"""How whole runs end: by budget, plateau, stall, route or a provider's refusal."""

import pytest

from agents.contexts import PlanContext, ResearchContext, ReviewContext
from agents.errors import ModelBusy, ModelRefused
from agents.replies import CheckRule
from gpu_runner.jobs import Unserved
from graph.ledger import ExitReason
from graph.settings import load_settings
from graph.target import Goal
from tests.graph.builders import make_check, make_plan, make_review, make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam
from tests.graph.test_loop import NEVER, budget

AT_PLATEAU = make_plan(
    (make_check(CheckRule.PLATEAU_RECORDED), make_check(CheckRule.WRONG_IS_REJECTED))
)


async def test_the_round_budget_is_hard_and_the_last_round_is_reviewed(run_loop):
    team = TableTeam(plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=3)))
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS
    assert ran.result.rounds == 3
    assert len([c for c in team.asked if isinstance(c, ReviewContext)]) == 3


async def test_the_token_budget_is_hard(run_loop):
    team = TableTeam(plan=NEVER, tokens=100)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=50, tokens=1500)))
    assert ran.result.exit_reason is ExitReason.BUDGET_TOKENS
    assert 1500 <= len(team.asked) * 100 < 1500 + 800


@pytest.mark.timed
async def test_the_wall_budget_keeps_time_for_the_end(run_loop):
    target = make_target(budget=budget(rounds=500, wall_s=6.0))
    team = TableTeam({"1.0": "us=60"}, plan=NEVER)
    settings = load_settings((), ["loop.claim_expected_s=0.5"])
    ran = await run_loop(team, ScenarioPool(delay_s=0.2, side_s=0.02), target, settings)
    assert ran.stages()[-2:] == ["autotune", "finish"]
    assert ran.result.wall_s <= 6.0
    assert ran.result.best
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert "wall clock" in ran.result.message


async def test_a_claim_that_does_not_fit_is_not_begun(run_loop):
    target = make_target(budget=budget(rounds=500, wall_s=180.0))
    ran = await run_loop(TableTeam({"1.0": "us=60"}, plan=NEVER), ScenarioPool(side_s=10), target)
    assert ran.outcomes()["a0001"] == "measured"
    assert "no claim" in ran.files.attempts()[0].message
    assert ran.result.exit_reason is ExitReason.BUDGET_WALL


async def test_a_baseline_that_cannot_be_measured_does_not_cost_the_first_claim(run_loop):
    class NoCompiler(ScenarioPool):
        async def run(self, job):
            if "-final-1-" in job.job_id:
                return Unserved(
                    job_id=job.job_id, cause="timed_out", message="too slow", is_retryable=False
                )
            return await super().run(job)

    ran = await run_loop(TableTeam({"1.0": "us=60"}), NoCompiler())
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert [claim.against for claim in ran.result.best] == ["torch eager"]
    assert "no final claim against torch compile: too slow" in ran.result.message


async def test_a_goal_that_is_missed_ends_with_the_budget(run_loop):
    target = make_target(
        budget=budget(rounds=1), goal=Goal(speedup=3.0, against="torch eager", kind="hard")
    )
    ran = await run_loop(TableTeam({"1.0": "us=60"}), target=target)
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS
    assert ran.result.best_attempt == "a0001"


async def test_a_plateau_pivots_once_and_then_stops(run_loop):
    team = TableTeam({"1.0": "us=60"}, plan=NEVER)
    target = make_target(
        budget=budget(rounds=40, plateau_attempts=4),
        goal=Goal(speedup=9.0, against="torch eager"),
    )
    ran = await run_loop(team, target=target)
    assert ran.result.exit_reason is ExitReason.PLATEAU
    assert ran.decisions("plateau") == ["pivot", "stop"]
    asked = [c.query for c in team.asked if isinstance(c, ResearchContext)]
    assert any("without a promotion" in query for query in asked)


async def test_a_plan_that_waits_for_the_plateau_ends_complete(run_loop):
    team = TableTeam({"1.0": "us=60"}, plan=AT_PLATEAU)
    target = make_target(
        budget=budget(rounds=40, plateau_attempts=4),
        goal=Goal(speedup=9.0, against="torch eager"),
    )
    ran = await run_loop(team, target=target)
    assert ran.result.exit_reason is ExitReason.PLAN_COMPLETE


async def test_a_promotion_after_the_pivot_takes_it_back(run_loop):
    drafts = {"1.0": "us=80", "4.0": "us=60", "7.0": "us=40"}
    target = make_target(
        budget=budget(rounds=40, plateau_attempts=4),
        goal=Goal(speedup=9.0, against="torch eager"),
    )
    ran = await run_loop(TableTeam(drafts, plan=NEVER), target=target)
    assert ran.decisions("plateau") == ["pivot", "pivot", "pivot", "stop"]
    assert ran.result.best_attempt == "a0013"


async def test_process_stalls_replan_then_stop(run_loop):
    reviews = {n: make_review(verdict="STALLED") for n in range(1, 9)}
    team = TableTeam(reviews=reviews, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=9)))
    assert ran.result.exit_reason is ExitReason.STALLED
    assert ran.decisions("replan") == ["plan"]


@pytest.mark.parametrize(
    ("route", "kind"), [("replan", PlanContext), ("research", ResearchContext)]
)
async def test_the_review_may_ask_for_another_plan_or_more_research(run_loop, route, kind):
    team = TableTeam(reviews={1: make_review(route=route)}, plan=NEVER)
    await run_loop(team, target=make_target(budget=budget(rounds=2)))
    once = [c for c in team.asked if isinstance(c, kind)]
    assert len(once) == 2


async def test_a_busy_provider_is_asked_again(run_loop):
    team = TableTeam({"1.0": "us=60"})
    failures = [ModelBusy("overloaded")]

    def fail(context):
        if isinstance(context, PlanContext) and failures:
            raise failures.pop()

    team.on_ask = fail
    ran = await run_loop(team)
    assert ran.result.exit_reason is ExitReason.GOAL_MET


async def test_a_provider_that_refuses_ends_the_run_with_an_error_that_can_be_resumed(run_loop):
    team = TableTeam({"1.0": "us=60"})

    def fail(context):
        if isinstance(context, ReviewContext):
            raise ModelRefused("the key is wrong; set ANTHROPIC_API_KEY")

    team.on_ask = fail
    ran = await run_loop(team)
    assert ran.result.exit_reason is ExitReason.ERROR
    assert "set ANTHROPIC_API_KEY" in ran.result.message
    assert "resume" in ran.result.message
    resumed = await run_loop(TableTeam({"1.0": "us=60"}))
    assert resumed.result.exit_reason is ExitReason.GOAL_MET
    assert resumed.outcomes() == {"a0001": "promoted", "a0002": "measured"}
    assert [job for job in resumed.jobs() if "-r001-" in job] == []
