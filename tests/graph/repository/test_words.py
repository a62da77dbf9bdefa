"""Markdown and JSON that nothing in a text can break."""

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.replies import Citation
from gpu_runner.jobs import Reason, Stage
from gpu_runner.records import Comparison, Decision, Verdict
from graph.ledger import Attempt, AttemptOutcome
from graph.repository import words


def make_comparison(speedup: float = 1.25) -> Comparison:
    return Comparison(
        verdict=Verdict.FASTER,
        speedup=speedup,
        low=1.2,
        high=1.3,
        candidate_us=80,
        against_us=100,
    )


def make_decision(record: str = "0123456789abcdef", against: str = "torch eager") -> Decision:
    return Decision(
        against=against,
        record_id=record,
        basis="claim",
        sittings=5,
        clock="wall",
        margin=0.05,
        confidence=0.995,
        overall=make_comparison(),
        workloads={"w": make_comparison()},
    )


def make_attempt(**changes) -> Attempt:
    values = {
        "attempt_id": "a0003",
        "round": 2,
        "lane": 0,
        "candidate_digest": "0" * 64,
        "language": "cpp",
        "motivation": "fewer passes",
        "outcome": AttemptOutcome.MEASURED,
    }
    return Attempt(**{**values, **changes})


def test_a_decision_cites_its_record():
    assert words.decision(make_decision()) == (
        "FASTER 1.250x [1.200, 1.300] against torch eager (`0123456789abcdef`)"
    )


@pytest.mark.parametrize(
    ("time_us", "text"),
    [(0.123456, "0.1235 us"), (84.0, "84 us"), (9999.0, "9999 us"), (12345.0, "12.35 ms")],
)
def test_times_have_four_digits(time_us, text):
    assert words.micros(time_us) == text


def test_an_idea_names_recipe_and_parameters_and_is_short():
    attempt = make_attempt(recipe="online", parameters={"unroll": 4, "bits": 512})
    assert words.idea(attempt) == "online(bits=512, unroll=4): fewer passes"
    long = words.idea(make_attempt(motivation="word " * 100))
    assert len(long) <= 160
    assert long.endswith("…")


def test_why_says_reason_message_and_stage():
    attempt = make_attempt(
        outcome=AttemptOutcome.REJECTED,
        reason=Reason.WRONG_RESULT,
        message="y differs",
        stage=Stage.CHECK,
    )
    assert words.why(attempt) == "wrong_result: y differs at check"
    assert words.why(make_attempt()) == "-"


def test_a_lineage_line_holds_the_whole_descent():
    attempt = make_attempt(
        version="v002",
        parent="a0001",
        outcome=AttemptOutcome.PROMOTED,
        feedback=make_decision("1" * 16, "incumbent"),
        claims=(make_decision("2" * 16),),
        provenance=(Citation(source="a/b.md", licence="MIT"),),
    )
    value = json.loads(words.lineage_line(attempt, "a0003"))
    assert (value["attempt"], value["parent"], value["version"]) == ("a0003", "a0001", "v002")
    assert value["selected"] is True
    assert value["is_best"] is True
    assert value["records"] == ["1" * 16, "2" * 16]
    assert value["evidence"][0]["source"] == "a/b.md"


def test_all_records_of_a_ledger_are_cited():
    first = make_attempt(feedback=make_decision("1" * 16))
    second = make_attempt(claims=(make_decision("2" * 16), make_decision("3" * 16)))
    assert words.cited_records((first, second)) == {"1" * 16, "2" * 16, "3" * 16}


def test_the_first_sentence_of_a_docstring_stands_alone():
    assert words.docstring("one thing") == '"""One thing."""'
    lines = words.docstring("One thing. And another.").splitlines()
    assert lines == ['"""One thing.', "", "And another.", '"""']


@given(st.text(max_size=300))
def test_any_text_is_a_docstring(text):
    source = f"def f():\n    {words.docstring(text)}\n".replace("\n\n\n", "\n\n")
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert ast.get_docstring(function) is not None


@given(st.text(max_size=200))
def test_any_text_is_one_cell(text):
    row = f"| a | {words.cell(text)} | b |"
    assert len(row.splitlines()) == 1
    assert row.replace("\\|", "").count("|") == 4
    assert "<" not in words.cell(text)


@given(st.text(max_size=100))
def test_a_sentence_ends(text):
    assert words.sentence(text).endswith(".")
