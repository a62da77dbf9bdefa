"""Before the first candidate: admission, plan, research."""

import asyncio
import dataclasses

import pytest
from langgraph.runtime import Runtime

from agents.contexts import PlanContext, ResearchContext
from agents.errors import NothingFits
from agents.replies import OpenQuestion
from gpu_runner.candidate import Language
from gpu_runner.jobs import Admit, Rejected, Unserved
from graph.nodes.admit import admit
from graph.nodes.plan import plan
from graph.nodes.research import research
from graph.state import first_state
from graph.target import Budget, Scope
from tests.graph.builders import make_digest, make_plan, make_research, make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam

SHORT = Budget(rounds=3, wall_s=60)


class Silent(TableTeam):
    """Knows nothing, or (`is_slow`) takes a minute to say so."""

    def __init__(self, *, is_slow: bool = False) -> None:
        super().__init__()
        self.is_slow = is_slow

    async def plan(self, context):
        return await self._nothing()

    async def research(self, context):
        return await self._nothing()

    async def _nothing(self):
        if self.is_slow:
            await asyncio.sleep(60)
        raise NothingFits("no recipe covers this problem")


# -- admission -----------------------------------------------------------------------------------


async def test_the_whole_target_is_admitted_with_its_evidence(workshop):
    assert await admit(workshop.state(), workshop.runtime) == {}
    (job,) = workshop.ran()
    assert isinstance(job, Admit)
    assert [w.name for w in job.workloads] == ["small", "wide", "odd"]
    assert [side.name for side in job.baselines] == ["torch eager", "torch compile"]
    (decision,) = workshop.decisions("admission")
    assert (decision.choice, decision.evidence) == ("admitted", ("softmax-test-admit-t0",))
    assert "tightest margin 20.0x" in decision.reason
    assert "2 planted wrong ones were refused" in decision.reason


async def test_an_unfit_target_ends_the_run_with_the_runners_words(make_workshop):
    workshop = make_workshop(pool=ScenarioPool(unfit="the output is constant"))
    update = await admit(workshop.state(), workshop.runtime)
    assert update == {"exit_reason": "unfit_target", "exit_message": "the output is constant"}
    (decision,) = workshop.decisions("admission")
    assert (decision.choice, decision.reason) == ("refused", "the output is constant")


class Lost(ScenarioPool):
    """Serves nothing."""

    async def run(self, job):
        self.ran.append(job)
        return Unserved(
            job_id=job.job_id, cause="runner_lost", message="no worker", is_retryable=True
        )


async def test_a_target_nobody_could_try_is_not_called_unfit(make_workshop):
    workshop = make_workshop(pool=Lost())
    update = await admit(workshop.state(), workshop.runtime)
    assert update == {"exit_reason": "error", "exit_message": "no worker"}
    assert len(workshop.ran()) == workshop.services.jobs.tries
    assert workshop.decisions("admission") == []


async def test_admission_is_an_error_where_a_baseline_is_rejected(make_workshop):
    class Strict(ScenarioPool):
        async def run(self, job):
            return Rejected(
                job_id=job.job_id, stage="check", reason="crashed", message="torch compile crashed"
            )

    update = await admit(*_given(make_workshop(pool=Strict())))
    assert update == {"exit_reason": "error", "exit_message": "torch compile crashed"}


def _given(workshop):
    return workshop.state(), workshop.runtime


# -- plan ----------------------------------------------------------------------------------------


async def test_the_first_plan_is_asked_for_without_a_reason(make_workshop):
    workshop = make_workshop()
    update = await plan({**first_state(), "round": 2}, workshop.runtime)
    assert update == {"plan": "r002"}
    (context,) = workshop.team.asked
    assert isinstance(context, PlanContext)
    assert (context.previous, context.why_again) == (None, "")
    (decision,) = workshop.decisions("plan")
    assert (decision.choice, decision.reason) == ("cpp", "first plan; a compiler is there")


