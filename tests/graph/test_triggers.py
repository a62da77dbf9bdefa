"""Each row of the table, in the order that makes later ones moot."""

import pytest

from graph.triggers import SAME, SURPRISE, TRIGGERS, Question, trigger
from tests.graph.builders import make_lane

SLOW = make_lane(0, status="measured", speedup=0.9)
FAST = make_lane(1, status="measured", speedup=1.1)
FOLLOWED = {"followers": frozenset({SLOW.attempt_id}), "is_scored": False}


def ask(*lanes, **changes):
    values = {"measured": lanes, "lanes": len(lanes), "has_digest": True, "idle_attempts": 1}
    lane, why = trigger(Question(**{**values, **changes}))
    return (lane.attempt_id if lane else None), why


def at(speedup):
    return make_lane(0, status="measured", speedup=speedup)


@pytest.mark.parametrize(
    ("lanes", "changes", "attempt", "why"),
    [
        ((SLOW, FAST), {"claimed": SLOW.attempt_id}, SLOW, "promotion is at hand"),
        ((SLOW, FAST), {"has_digest": False}, FAST, "nothing is known"),
        ((SLOW, FAST), {"review": "please profile it"}, FAST, "reviewer asks"),
        ((SLOW, FAST), {"review": "This needs another profile."}, FAST, "reviewer asks"),
        ((SLOW, FAST), {"review": "Re-profile a0007 before more work"}, FAST, "reviewer asks"),
        ((SLOW, FAST), {"review": "the profile is old, run ncu"}, FAST, "reviewer asks"),
        ((SLOW, FAST), {"review": "go on with the profiler's edit"}, None, "no new question"),
        ((SLOW, FAST), {"review": "let the profile choose"}, None, "no new question"),
        ((SLOW, FAST), {"review": "reads well"}, None, "no new question"),
        ((SLOW, FAST), FOLLOWED, SLOW, "made it slower"),
        ((at(1.0), FAST), FOLLOWED, at(1.0), "less than 2 %"),
        ((at(1.2), FAST), FOLLOWED, at(1.2), "never put to the test"),
        ((SLOW, FAST), {**FOLLOWED, "is_scored": True}, None, "no new question"),
        ((SLOW, make_lane(1, status="measured", speedup=1.6)), {}, FAST, "half as fast again"),
        ((SLOW, FAST), {"idle_attempts": 5}, FAST, "6 attempts without a promotion"),
        ((SLOW, FAST), {"idle_attempts": 6}, None, "no new question"),
        ((SLOW, FAST), {}, None, "no new question"),
        ((), {"has_digest": False}, None, "no candidate of the round was measured"),
    ],
)
def test_each_row(lanes, changes, attempt, why):
    found, reason = ask(*lanes, **changes)
    assert found == (attempt.attempt_id if attempt else None)
    assert why in reason


def test_a_claim_comes_before_everything_else():
    found, _ = ask(
        SLOW, FAST, claimed=FAST.attempt_id, has_digest=False, review="profile", **FOLLOWED
    )
    assert found == FAST.attempt_id


@pytest.mark.parametrize(
    ("speedup", "why"),
    [(1 - SAME, "less than 2 %"), (1 + SAME, "less than 2 %"), (0.97, "slower"), (1.03, "test")],
)
def test_within_two_percent_is_no_change(speedup, why):
    assert why in ask(at(speedup), **FOLLOWED)[1]


def test_a_surprise_begins_where_it_is_said_to():
    assert ask(at(SURPRISE))[0]
    assert ask(at(SURPRISE - 0.01))[0] is None


def test_a_lane_without_a_time_of_its_own_is_no_regression():
    assert "test" in ask(at(0.0), **FOLLOWED)[1]


def test_rows_have_names_and_reasons_of_their_own():
    assert (
        len({row.name for row in TRIGGERS}) == len({row.why for row in TRIGGERS}) == len(TRIGGERS)
    )
