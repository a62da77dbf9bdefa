"""A sample of `make crash-models`: a killed run of models goes on as if it never was."""

import os
import signal

import pytest

from graph.events import StageEnded, StageStarted
from tests.graph.model_crash import MOMENTS, Story, die_as, faults, tell

pytestmark = pytest.mark.processes


@pytest.mark.long
def test_a_run_that_is_killed_goes_on_with_nothing_lost_and_nothing_paid_twice(tmp_path):
    assert tell(tmp_path, ("finalize ends",)) == []


def test_every_node_has_its_moments():
    assert len(MOMENTS) == 2 * 14
    assert all(callable(die_as(moment)) for moment in MOMENTS)


@pytest.mark.parametrize(
    ("moment", "dies"), [("plan begins", True), ("plan ends", False), ("review begins", False)]
)
def test_a_moment_is_one_event_of_one_node(moment, dies, monkeypatch):
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, number: killed.append(number))
    die_as(moment)(StageStarted(key="k", stage="plan", round=1))
    assert killed == ([signal.SIGKILL] if dies else [])
    die_as(moment)(StageEnded(key="e", stage="admit", round=1, seconds=0.1))
    assert len(killed) == int(dies)


def made(**changes) -> Story:
    result = {"tokens": 1600, "usd": 0.016, "exit_reason": "goal_met", "to_best": {}}
    values = {
        "ledger": {"attempts": [1], "records": ["r"], "result": result},
        "asked": {"planner 1": 1, "writer 1.0": 1},
        "jobs": {"build": 1},
    }
    return Story(**{**values, **changes})


def with_result(**changes) -> Story:
    ledger = dict(made().ledger)
    assert isinstance(ledger["result"], dict)
    return made(ledger={**ledger, "result": {**ledger["result"], **changes}})


@pytest.mark.parametrize(
    ("killed", "told"),
    [
        (made(ledger={**made().ledger, "attempts": []}), "other attempts"),
        (made(ledger={**made().ledger, "records": []}), "other records"),
        (with_result(exit_reason="plateau"), "another result"),
        (with_result(tokens=1700), "more was paid for"),
        (made(asked={"planner 1": 1}), "0 questions were asked again"),
        (made(asked={"planner 1": 4, "writer 1.0": 1}), "3 questions were asked again"),
        (made(jobs={"build": 1, "check": 1}), "other jobs"),
        (made(jobs={"build": 4}), "3 jobs were run again"),
    ],
)
def test_the_comparison_sees_every_difference(killed, told):
    assert any(told in fault for fault in faults("plan ends", made(), killed))


def test_what_was_under_way_may_be_asked_and_paid_for_again():
    again = with_result(tokens=1700).model_copy(
        update={"asked": {"planner 1": 2, "writer 1.0": 1}, "jobs": {"build": 2}}
    )
    assert faults("plan ends", made(), again) == []
