"""Whole runs that a user speaks to while they work."""

import json

from agents.contexts import PlanContext, ResearchContext, ReviewContext, WriteContext
from graph.ledger import EXIT_CODES, AttemptOutcome, ExitReason
from graph.run_files import RunFiles
from graph.saying import say
from graph.steering import LOOK_EVERY_S
from tests.graph.builders import make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam
from tests.graph.test_loop import NEVER, budget


def speaking(tmp_path, team: TableTeam, kind, at, **words) -> TableTeam:
    """A team during whose answer to `at` a user says something, once."""
    said: list[object] = []

    def hear(context):
        if at(context) and not said:
            said.append(say(RunFiles(tmp_path / "softmax-test"), kind, **words))

    team.on_ask = hear
    return team


def reviewing(number: int):
    return lambda context: isinstance(context, ReviewContext) and context.view.round == number


async def test_a_paused_run_stops_between_two_steps_and_goes_on_without_doing_anything_twice(
    run_loop, tmp_path
):
    drafts = {"1.0": "us=80", "3.0": "us=60"}
    target = make_target(budget=budget(rounds=3))
    team = speaking(tmp_path, TableTeam(drafts, plan=NEVER), "pause", reviewing(1), text="lunch")
    paused = await run_loop(team, ScenarioPool(delay_s=LOOK_EVERY_S / 10), target)
    assert paused.result.exit_reason is ExitReason.PAUSED
    assert EXIT_CODES[ExitReason.PAUSED] == 9
    assert "resume" in paused.result.message
    assert paused.result.best_attempt == "a0001"
    assert paused.result.rounds < 3
    resumed = await run_loop(TableTeam(drafts, plan=NEVER), target=target)
    assert resumed.result.exit_reason is ExitReason.GOAL_MET
    assert resumed.result.rounds == 3
    assert set(paused.jobs()) & set(resumed.jobs()) == set()
    assert len(resumed.outcomes()) == 6


async def test_a_cancelled_run_abandons_what_is_under_way(run_loop, tmp_path):
    team = TableTeam({"1.0": "us=60"})
    speaking(tmp_path, team, "cancel", lambda context: isinstance(context, ResearchContext))
    ran = await run_loop(team, ScenarioPool(delay_s=3 * LOOK_EVERY_S))
    assert ran.result.exit_reason is ExitReason.CANCELLED
    assert ran.outcomes() == {}, "no job came to its end"


async def test_a_hint_reaches_every_role_from_the_next_step_on(run_loop, tmp_path):
    team = TableTeam({"1.0": "us=60"}, plan=NEVER)
    speaking(
        tmp_path, team, "hint", lambda context: isinstance(context, PlanContext), text="try online"
    )
    await run_loop(team, target=make_target(budget=budget(rounds=2)))
    hinted = {type(c).__name__ for c in team.asked if _hints(c) == ("try online",)}
    assert hinted == {"ResearchContext", "WriteContext", "DigestContext", "ReviewContext"}
    assert isinstance(team.asked[0], PlanContext)
    assert _hints(team.asked[0]) == ()


def _hints(context) -> tuple[str, ...]:
    return tuple(context.view.hints)


async def test_a_vetoed_attempt_is_neither_the_incumbent_nor_served_nor_shipped(run_loop, tmp_path):
    drafts = {"1.0": "us=80", "2.0": "us=60"}
    team = speaking(tmp_path, TableTeam(drafts, plan=NEVER), "veto", reviewing(3), subject="a0003")
    ran = await run_loop(team, target=make_target(budget=budget(rounds=4)))
    assert ran.outcomes()["a0003"] == "promoted", "what was measured stays in the ledger"
    assert ran.result.best_attempt == "a0001"
    assert [w.parent for w in ran.files.attempts() if w.round == 4] == ["a0001", "a0001"]
    tuning = ran.files.tuning()
    assert tuning is not None
    assert {point.attempt_id for point in tuning.points} == {"a0001"}
    lineage = (tmp_path / "softmax-test" / "repo" / "ledgers" / "lineage.jsonl").read_text()
    best = [
        json.loads(line)["attempt"] for line in lineage.splitlines() if '"is_best": true' in line
    ]
    assert best == ["a0001"]
    assert "What the user said" in (tmp_path / "softmax-test" / "report.html").read_text()


async def test_a_vetoed_recipe_is_not_promoted_whatever_it_measures(run_loop, tmp_path):
    team = TableTeam({"1.0": "us=50"}, plan=NEVER)
    speaking(
        tmp_path,
        team,
        "veto",
        lambda context: isinstance(context, WriteContext) and context.lane == 1,
        subject="row/online",
    )
    ran = await run_loop(team, target=make_target(budget=budget(rounds=2)))
    assert ran.result.best_attempt is None
    assert AttemptOutcome.PROMOTED.value not in ran.outcomes().values()
    assert [job for job in ran.jobs() if "-claim-" in job] == []
    assert ran.decisions("repair"), "later drafts of it are sent back"


async def test_a_pinned_attempt_is_the_incumbent_and_what_is_shipped(run_loop, tmp_path):
    drafts = {"1.0": "us=60", "1.1": "us=90"}
    team = speaking(tmp_path, TableTeam(drafts, plan=NEVER), "pin", reviewing(2), subject="a0002")
    ran = await run_loop(team, target=make_target(budget=budget(rounds=3)))
    assert ran.outcomes()["a0001"] == "promoted"
    assert ran.outcomes()["a0002"] == "measured"
    assert ran.result.best_attempt == "a0002"
    assert ran.result.best[0].overall.speedup < 1.2, "measured afresh, as what it is"
    assert [w.parent for w in ran.files.attempts() if w.round == 3] == ["a0002", "a0002"]
    assert (tmp_path / "softmax-test" / "repo" / "src").is_dir()


async def test_a_claim_against_the_pinned_attempt_may_replace_it(run_loop, tmp_path):
    drafts = {"1.0": "us=60", "1.1": "us=90", "3.0": "us=50"}
    team = speaking(tmp_path, TableTeam(drafts, plan=NEVER), "pin", reviewing(2), subject="a0002")
    ran = await run_loop(team, target=make_target(budget=budget(rounds=4)))
    assert ran.outcomes()["a0005"] == "promoted"
    assert ran.result.best_attempt == "a0005"
