"""What a lane is asked to write, and what becomes of the answer."""

import asyncio

import pytest

from agents.contexts import WriteContext
from gpu_runner.candidate import Language
from gpu_runner.jobs import Reason, Stage
from graph.errors import LoopError
from graph.ledger import AttemptOutcome
from graph.nodes.write import write
from graph.state import LaneState, Order
from graph.target import Budget, Scope
from tests.builders import make_candidate
from tests.graph.builders import (
    make_digest,
    make_draft,
    make_research,
    make_review,
    make_target,
)
from tests.graph.teams import MALFORMED, NOTHING, TableTeam

FIRST = Order(round=1, lane=0, attempt_id="a0001")


def ordered(workshop, order: Order = FIRST, **changes) -> LaneState:
    return {**workshop.state(**changes), "order": order}  # type: ignore[typeddict-item]  # widened


async def written(workshop, order: Order = FIRST, **changes):
    update = await write(ordered(workshop, order, **changes), workshop.runtime)
    (lane,) = update["lanes"].values()
    return lane


def asked(workshop) -> WriteContext:
    (context,) = workshop.team.asked
    assert isinstance(context, WriteContext)
    return context


async def test_a_draft_is_kept_before_anything_is_done_with_it(make_workshop):
    workshop = make_workshop(team=TableTeam({"1.0": "us=60"}))
    lane = await written(workshop)
    assert (lane.status, lane.attempt_id, lane.message) == ("drafted", "a0001", "")
    assert "us=60" in workshop.files.candidate(lane.digest).sources[0].text
    assert workshop.kinds() == ["stage_started", "replied", "stage_ended"]


async def test_the_writer_is_given_the_replies_that_the_state_names(workshop):
    for key, reply in (
        ("r002", make_research(findings=("later",))),
        ("r003", make_digest(query="why")),
        ("r004", make_review(advice="go on")),
    ):
        workshop.files.save_reply(key, reply)
    await written(workshop, research="r002", digest="r003", review="r004")
    context = asked(workshop)
    assert context.research is not None
    assert context.research.findings == ("later",)
    assert context.digest is not None
    assert context.digest.query == "why"
    assert context.review is not None
    assert context.review.advice == "go on"
    assert (context.lane, context.lanes, context.parent) == (0, 2, None)


async def test_what_does_not_exist_yet_is_not_given(workshop):
    await written(workshop)
    context = asked(workshop)
    assert (context.research, context.digest, context.review, context.repair) == (None,) * 4


async def test_the_incumbent_is_the_parent(workshop):
    workshop.promoted(1, "us=80")
    order = Order(round=1, lane=1, attempt_id="a0002")
    lane = await written(workshop, order, incumbent="a0001")
    assert lane.parent == "a0001"
    parent = asked(workshop).parent
    assert parent is not None
    assert "us=80" in parent.sources[0].text


async def test_a_repair_is_given_the_broken_source_and_what_was_said_of_it(workshop):
    workshop.promoted(1, "us=80")
    workshop.promoted(
        2,
        "us=60 build=fail",
        outcome=AttemptOutcome.REJECTED,
        claims=(),
        stage=Stage.BUILD,
        reason=Reason.COMPILE_FAILED,
        message="expected ';'",
    )
    order = Order(round=1, lane=0, attempt_id="a0003", repair=1, repair_of="a0002")
    lane = await written(workshop, order, incumbent="a0001")
    assert (lane.repair, lane.draft_key) == (1, "r001-l0-t1")
    context = asked(workshop)
    assert context.repair is not None
    assert (context.repair.attempt_id, context.repair.message) == ("a0002", "expected ';'")
    assert context.parent is not None
    assert "build=fail" in context.parent.sources[0].text


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (MALFORMED, "undrafted", "the reply is no Draft"),
        (NOTHING, "exhausted", "configure a model"),
    ],
)
async def test_a_writer_without_a_draft_is_said_in_the_lane(make_workshop, answer, status, words):
    workshop = make_workshop(team=TableTeam({"1.0": answer}))
    lane = await written(workshop)
    assert lane.status == status
    assert words in lane.message
    assert lane.digest == ""


