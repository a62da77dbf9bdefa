"""The order of the triggers, and each of them just on either side of what it asks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.triggers import SAME, SURPRISE, TRIGGERS, Question, trigger
from tests.graph.builders import make_lane


def at(speedup, lane=0):
    return make_lane(lane, status="measured", speedup=speedup)


EVERYTHING = {
    "claimed": "a0001",
    "has_digest": False,
    "review": "run ncu",
    "followers": frozenset({"a0001"}),
    "is_scored": False,
    "idle_attempts": 5,
}
LADDER: tuple[tuple[str, dict[str, object]], ...] = (
    ("claim", {}),
    ("first", {"claimed": ""}),
    ("reviewer", {"has_digest": True}),
    ("regression", {"review": ""}),
    ("no_change", {"slow": 1.0}),
    ("prediction", {"slow": 1.2}),
    ("surprise", {"is_scored": True}),
    ("plateau", {"fast": 1.2}),
)
"""What is taken away before each row is the first that applies."""


def asked(slow=0.9, fast=1.6, **changes):
    return Question(measured=(at(slow), at(fast, 1)), lanes=2, **changes)


def applied(question):
    lane, why = trigger(question)
    if lane is None:
        return None
    half = question.plateau_attempts // 2
    return next(row.name for row in TRIGGERS if row.why.format(half=half) == why)


def test_the_table_is_asked_from_the_top():
    assert [name for name, _ in LADDER] == [row.name for row in TRIGGERS]
    changes = dict(EVERYTHING)
    for name, taken in LADDER:
        changes |= taken
        assert applied(asked(**changes)) == name
    assert applied(asked(**{**changes, "idle_attempts": 0})) is None


@given(
    st.fixed_dictionaries(
        {
            "claimed": st.sampled_from(["", "a0001", "a0002", "a9999"]),
            "has_digest": st.booleans(),
            "review": st.sampled_from(["", "run ncu", "reads well"]),
            "followers": st.sampled_from([frozenset(), frozenset({"a0001"})]),
            "is_scored": st.booleans(),
            "idle_attempts": st.integers(0, 20),
            "plateau_attempts": st.integers(0, 20),
        }
    ),
    st.floats(0, 3),
    st.floats(0, 3),
)
def test_the_first_row_that_names_a_lane_decides(changes, slow, fast):
    question = asked(slow, fast, **changes)
    lane, why = trigger(question)
    named = [(row, row.lane(question)) for row in TRIGGERS if row.lane(question) is not None]
    assert lane == (named[0][1] if named else None)
    assert why.startswith("no new question") == (not named)
    assert lane is None or lane in question.measured


@pytest.mark.parametrize(
    ("speedup", "name"),
    [
        (math.nextafter(1 - SAME, 0), "regression"),
        (1 - SAME, "no_change"),
        (1 + SAME, "no_change"),
        (math.nextafter(1 + SAME, 2), "prediction"),
        (1e-9, "regression"),
        (0.0, "prediction"),
    ],
)
def test_an_edit_made_it_slower_or_the_same_or_faster(speedup, name):
    changes = {"has_digest": True, "followers": frozenset({"a0001"}), "is_scored": False}
    assert applied(asked(speedup, 1.0, **changes)) == name


@pytest.mark.parametrize(
    ("speedup", "name"), [(SURPRISE, "surprise"), (math.nextafter(SURPRISE, 0), None)]
)
def test_a_surprise_is_half_as_fast_again(speedup, name):
    assert applied(asked(1.0, speedup, has_digest=True)) == name


@pytest.mark.parametrize(
    ("idle", "most", "name"),
    [
        (3, 12, None),
        (4, 12, "plateau"),
        (5, 12, "plateau"),
        (6, 12, None),
        (0, 0, None),
        (0, 1, None),
        (0, 2, "plateau"),
        (1, 7, "plateau"),
        (3, 7, None),
    ],
)
def test_a_plateau_is_asked_about_once_when_half_of_it_is_passed(idle, most, name):
    question = asked(1.0, 1.0, has_digest=True, idle_attempts=idle, plateau_attempts=most)
    assert applied(question) == name


@given(st.integers(1, 5), st.integers(2, 40))
def test_however_many_lanes_a_round_has_a_plateau_is_asked_about_once(lanes, most):
    rounds = [
        Question(
            measured=(at(1.0),),
            lanes=lanes,
            has_digest=True,
            idle_attempts=idle,
            plateau_attempts=most,
        )
        for idle in range(0, most + lanes, lanes)
    ]
    assert [applied(one) for one in rounds].count("plateau") == 1


def test_of_equally_fast_lanes_the_first_is_looked_into():
    lanes = (at(1.3, 2), at(1.3, 0), at(1.3, 1))
    lane, _ = trigger(Question(measured=lanes, lanes=3))
    assert lane is not None
    assert lane.lane == 0


@pytest.mark.parametrize(
    ("review", "asks"),
    [
        ("Please profile again", True),
        ("RUN NCU now", True),
        ("take another profile", True),
        ("asks for it: get a new profile.", True),
        ("profile a0012", True),
        ("profile a12", False),
        ("the profiler ran", False),
        ("do not trust the profile", False),
        ("runs ncus", False),
        ("", False),
    ],
)
def test_a_reviewer_asks_in_words_and_does_not_only_mention(review, asks):
    question = asked(1.0, 1.0, has_digest=True, review=review)
    assert applied(question) == ("reviewer" if asks else None)
