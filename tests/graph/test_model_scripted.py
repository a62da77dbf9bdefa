"""Whole runs of models from a table, to each kind of ending: exact reasons, exact counts."""

from collections import Counter

import pytest

from agents.replies import CheckRule
from graph.ledger import ExitReason
from graph.settings import load_settings
from graph.target import Budget, Goal
from tests.graph.builders import make_check, make_plan, make_review, make_target
from tests.graph.cheating_run import ReplayPool, expected, exploits, run
from tests.graph.pool import ScenarioPool
from tests.graph.table_models import TOKENS, Reply, draft_of, table_team
from tests.graph.test_loop import NEVER

ONE = TOKENS.input_tokens + TOKENS.output_tokens
OUT_OF_REACH = Goal(speedup=9.0, against="torch eager")
Table = dict[str, Reply]
QUIET = load_settings((), ["loop.review_pause_s=0"])
PLAN = make_plan(
    (make_check(CheckRule.REACHES_GOAL), make_check(CheckRule.WRONG_IS_REJECTED)),
    (make_check(CheckRule.ATTEMPTS_MADE, "4"), make_check(CheckRule.NO_REGRESSION)),
)


class Asked(Counter[str]):
    """Counts questions by role."""

    def note(self, place: str) -> None:
        self[place.partition(" ")[0]] += 1


async def test_a_plan_is_complete_when_every_criterion_is_met_and_not_before(run_loop):
    asked = Asked()
    table: Table = {
        "planner": PLAN,
        "writer 1.0": draft_of("us=60"),
        "writer 2.1": draft_of("us=50"),
    }
    ran = await run_loop(table_team(table, asked.note), target=make_target(budget=Budget(rounds=9)))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert ran.result.rounds == 2, "the goal is met in round 1, four attempts are made in round 2"
    assert ran.result.best_attempt == "a0004"
    assert asked == {
        "planner": 1,
        "researcher": 1,
        "writer": 4,
        "profiler": 2,
        "reviewer": 2,
        "inspector": 1,
    }
    assert ran.result.tokens == asked.total() * ONE
    assert ran.result.usd == pytest.approx(asked.total() * TOKENS.usd)


@pytest.mark.long
async def test_a_plateau_pivots_once_and_ends(run_loop):
    asked = Asked()
    limits = Budget(rounds=50, plateau_attempts=4, stalled_reviews=50)
    target = make_target(budget=limits, goal=OUT_OF_REACH)
    table: Table = {"planner": NEVER, "writer 1.0": draft_of("us=80")}
    ran = await run_loop(table_team(table, asked.note), target=target)
    assert ran.result.exit_reason is ExitReason.PLATEAU
    assert ran.decisions("plateau") == ["pivot", "stop"]
    # A promotion, two rounds to the pivot, two to the end; research once more at the pivot.
    assert ran.result.rounds == 5
    assert (asked["writer"], asked["researcher"], asked["reviewer"]) == (10, 2, 5)
    assert asked["inspector"] == 1


@pytest.mark.long
async def test_a_reviewer_that_never_parses_neither_hangs_nor_promotes(run_loop):
    asked = Asked()
    table: Table = {
        "planner": NEVER,
        "reviewer": "Well, it depends.",
        "writer 2.0": draft_of("us=60"),
    }
    team = table_team(table, asked.note)
    target = make_target(budget=Budget(rounds=9), goal=OUT_OF_REACH)
    ran = await run_loop(team, target=target, chosen=QUIET)
    assert ran.result.exit_reason is ExitReason.PAUSED
    assert "set another model with --set models.reviewer.model" in ran.result.message
    assert ran.result.best_attempt is None
    # Three tries a review, each with one repair; the first round is judged without it.
    assert asked["reviewer"] == 2 * 3 * 2
    assert ran.decisions("review") == ["computed"]
    asked.clear()
    again = await run_loop(
        table_team({**table, "reviewer": make_review()}, asked.note),
        target=target.model_copy(update={"budget": Budget(rounds=2)}),
        chosen=QUIET,
    )
    assert again.outcomes()["a0003"] == "promoted", "the claim that was paid for is not lost"
    assert "planner" not in asked


@pytest.mark.long
async def test_one_that_never_inspects_costs_its_repairs_and_no_run(run_loop):
    asked = Asked()
    table: Table = {
        "planner": PLAN,
        "writer 1.0": draft_of("us=60"),
        "inspector": "Looks fine to me!",
    }
    ran = await run_loop(table_team(table, asked.note), target=make_target(budget=Budget(rounds=9)))
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert asked["inspector"] == 2
    assert ran.decisions("inspection") == ["rules"]


@pytest.mark.long
async def test_no_exploit_of_the_corpus_wins_whoever_praises_it(tmp_path):
    target = make_target()
    cheats = exploits(target, tmp_path)
    result, rows = await run(target, cheats, ReplayPool(cheats), tmp_path)
    assert result.exit_reason is ExitReason.BUDGET_ROUNDS
    assert result.rounds == len(rows) == len(cheats) > 15
    assert result.best_attempt is None
    assert result.best == ()
    for name, row in zip(cheats, rows, strict=True):
        must = "rejected" if expected()[name] == "reject" else "measured"
        assert (name, row.outcome.value) == (name, must)
        assert row.candidate_digest == cheats[name].digest


@pytest.mark.long
@pytest.mark.parametrize(
    ("limits", "reason", "questions"),
    [
        ({"rounds": 2}, ExitReason.BUDGET_ROUNDS, 9),
        # The fifth question is the profiler's; a review has cost nothing yet, so it may be asked.
        ({"rounds": 50, "tokens": 5 * ONE}, ExitReason.BUDGET_TOKENS, 5),
        ({"rounds": 50, "usd": 5 * TOKENS.usd - 1e-9}, ExitReason.BUDGET_USD, 5),
        ({"rounds": 50, "gpu_s": 3.0}, ExitReason.BUDGET_GPU, None),
        ({"rounds": 50, "wall_s": 3.0}, ExitReason.BUDGET_WALL, None),
    ],
    ids=["rounds", "tokens", "usd", "gpu", "wall"],
)
async def test_every_budget_ends_a_run_by_its_name(run_loop, limits, reason, questions):
    asked = Asked()
    budget = Budget(**{"plateau_attempts": 500, "stalled_reviews": 500, "least_gain": 0, **limits})
    target = make_target(budget=budget, goal=OUT_OF_REACH)
    table: Table = {"planner": NEVER}
    pool = ScenarioPool(delay_s=0.05 if budget.wall_s else 0)
    ran = await run_loop(table_team(table, asked.note), pool, target=target)
    assert ran.result.exit_reason is reason
    assert asked["planner"] == 1, "no livelock: nothing is asked anew once a budget is used up"
    if questions is not None:
        assert asked.total() == questions
    assert ran.result.tokens == asked.total() * ONE
    assert budget.tokens is None or ran.result.tokens <= budget.tokens + ONE
    assert budget.gpu_s is None or ran.result.job_s <= budget.gpu_s
    assert budget.wall_s is None or ran.result.wall_s <= budget.wall_s + 2
