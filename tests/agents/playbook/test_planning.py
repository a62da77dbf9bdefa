"""The plan's criteria can be evaluated, and a review says what the round measured."""

from typing import Literal

import pytest

from agents.contexts import PlanContext, ReviewContext
from agents.playbook import Playbook
from agents.replies import CheckRule, CriterionStatus, Review
from gpu_runner.candidate import Language
from gpu_runner.jobs import Reason
from gpu_runner.records import Verdict
from graph.targets import load_target
from tests.agents.builders import make_decision, make_past, make_plan, make_view
from tests.agents.playbook.device import ON_CPU
from tests.agents.playbook.test_search import run_of


async def plan_of(view=None, **changes):
    return await Playbook().plan(PlanContext(view=view or make_view(), **changes))


def standing(criterion_id: str, status: Literal["MET", "PARTIAL", "NOT_MET"]) -> CriterionStatus:
    return CriterionStatus(criterion_id=criterion_id, status=status, evidence=("a0001",))


async def review_of(*, view=None, met=False, decisions=(), plan=None) -> Review:
    plan = plan or await plan_of()
    found = tuple(standing(t.criterion.criterion_id, "MET") for t in plan.tasks) if met else ()
    context = ReviewContext(
        view=view or make_view(), plan=plan, diff="", decisions=decisions, criteria=found
    )
    return await Playbook().review(context)


@pytest.mark.parametrize("name", ON_CPU)
async def test_every_target_gets_a_plan_with_executable_criteria(name):
    plan = await plan_of(make_view(problem=load_target(name).problem))
    assert plan.language is Language.CPP
    assert [task.criterion.criterion_id for task in plan.tasks] == ["ac1", "ac2", "ac3"]
    rules = {check.rule for task in plan.tasks for check in task.criterion.positive}
    assert {CheckRule.CORRECT_OVER_W, CheckRule.FASTER_THAN_BASELINE} <= rules
    assert plan.version == 1


async def test_the_plan_names_the_contender_of_the_goal():
    plan = await plan_of(make_view(goal_against="torch compile"))
    (check,) = plan.tasks[1].criterion.positive
    assert check.parameter == "torch compile"


async def test_a_small_search_asks_for_fewer_attempts():
    problem = load_target("int8_scaled_mm").problem
    small = await plan_of(make_view(problem=problem, isa=("avx512f", "amx_tile", "amx_int8")))
    large = await plan_of()
    assert small.tasks[2].criterion.positive[0].parameter == "2"
    assert large.tasks[2].criterion.positive[0].parameter == "16"


async def test_a_replan_has_the_next_version_and_its_reason():
    first = await plan_of()
    second = await plan_of(previous=first, why_again="three rounds brought nothing")
    assert second.version == 2
    assert second.reason.startswith("replanned: three rounds brought nothing")


async def test_a_round_that_measured_has_advanced_even_if_it_lost():
    attempts = (make_past(0, vs_baseline=0.2), make_past(1, outcome="rejected", vs_baseline=None))
    review = await review_of(view=make_view(attempts=attempts, stalled_rounds=1))
    assert (review.verdict, review.route) == ("ADVANCED", "refine")


@pytest.mark.parametrize("outcome", ["rejected", "unserved"])
async def test_a_round_that_measured_nothing_has_stalled(outcome):
    attempts = (
        make_past(0, round=0),
        make_past(2, round=1, outcome=outcome, vs_baseline=None, reason=Reason.CRASHED),
    )
    review = await review_of(view=make_view(attempts=attempts, round=1))
    assert review.verdict == "STALLED"


async def test_a_slower_claim_has_regressed():
    view = make_view(attempts=(make_past(0),))
    review = await review_of(view=view, decisions=(make_decision(Verdict.SLOWER),))
    assert review.verdict == "REGRESSED"
    assert review.findings[0].lane == "mainline"
    assert "record 0123456789abcdef" in review.findings[0].text


async def test_slower_feedback_is_no_regression():
    view = make_view(attempts=(make_past(0),))
    feedback = make_decision(Verdict.SLOWER, basis="feedback", sittings=1)
    assert (await review_of(view=view, decisions=(feedback,))).verdict == "ADVANCED"


async def test_criteria_stand_as_their_checks_found_them():
    found = (standing("ac2", "MET"), standing("ac3", "PARTIAL"))
    context = ReviewContext(
        view=make_view(), plan=await plan_of(), diff="", decisions=(), criteria=found
    )
    review = await Playbook().review(context)
    missing = CriterionStatus(criterion_id="ac1", status="NOT_MET")
    assert review.criteria == (missing, *found)


async def test_a_plan_that_is_partly_met_is_not_tuned_yet():
    plan = await plan_of()
    found = (standing("ac1", "MET"), standing("ac2", "MET"), standing("ac3", "PARTIAL"))
    view = make_view(attempts=(make_past(0),), stalled_rounds=4)
    context = ReviewContext(view=view, plan=plan, diff="", decisions=(), criteria=found)
    assert (await Playbook().review(context)).route == "research"


async def test_a_rejection_is_a_queued_finding_and_never_blocks():
    attempts = (
        make_past(0, outcome="rejected", vs_baseline=None, reason=Reason.WRONG_RESULT, message="y"),
    )
    review = await review_of(view=make_view(attempts=attempts))
    (finding,) = review.findings
    assert finding.lane == "queued"
    assert "a0000" in finding.text
    assert "wrong_result" in finding.text


@pytest.mark.parametrize(
    ("stalled", "met", "route"),
    [
        (0, False, "refine"),
        (3, True, "refine"),
        (4, False, "research"),
        (4, True, "autotune"),
        (5, False, "refine"),
        (8, False, "replan"),
        (12, False, "research"),
    ],
)
async def test_the_route_follows_how_long_nothing_was_promoted(stalled, met, route):
    view = make_view(attempts=(make_past(0),), stalled_rounds=stalled)
    assert (await review_of(view=view, met=met)).route == route


async def test_a_spent_search_is_tuned_at_once():
    isa = ("avx512f", "amx_tile", "amx_int8")
    drafts = await run_of(3, target="int8_scaled_mm", isa=isa)
    attempts = tuple(
        make_past(i, candidate_digest=d.candidate.digest, recipe=d.recipe, parameters=d.parameters)
        for i, d in enumerate(drafts)
    )
    problem = load_target("int8_scaled_mm").problem
    view = make_view(problem=problem, isa=isa, attempts=attempts)
    review = await review_of(view=view, plan=make_plan())
    assert review.route == "autotune"
    assert "every set" in review.advice
