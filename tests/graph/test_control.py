"""What a user may say, and what it covers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from graph.control import (
    MOST_HINTS,
    Control,
    fallback,
    hints,
    pin_refusal,
    veto_on,
    veto_on_row,
    vetoed,
)
from graph.ledger import AttemptOutcome
from tests.graph.builders import make_attempt


def make_control(number: int = 1, **changes) -> Control:
    values = {
        "control_id": f"{number:020}-0123abcd",
        "at": "2026-01-01T00:00:00+00:00",
        "kind": "hint",
    }
    return Control(**{**values, **changes})


def promoted(number: int, **changes):
    values = {"version": f"v{number:03}", "outcome": AttemptOutcome.PROMOTED}
    return make_attempt(number, **{**values, **changes})


RIGHT = make_attempt(2, version="v002")
WRONG = make_attempt(3, version="v003", outcome=AttemptOutcome.REJECTED)
BROKEN = make_attempt(4, outcome=AttemptOutcome.REJECTED)
ROWS = (promoted(1, family="row", recipe="online"), RIGHT, WRONG, BROKEN)


def test_the_last_hints_are_shown_in_order():
    said = [make_control(n, text=f"hint {n}") for n in range(12)]
    assert hints(said) == tuple(f"hint {n}" for n in range(12 - MOST_HINTS, 12))


def test_only_hints_are_hints_and_only_vetoes_are_vetoes():
    said = (
        make_control(1, text="look at the loads"),
        make_control(2, kind="veto", subject="online", text="too clever"),
        make_control(3, kind="pause", text="lunch"),
        make_control(4, kind="veto", subject="online"),
    )
    assert hints(said) == ("look at the loads",)
    assert vetoed(said) == ("online",)


@pytest.mark.parametrize("subject", ["a0001", "row", "online", "row/online"])
def test_a_veto_names_an_attempt_a_family_a_recipe_or_both(subject):
    assert veto_on_row((subject,), ROWS[0]) == subject
    assert veto_on_row((subject,), RIGHT) == ""


def test_a_veto_covers_nothing_that_merely_begins_alike():
    assert veto_on(("row",), family="rows", recipe="row_wise") == ""
    assert veto_on(("", "/"), attempt_id="a0001") == ""


@given(st.lists(st.sampled_from(["a0001", "row", "online", "x", ""]), max_size=5))
def test_what_a_veto_covers_is_always_one_of_the_subjects(subjects):
    found = veto_on(subjects, attempt_id="a0001", family="row", recipe="online")
    assert found == "" or found in subjects
    assert bool(found) == bool(set(subjects) & {"a0001", "row", "online"})


@pytest.mark.parametrize(
    ("subject", "subjects", "why"),
    [
        ("a0001", (), ""),
        ("a0002", (), ""),
        ("a0003", (), "did not pass every check: it was rejected"),
        ("a0004", (), "did not pass every check"),
        ("a0009", (), "no row in the ledger"),
        ("a0001", ("online",), "falls under the veto of online"),
    ],
)
def test_a_pin_chooses_only_among_what_passed_every_check(subject, subjects, why):
    refusal = pin_refusal(ROWS, subject, subjects)
    assert bool(refusal) == bool(why)
    assert why in refusal


def test_after_a_veto_the_last_promotion_that_is_left_serves():
    rows = (promoted(1), promoted(2, recipe="online"), promoted(3, recipe="online"))
    assert fallback(rows, ()) == "a0003"
    assert fallback(rows, ("online",)) == "a0001"
    assert fallback(rows, ("online", "a0001")) == ""
    assert fallback((RIGHT,), ()) == "", "what was never promoted is no fallback"


def test_a_control_says_what_it_is_about():
    assert make_control(kind="pause").words() == "pause"
    assert make_control(kind="veto", subject="a0003", text="odd").words() == "veto of a0003: odd"


@pytest.mark.parametrize("name", ["", "../run", "1-2", "x" * 30])
def test_a_control_is_named_as_its_file_may_be(name):
    with pytest.raises(ValidationError):
        make_control(control_id=name)
