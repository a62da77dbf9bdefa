"""Whole runs that use up each budget, in every phase, and runs that are not worth going on with."""

from collections.abc import Callable

import pytest

from agents.contexts import PlanContext, ResearchContext, ReviewContext, WriteContext
from agents.roles import Spend
from graph.events import BudgetWarned, JobFinished, Replied
from graph.ledger import ExitReason
from graph.meter import COUNTED
from graph.target import Goal, Scope
from tests.graph.builders import make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam
from tests.graph.test_loop import NEVER, budget

OUT_OF_REACH = Goal(speedup=9.0, against="torch eager")


class PricedTeam(TableTeam):
    """Every answer costs the same number of tokens and dollars; each context may have its own."""

    def __init__(self, *args, price: Callable[[object], int] = lambda _: 100, **changes) -> None:
        super().__init__(*args, **changes)
        self.price = price

    def spend(self) -> Spend:
        tokens = sum(self.price(context) for context in self.asked)
        return Spend(calls=len(self.asked), output_tokens=tokens, usd=tokens / 1000)


def spent_tokens(ran) -> int:
    return sum(event.tokens for event in ran.files.events.read() if isinstance(event, Replied))


def job_seconds(ran) -> float:
    return sum(
        event.seconds
        for event in ran.files.events.read()
        if isinstance(event, JobFinished) and event.job in COUNTED
    )


def warned(ran) -> list[str]:
    return [event.budget for event in ran.files.events.read() if isinstance(event, BudgetWarned)]


# -- tokens and money ----------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [50, 350, 750])
async def test_tokens_are_overshot_by_one_call_at_most_wherever_they_run_out(run_loop, tokens):
    team = PricedTeam({"1.0": "us=60"}, plan=NEVER)
    target = make_target(budget=budget(rounds=50, tokens=tokens), goal=OUT_OF_REACH)
    ran = await run_loop(team, target=target)
    assert ran.result.exit_reason is ExitReason.BUDGET_TOKENS
    assert spent_tokens(ran) <= tokens + 100
    assert ran.result.tokens == spent_tokens(ran)


@pytest.mark.parametrize("usd", [0.15, 0.75])
async def test_money_is_overshot_by_one_call_at_most(run_loop, usd):
    team = PricedTeam({"1.0": "us=60"}, plan=NEVER)
    target = make_target(budget=budget(rounds=50, usd=usd), goal=OUT_OF_REACH)
    ran = await run_loop(team, target=target)
    assert ran.result.exit_reason is ExitReason.BUDGET_USD
    assert ran.result.usd <= usd + 0.1 + 1e-9


@pytest.mark.parametrize("lanes", [1, 8])
async def test_many_lanes_share_what_is_left(run_loop, lanes):
    team = PricedTeam(plan=NEVER)
    target = make_target(
        budget=budget(rounds=50, tokens=1450), goal=OUT_OF_REACH, scope=Scope(lanes=lanes)
    )
    ran = await run_loop(team, target=target)
    assert ran.result.exit_reason is ExitReason.BUDGET_TOKENS
    assert spent_tokens(ran) <= 1550


async def test_a_winner_is_reviewed_with_what_was_kept_for_it(run_loop):
    """The first review says what one costs; from then on so much is left for the next."""
    team = PricedTeam({"2.0": "us=60"}, plan=NEVER)
    target = make_target(budget=budget(rounds=50, tokens=800), goal=OUT_OF_REACH)
    ran = await run_loop(team, target=target)
    reviews = [c for c in team.asked if isinstance(c, ReviewContext)]
    assert [review.view.round for review in reviews] == [1, 2]
    assert ran.outcomes()["a0003"] == "promoted"
    assert spent_tokens(ran) <= 800


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (PlanContext, ExitReason.BUDGET_TOKENS),
        (ResearchContext, ExitReason.BUDGET_TOKENS),
        (WriteContext, ExitReason.BUDGET_TOKENS),
        (ReviewContext, ExitReason.BUDGET_TOKENS),
    ],
)
async def test_one_dear_answer_ends_the_run_whoever_gave_it(run_loop, kind, reason):
    team = PricedTeam(plan=NEVER, price=lambda c: 5000 if isinstance(c, kind) else 1)
    target = make_target(budget=budget(rounds=50, tokens=1000), goal=OUT_OF_REACH)
    ran = await run_loop(team, target=target)
    assert ran.result.exit_reason is reason
    assert spent_tokens(ran) < 5100, "nobody was asked after it"


