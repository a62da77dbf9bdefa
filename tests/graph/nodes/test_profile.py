"""When a candidate is looked into, and what comes of it."""

import asyncio

import pytest

from agents.contexts import DigestContext
from agents.errors import NothingFits
from gpu_runner.jobs import Benched, Profile
from graph.events import ProfileRead
from graph.nodes.profile import profile, trigger
from graph.target import Budget
from tests.graph.builders import (
    make_digest,
    make_lane,
    make_record,
    make_state,
    make_target,
)
from tests.graph.teams import TableTeam

SLOW = make_lane(0, status="measured", speedup=0.9)
FAST = make_lane(1, status="measured", speedup=1.4)


@pytest.mark.parametrize(
    ("lanes", "changes", "attempt", "why"),
    [
        ((SLOW, FAST), {"claimed": "a0001"}, "a0001", "promotion is at hand"),
        ((SLOW, FAST), {}, "a0002", "nothing is known"),
        ((SLOW, FAST), {"digest": "r001", "idle_attempts": 4}, "a0002", "before a pivot"),
        ((SLOW, FAST), {"digest": "r001", "idle_attempts": 6}, None, "no new question"),
        ((SLOW, FAST), {"digest": "r001", "idle_attempts": 1}, None, "no new question"),
        ((make_lane(0, status="rejected"),), {}, None, "no candidate of the round was measured"),
        ((), {}, None, "no candidate of the round was measured"),
    ],
)
def test_the_trigger_table(lanes, changes, attempt, why):
    lane, reason = trigger(make_state(*lanes, **changes), 12)
    assert (lane.attempt_id if lane else None) == attempt
    assert why in reason


def test_of_equally_fast_candidates_the_first_is_profiled():
    lanes = [make_lane(n, status="measured", speedup=1.0) for n in range(3)]
    lane, _ = trigger(make_state(*lanes), 12)
    assert lane is lanes[0]


def test_half_way_to_a_plateau_is_passed_once():
    asked = [
        before
        for before in range(0, 14, 2)
        if trigger(make_state(SLOW, FAST, digest="r001", idle_attempts=before), 12)[0]
    ]
    assert len(asked) == 1


# -- the node ------------------------------------------------------------------------------------


def measured(workshop, text: str = "us=80", **changes):
    """A lane with its feedback in the run directory."""
    lane = workshop.lane(0, text, **{"status": "measured", "speedup": 1.2, **changes})
    record = make_record(80.0, candidate_digest=lane.digest, sittings=1)
    job_id = f"softmax-test-r001-l0-{lane.attempt_id}-bench-t0"
    workshop.files.save_outcome(Benched(job_id=job_id, record=record, seconds=1.0))
    return lane


def asked(workshop) -> DigestContext:
    (context,) = workshop.team.asked
    assert isinstance(context, DigestContext)
    return context


async def test_facts_are_kept_before_they_are_digested(workshop):
    update = await profile(workshop.state(measured(workshop)), workshop.runtime)
    assert update == {"digest": "r001"}
    (job,) = workshop.ran()
    assert isinstance(job, Profile)
    assert [w.name for w in job.workloads] == ["small", "wide"]
    facts = workshop.files.facts("a0001")
    assert facts is not None
    assert facts == asked(workshop).facts
    assert [roof.fraction_reached for roof in facts.roofline] == [0.5, 0.5]
    (event,) = [e for e in workshop.files.events.read() if isinstance(e, ProfileRead)]
    assert event.next_edit == "vectorise the inner loop"
    assert "nothing is known" in event.trigger


async def test_the_digest_is_of_the_attempt_as_it_was_measured(workshop):
    await profile(workshop.state(measured(workshop)), workshop.runtime)
    context = asked(workshop)
    assert (context.attempt.attempt_id, context.attempt.recipe) == ("a0001", "online")
    assert context.attempt.feedback is not None
    assert context.attempt.feedback.overall.speedup == pytest.approx(1.25, rel=0.01)
    assert (context.parent_facts, context.last_edit) == (None, None)


async def test_a_later_digest_is_told_of_the_parent_and_of_the_last_edit(workshop):
    workshop.promoted(7, "us=90")
    before = measured(workshop, "us=90")
    await profile(workshop.state(before), workshop.runtime)
    facts = workshop.files.facts("a0001")
    assert facts is not None
    workshop.files.save_facts("a0007", facts)
    workshop.files.save_reply("r009", make_digest())
    workshop.team.asked.clear()
    later = measured(workshop, "us=80", attempt_id="a0009", parent="a0007", round=2)
    state = workshop.state(later, round=2, claimed="a0009", digest="r009", incumbent="a0007")
    assert await profile(state, workshop.runtime) == {"digest": "r002"}
    context = asked(workshop)
    assert context.parent_facts == facts
    assert context.last_edit == make_digest().next_edit


async def test_without_a_question_nothing_is_profiled_and_the_log_says_why(workshop):
    state = workshop.state(measured(workshop), digest="r000")
    assert await profile(state, workshop.runtime) == {}
    assert workshop.ran() == []
    (decision,) = workshop.decisions("profile")
    assert decision.choice == "none"
    assert "the last digest still holds" in decision.reason


async def test_facts_that_cannot_be_had_stop_nothing(workshop):
    lane = measured(workshop, "us=80 lost=99")
    assert await profile(workshop.state(lane), workshop.runtime) == {}
    assert workshop.files.facts("a0001") is None
    assert workshop.team.asked == []
    assert [d.choice for d in workshop.decisions("profile")] == ["a0001", "unavailable"]


class Puzzled(TableTeam):
    """Cannot digest facts, or not in time."""

    def __init__(self, *, is_slow: bool) -> None:
        super().__init__()
        self.is_slow = is_slow

    async def digest(self, context):
        if self.is_slow:
            await asyncio.sleep(60)
        raise NothingFits("no rule for these facts")


async def test_facts_that_nobody_can_digest_are_kept(make_workshop):
    workshop = make_workshop(team=Puzzled(is_slow=False))
    assert await profile(workshop.state(measured(workshop)), workshop.runtime) == {}
    assert workshop.files.facts("a0001") is not None
    last = workshop.decisions("profile")[-1]
    assert (last.choice, last.reason) == ("not digested", "no rule for these facts")


async def test_facts_of_before_a_kill_are_digested_only_while_there_is_time(make_workshop):
    limits = Budget(rounds=3, wall_s=100)
    workshop = make_workshop(team=Puzzled(is_slow=True), target=make_target(budget=limits))
    lane = measured(workshop)
    job_id = "softmax-test-r001-l0-a0001-profile-t0"
    job = Profile(
        job_id=job_id,
        problem=workshop.services.target.problem,
        timeout_s=9.0,
        candidate=workshop.files.candidate(lane.digest),
        workloads=workshop.services.target.public,
    )
    workshop.files.save_outcome(await workshop.pool.run(job))
    workshop.clock.now_s = 99.0
    assert await profile(workshop.state(lane), workshop.runtime) == {}
    assert "no answer within" in workshop.decisions("profile")[-1].reason
    assert workshop.files.facts("a0001") is not None