async def test_a_writer_that_takes_too_long_is_our_failure_not_the_candidates(make_workshop):
    class Slow(TableTeam):
        async def write(self, context):
            await asyncio.sleep(60)
            return make_draft()

    workshop = make_workshop(team=Slow(), target=make_target(budget=Budget(rounds=3, wall_s=100)))
    workshop.clock.now_s = 99.9
    lane = await written(workshop)
    assert (lane.status, lane.digest) == ("unserved", "")
    assert workshop.files.attempts() == ()


async def test_a_draft_in_a_language_out_of_scope_is_written_again(make_workshop):
    class Wrong(TableTeam):
        async def write(self, context):
            return make_draft().model_copy(
                update={"candidate": make_candidate(language=Language.PYTHON)}
            )

    workshop = make_workshop(team=Wrong())
    lane = await written(workshop)
    assert lane.status == "undrafted"
    assert lane.message == "the draft is in python; this run can use: cpp"
    (decision,) = workshop.decisions("repair")
    assert decision.key == "decision:repair:r001-l0-t0"


async def test_a_language_in_scope_is_taken(make_workshop):
    class Other(TableTeam):
        async def write(self, context):
            return make_draft().model_copy(
                update={"candidate": make_candidate(language=Language.PYTHON)}
            )

    scope = Scope(languages=(Language.CPP, Language.PYTHON))
    workshop = make_workshop(team=Other(), target=make_target(scope=scope))
    assert (await written(workshop)).status == "drafted"


async def test_a_draft_that_was_tried_before_names_its_attempt(make_workshop):
    workshop = make_workshop(team=TableTeam({"1.0": "us=80"}))
    workshop.promoted(7, "us=80")
    lane = await written(workshop)
    assert (lane.status, lane.message) == ("undrafted", "the draft is the same as a0007")


async def test_without_the_plan_of_the_state_nothing_is_asked(workshop):
    with pytest.raises(LoopError, match="the plan 'r009' is missing"):
        await write(ordered(workshop, plan="r009"), workshop.runtime)
    assert workshop.team.asked == []


async def test_a_draft_that_was_paid_for_is_not_asked_for_again(workshop):
    first = await written(workshop)
    again = await written(workshop)
    assert first == again
    assert len(workshop.team.asked) == 1


async def test_what_the_lane_tried_in_the_round_before_is_given_if_it_was_refused(workshop):
    refused = AttemptOutcome.REJECTED
    workshop.promoted(1, "us=80", outcome=refused, round=1, lane=0, reason=Reason.WRONG_RESULT)
    workshop.promoted(2, "us=90", outcome=refused, round=1, lane=1, reason=Reason.WRONG_RESULT)
    await written(workshop, Order(round=2, lane=1, attempt_id="a0003"), round=2)
    context = asked(workshop)
    assert context.refused is not None
    assert context.refused.attempt_id == "a0002"
    assert context.refused_source is not None
    assert "us=90" in context.refused_source.sources[0].text


async def test_what_was_measured_or_is_older_is_not(workshop):
    workshop.promoted(1, "us=80", outcome=AttemptOutcome.REJECTED, round=1, lane=0)
    workshop.promoted(2, "us=90", outcome=AttemptOutcome.MEASURED, round=2, lane=0)
    await written(workshop, Order(round=3, lane=0, attempt_id="a0003"), round=3)
    assert asked(workshop).refused is None


async def test_a_lane_that_is_written_again_is_told_why(workshop):
    first = await written(workshop)
    again = Order(round=1, lane=0, attempt_id="a0001", repair=1)
    spoiled = first.model_copy(update={"status": "undrafted", "message": "no JSON object"})
    workshop.team.asked.clear()
    await written(workshop, again, lanes={"0": spoiled})
    assert asked(workshop).fault == "no JSON object"


async def test_what_was_tried_is_known_by_more_than_its_bytes(workshop):
    workshop.promoted(1, "us=80")
    await written(workshop, Order(round=1, lane=1, attempt_id="a0002"), incumbent="a0001")
    assert list(asked(workshop).tried.values()) == ["a0001"]
