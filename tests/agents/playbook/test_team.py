"""The playbook is a Team: five roles, no cost, refusals that say what to configure."""

import pytest

from agents.contexts import DigestContext, PlanContext
from agents.errors import NothingFits
from agents.playbook import Playbook
from agents.roles import Spend, Team
from gpu_runner.candidate import Language
from tests.agents.builders import make_past, make_view, problem_of
from tests.agents.playbook.test_diagnosis import CASES
from tests.builders import make_candidate


def as_team(team: Team) -> Team:
    return team


async def test_it_is_a_team_that_costs_nothing():
    team = as_team(Playbook())
    await team.plan(PlanContext(view=make_view()))
    assert team.name == "playbook"
    assert team.spend() == Spend()


async def test_a_problem_no_recipe_covers_is_refused_by_name():
    view = make_view(problem=problem_of("prefix_sum", {"x": "B N"}, {"y": "B N"}))
    with pytest.raises(NothingFits, match="problem 'prefix_sum': no recipe covers"):
        await Playbook().plan(PlanContext(view=view))


@pytest.mark.parametrize(
    ("languages", "told"), [((Language.PYTHON,), "allows python"), ((), "allows no language")]
)
async def test_without_cpp_it_says_what_to_add(languages, told):
    with pytest.raises(NothingFits, match=told):
        await Playbook().plan(PlanContext(view=make_view(languages=languages)))


async def test_the_digest_carries_diagnosis_comparison_and_one_edit():
    context = DigestContext(
        view=make_view(),
        candidate=make_candidate(),
        attempt=make_past(0, recipe="plain", vs_baseline=0.125),
        facts=CASES["calls_in_loop"],
        parent_facts=CASES["spills"],
    )
    digest = await Playbook().digest(context)
    assert digest.bottleneck == "calls_in_loop"
    assert digest.against_baseline == ("0.12 times the speed of torch eager",)
    assert "spills: 20 -> 50" in digest.against_parent
    assert digest.next_edit.recipe == "three_pass"
    assert digest.query == "polynomial exp softmax cpp x86_64"
    assert digest.rule == "calls_in_loop"


async def test_an_attempt_without_a_time_is_told_so():
    context = DigestContext(
        view=make_view(),
        candidate=make_candidate(),
        attempt=make_past(0, vs_baseline=None),
        facts=CASES["unknown"],
    )
    digest = await Playbook().digest(context)
    assert digest.against_baseline == ("no time against torch eager",)