# -- job seconds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu_s", [4.0, 9.0])
async def test_job_seconds_are_hard_and_the_final_claim_is_kept_for(run_loop, gpu_s):
    team = TableTeam({"1.0": "us=60"}, plan=NEVER)
    target = make_target(budget=budget(rounds=500, gpu_s=gpu_s), goal=OUT_OF_REACH)
    ran = await run_loop(team, ScenarioPool(side_s=0.05), target)
    assert ran.result.exit_reason is ExitReason.BUDGET_GPU
    dearest = 2 * 5 * 0.05 + 0.5
    assert job_seconds(ran) <= gpu_s + dearest
    if ran.result.best_attempt:
        assert ran.result.best, "what was found is measured afresh at the end"


# -- warnings ------------------------------------------------------------------------------------


async def test_each_budget_warns_once_at_four_fifths(run_loop):
    team = PricedTeam(plan=NEVER)
    limits = budget(rounds=6, tokens=2400, usd=2.7, plateau_attempts=200)
    ran = await run_loop(team, target=make_target(budget=limits, goal=OUT_OF_REACH))
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS
    assert sorted(warned(ran)) == ["rounds", "tokens"]
    (tokens,) = [e for e in ran.heard if isinstance(e, BudgetWarned) and e.budget == "tokens"]
    assert 0.8 * 2400 <= tokens.used < 2400


# -- worth ---------------------------------------------------------------------------------------


async def test_a_search_that_promises_nothing_pivots_and_stops_early(run_loop):
    drafts = {
        f"{r}.{lane}": f"us={150 + r + lane} in {r}.{lane}" for r in range(2, 30) for lane in (0, 1)
    }
    target = make_target(budget=budget(rounds=40, plateau_attempts=12), goal=OUT_OF_REACH)
    ran = await run_loop(TableTeam({"1.0": "us=60", **drafts}, plan=NEVER), target=target)
    assert ran.result.exit_reason is ExitReason.PLATEAU
    assert ran.decisions("plateau") == ["pivot", "stop"]
    assert "promise" in ran.result.message
    assert len(ran.outcomes()) == 2 + 6 + 6, "half of the patience, twice"


async def test_before_the_first_promotion_only_the_number_of_attempts_counts(run_loop):
    drafts = {
        f"{r}.{lane}": f"us={150 + r + lane} in {r}.{lane}" for r in range(1, 9) for lane in (0, 1)
    }
    target = make_target(budget=budget(rounds=4, plateau_attempts=12), goal=OUT_OF_REACH)
    ran = await run_loop(TableTeam(drafts, plan=NEVER), target=target)
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS
    assert ran.decisions("plateau") == []


async def test_a_search_that_is_close_has_all_its_patience(run_loop):
    drafts = {
        f"{r}.{lane}": f"us={60 + (r + lane) % 3 - 1}.5 in {r}.{lane}"
        for r in range(2, 30)
        for lane in (0, 1)
    }
    target = make_target(budget=budget(rounds=5, plateau_attempts=12), goal=OUT_OF_REACH)
    ran = await run_loop(TableTeam({"1.0": "us=60.5", **drafts}, plan=NEVER), target=target)
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS


async def test_a_round_that_costs_more_than_it_promises_is_not_begun(run_loop):
    drafts = {
        f"{r}.{lane}": f"us={150 + r + lane} in {r}.{lane}" for r in range(2, 30) for lane in (0, 1)
    }
    limits = budget(rounds=40, usd_per_percent=1.0)
    ran = await run_loop(
        PricedTeam({"1.0": "us=60", **drafts}, plan=NEVER),
        target=make_target(budget=limits, goal=OUT_OF_REACH),
    )
    assert ran.result.exit_reason is ExitReason.PLATEAU
    assert "worth $0.0000, and costs $0.3" in ran.result.message
    assert len(ran.outcomes()) == 2 + 6, "as soon as there is an outlook"


# -- the account ---------------------------------------------------------------------------------


async def test_the_result_and_the_report_say_what_the_best_cost(run_loop, tmp_path):
    team = PricedTeam({"1.0": "us=80", "2.0": "us=60"}, plan=NEVER)
    target = make_target(budget=budget(rounds=4), goal=OUT_OF_REACH)
    ran = await run_loop(team, target=target)
    effort = ran.result.to_best
    assert effort is not None
    assert effort.rounds == 2
    assert 0 < effort.usd < ran.result.usd
    assert 0 < effort.tokens < ran.result.tokens
    assert 0 < effort.job_s < ran.result.job_s
    page = (tmp_path / "softmax-test" / "report.html").read_text()
    assert "To the best" in page
    assert f"for {ran.result.tokens} tokens" in page
