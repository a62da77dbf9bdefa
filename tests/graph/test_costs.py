"""What the answers of a run cost, and the command that says so."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph import cli
from graph.costs import TOTAL, costs
from graph.events import Replied, StageStarted
from tests.graph.synthetic_run import SyntheticRun


def make_reply(number: int = 1, **changes) -> Replied:
    values = {
        "key": f"replied:{number}",
        "role": "draft",
        "reply": f"r{number:03}",
        "seconds": 2.0,
        "round": 1,
        "attempt_id": "a0001",
        "calls": 1,
        "input_tokens": 100,
        "cached_tokens": 60,
        "output_tokens": 10,
        "usd": 0.5,
    }
    return Replied(**{**values, **changes})


REPLIES = (
    make_reply(1, role="plan", attempt_id=""),
    make_reply(2),
    make_reply(3, attempt_id="a0002", failure="ModelTimeout", waits=2, waited_s=9.0),
    make_reply(4, attempt_id="a0003", round=2),
)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("role", ["plan", "draft"]),
        ("round", ["round 1", "round 2"]),
        ("attempt", ["a0001", "a0002", "a0003"]),
    ],
)
def test_costs_are_added_up_by_whom_they_are_for(by, names):
    *parts, total = costs(REPLIES, by)
    assert [part.of for part in parts] == names
    assert (total.of, total.answers, total.failures, total.calls) == (TOTAL, 4, 1, 4)
    assert (total.input_tokens, total.cached_tokens, total.usd) == (400, 240, 2.0)
    assert (total.waits, total.waited_s) == (2, 9.0)


def test_other_events_cost_nothing():
    started = StageStarted(key="s", stage="plan", round=1)
    (total,) = costs([started], "role")
    assert total.answers == 0


replies = st.lists(
    st.builds(
        make_reply,
        st.integers(0, 9),
        role=st.sampled_from(["plan", "draft"]),
        round=st.integers(1, 3),
        input_tokens=st.integers(0, 999),
        calls=st.integers(0, 3),
    ),
    max_size=8,
)


@given(replies)
def test_roles_and_rounds_each_add_up_to_all(events):
    for by in ("role", "round"):
        *parts, total = costs(events, by)
        for name in ("answers", "calls", "input_tokens"):
            assert sum(getattr(part, name) for part in parts) == getattr(total, name)


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    run = SyntheticRun(tmp_path / "softmax-1")
    for event in REPLIES:
        run.files.events.append(event)

    def call(*arguments: str) -> tuple[object, str]:
        words = ["kernelpilot", "costs", *arguments, "--set", f"run.directory={tmp_path}"]
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().out

    return call


def test_the_command_prints_a_row_for_each_and_for_all(told):
    code, out = told("latest", "--by", "attempt")
    assert code == 0
    for text in ("a0001", "a0003", TOTAL, "1 (1 failed)", "(9 s waiting)", "2.0000"):
        assert text in out


def test_the_command_speaks_json(told):
    code, out = told("softmax-1", "--json")
    value = json.loads(out)
    assert (code, value["by"]) == (0, "role")
    assert [cost["of"] for cost in value["costs"]] == ["plan", "draft", TOTAL]


def test_an_unknown_run_is_an_error_of_the_user(told):
    code, _ = told("nowhere")
    assert code == 2
