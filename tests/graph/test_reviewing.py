"""Reviewers that fail, verdicts that contradict the measurements, and every fifth round."""

import pytest

from agents.contexts import PlanContext, ReviewContext, WriteContext
from agents.errors import MalformedReply
from agents.replies import CheckRule, Finding
from graph.events import DecisionTaken
from graph.ledger import ExitReason
from graph.settings import load_settings
from graph.target import Goal
from tests.graph.builders import make_check, make_plan, make_review, make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam
from tests.graph.test_loop import NEVER, budget

AT_ONCE = load_settings((), ["loop.review_pause_s=0"])
OUT_OF_REACH = Goal(speedup=9.0, against="torch eager")


class Mumbling(TableTeam):
    """Its reviewer's first `failures` replies of a round are malformed."""

    def __init__(self, *args, failures: int = 999, **changes) -> None:
        super().__init__(*args, **changes)
        self.failures = failures
        self.said: dict[int, int] = {}

    async def review(self, context):
        number = context.view.round
        self.said[number] = self.said.get(number, 0) + 1
        if self.said[number] <= self.failures:
            self._note(context)
            raise MalformedReply("the reply holds no JSON object")
        return await super().review(context)


def decisions(ran, subject: str) -> list[DecisionTaken]:
    return [
        event
        for event in ran.files.events.read()
        if isinstance(event, DecisionTaken) and event.subject == subject
    ]


# -- a reviewer that fails -----------------------------------------------------------------------


async def test_a_review_that_is_malformed_twice_is_asked_for_a_third_time(run_loop):
    team = Mumbling({"1.0": "us=60"}, failures=2)
    ran = await run_loop(team, chosen=AT_ONCE)
    assert ran.result.exit_reason is ExitReason.GOAL_MET
    assert team.said == {1: 3}
    assert decisions(ran, "review") == []


async def test_a_claim_that_nobody_can_review_pauses_the_run_and_is_not_lost(run_loop):
    team = Mumbling({"1.0": "us=60"})
    paused = await run_loop(team, chosen=AT_ONCE)
    assert paused.result.exit_reason is ExitReason.PAUSED
    assert "no JSON object" in paused.result.message
    assert "models.reviewer.model" in paused.result.message
    assert team.said == {1: 3}, "bounded"
    resumed = await run_loop(TableTeam({"1.0": "us=60"}), chosen=AT_ONCE)
    assert resumed.result.exit_reason is ExitReason.GOAL_MET
    assert resumed.outcomes()["a0001"] == "promoted"
    assert [job for job in resumed.jobs() if "-r001-" in job] == [], "nothing is measured again"


async def test_a_run_whose_reviewer_never_parses_ends_with_its_budget(run_loop):
    team = Mumbling(plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=3)), chosen=AT_ONCE)
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS
    assert team.said == {1: 3, 2: 3, 3: 3}
    assert [event.choice for event in decisions(ran, "review")] == ["computed"] * 3
    assert ran.decisions("replan") == [], "what was measured is headway, whoever says so"


async def test_without_a_review_and_without_headway_the_run_stalls(run_loop):
    failing = {f"{r}.{lane}": f"check=fail {r}.{lane}" for r in range(1, 9) for lane in (0, 1)}
    team = Mumbling(failing, plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=9)), chosen=AT_ONCE)
    assert ran.result.exit_reason is ExitReason.STALLED
    assert ran.result.rounds == 3


# -- verdicts and measurements -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "draft", "reason"),
    [
        ("ADVANCED", "check=fail", "nothing was measured"),
        ("STALLED", "us=130", "2 candidates were measured"),
        ("REGRESSED", "us=98", "feedback says 1.02x"),
        ("ADVANCED", "us=130", ""),
        ("STALLED", "check=fail", ""),
        ("REGRESSED", "us=130", ""),
    ],
)
async def test_a_verdict_that_contradicts_the_measurements_is_flagged(
    run_loop, verdict, draft, reason
):
    drafts = {"1.0": draft, "1.1": f"{draft} other"}
    team = TableTeam(drafts, plan=NEVER, reviews={1: make_review(verdict=verdict)})
    ran = await run_loop(team, target=make_target(budget=budget(rounds=1)))
    flagged = [event for event in decisions(ran, "review") if event.choice == "flagged"]
    assert [reason in event.reason for event in flagged] == ([True] if reason else [])


# -- contracts, alignment, criteria --------------------------------------------------------------


async def test_every_fifth_review_is_shown_what_nobody_named_since(run_loop, tmp_path):
    queued = Finding(lane="queued", severity=6, text="try non-temporal stores")
    team = TableTeam(plan=NEVER, reviews={2: make_review(findings=(queued,))})
    limits = budget(rounds=6, least_gain=0)
    ran = await run_loop(team, target=make_target(budget=limits, goal=OUT_OF_REACH))
    seen = {c.view.round: c.alignment for c in team.asked if isinstance(c, ReviewContext)}
    assert [number for number, found in seen.items() if found is not None] == [5]
    assert seen[5] is not None
    assert seen[5].forgotten == ("P6 of round 2: try non-temporal stores",)
    (event,) = decisions(ran, "alignment")
    assert event.choice.startswith("1 forgotten")
    page = (tmp_path / "softmax-test" / "tracker.md").read_text()
    assert "After round 6" in page
    tracker = ran.files.tracker()
    assert tracker is not None
    assert [issue.closed for issue in tracker.issues] == [5], "nobody took it up again"


async def test_writer_and_reviewer_work_under_the_same_contract(run_loop):
    team = TableTeam(plan=NEVER)
    ran = await run_loop(team, target=make_target(budget=budget(rounds=2)))
    for number in (1, 2):
        shown = {
            "" if c.contract is None else c.contract.model_dump_json()
            for c in team.asked
            if isinstance(c, WriteContext | ReviewContext) and c.view.round == number
        }
        kept = ran.files.contract(number)
        assert kept is not None
        assert shown == {kept.model_dump_json()}


async def test_a_plan_that_lowers_the_bar_is_put_right(run_loop):
    class Lowering(TableTeam):
        async def plan(self, context: PlanContext):
            made = await super().plan(context)
            if context.previous is None:
                return made
            easy = make_plan(
                (make_check(CheckRule.ATTEMPTS_MADE, "1"), make_check(CheckRule.WRONG_IS_REJECTED))
            )
            return made.model_copy(update={"tasks": easy.tasks})

    team = Lowering(plan=NEVER, reviews={1: make_review(route="replan")})
    ran = await run_loop(team, ScenarioPool(), make_target(budget=budget(rounds=3)))
    assert ran.result.exit_reason is ExitReason.BUDGET_ROUNDS, "not by an easier criterion"
    (event,) = decisions(ran, "criteria")
    assert event.reason == "ac1 was changed and is put back"
    plans = [c.plan for c in team.asked if isinstance(c, WriteContext) and c.view.round == 2]
    assert plans[0].tasks == NEVER.tasks
    assert plans[0].version == 2