async def test_a_replan_is_told_why_and_what_it_replaces(workshop):
    state = workshop.state(round=4, why_again="3 rounds in a row made no headway")
    assert await plan(state, workshop.runtime) == {"plan": "r004"}
    (context,) = workshop.team.asked
    assert context.previous == make_plan()
    assert context.why_again == "3 rounds in a row made no headway"
    made = workshop.files.replies(type(make_plan()))["r004"]
    assert (made.version, made.reason) == (2, "3 rounds in a row made no headway")


class Asking(TableTeam):
    """Plans by a default where the choice is the user's."""

    async def plan(self, context):
        asked = OpenQuestion(
            question="Is a rounding of the sum to float16 welcome?",
            options=("no", "yes"),
            default="no",
            reason="it is within the bounds, and nobody asked for it",
        )
        made = await super().plan(context)
        return made.model_copy(update={"open_questions": (asked, asked)})


async def test_a_question_to_the_user_is_answered_by_its_default_and_logged(make_workshop):
    workshop = make_workshop(team=Asking())
    for _ in range(2):  # as after a resumption
        update = await plan({**first_state(), "round": 2}, workshop.runtime)
        assert update == {"plan": "r002"}
    first, second = workshop.decisions("question")
    assert (first.choice, first.key) != (second.choice, second.key)
    assert first.choice == "no"
    assert first.reason.startswith("Is a rounding of the sum to float16 welcome? (no or yes): ")
    assert f"`kernelpilot hint {workshop.services.manifest.run_id} " in first.reason


async def test_without_a_toolchain_the_planner_is_not_asked(make_workshop):
    workshop = make_workshop(target=make_target(scope=Scope(languages=(Language.CPP,))))
    bare = workshop.manifest.environment.model_copy(update={"compiler": ""})
    manifest = workshop.manifest.model_copy(update={"environment": bare})
    services = dataclasses.replace(workshop.services, manifest=manifest)
    update = await plan(workshop.state(round=2), Runtime(context=services))
    assert update["exit_reason"] == "infeasible"
    assert "(cpp) has a toolchain" in update["exit_message"]
    assert "kernelpilot doctor" in update["exit_message"]
    assert workshop.team.asked == []


# -- research ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why_again", "digest", "query"),
    [
        ("", "", ""),
        ("", "r002", "which exp is fastest"),
        ("12 attempts without a promotion", "", "12 attempts without a promotion"),
        ("12 attempts", "r002", "12 attempts which exp is fastest"),
    ],
)
async def test_research_asks_what_the_pivot_and_the_profile_want_to_know(
    workshop, why_again, digest, query
):
    workshop.files.save_reply("r002", make_digest(query="which exp is fastest"))
    state = workshop.state(round=3, why_again=why_again, digest=digest)
    update = await research(state, workshop.runtime)
    assert update == {"research": "r003", "why_again": ""}
    (context,) = workshop.team.asked
    assert isinstance(context, ResearchContext)
    assert context.query == query
    assert workshop.files.reply(type(make_research()), "r003") is not None


# -- both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", [plan, research])
async def test_where_nothing_fits_the_run_is_infeasible(make_workshop, node):
    workshop = make_workshop(team=Silent())
    update = await node(workshop.state(round=2), workshop.runtime)
    assert update == {
        "exit_reason": "infeasible",
        "exit_message": "no recipe covers this problem",
    }


@pytest.mark.parametrize("node", [plan, research])
async def test_an_answer_that_comes_too_late_ends_the_run_in_time(make_workshop, node):
    workshop = make_workshop(team=Silent(is_slow=True), target=make_target(budget=SHORT))
    workshop.clock.now_s = 59.0
    update = await node(workshop.state(round=2), workshop.runtime)
    assert update["exit_reason"] == "budget_wall"
    assert "no answer within" in update["exit_message"]


@pytest.mark.parametrize("node", [plan, research])
async def test_a_question_answered_before_a_kill_is_not_asked_again(workshop, node):
    state = workshop.state(round=2)
    assert await node(state, workshop.runtime) == await node(state, workshop.runtime)
    assert len(workshop.team.asked) == 1
