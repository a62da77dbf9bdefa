"""When a candidate is looked into."""

import pytest

from graph.nodes.profile import trigger
from tests.graph.builders import make_lane, make_state

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
