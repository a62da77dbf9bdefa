"""What a run has used up, from its events."""

import pytest

from graph.budget import Pace
from graph.events import JobFinished, Replied, StageEnded
from graph.meter import Meter


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def job(kind: str, seconds: float, elapsed_s: float = 0.0, **changes):
    values = {
        "key": "k",
        "job_id": "run-r001-bench-t0",
        "job": kind,
        "outcome": "benched",
        "seconds": seconds,
        "elapsed_s": elapsed_s,
    }
    return JobFinished(**{**values, **changes})


def test_the_wall_clock_goes_on_from_where_the_last_process_left_it():
    clock = Clock()
    meter = Meter([job("build", 1, elapsed_s=40), job("check", 1, elapsed_s=55)], clock)
    clock.now_s += 5
    assert meter.elapsed_s() == pytest.approx(60)
    assert meter.spent(2).wall_s == pytest.approx(60)


def test_time_between_two_processes_does_not_count():
    clock = Clock()
    clock.now_s += 10_000
    assert Meter([job("build", 1, elapsed_s=40)], clock).elapsed_s() == pytest.approx(40)


def test_builds_and_admissions_are_not_job_seconds():
    events = [job(kind, 2) for kind in ("admit", "build", "check", "bench", "profile")]
    assert Meter(events).spent(0).job_s == 6


def test_tokens_and_money_add_up_over_processes():
    past = [Replied(key="a", role="plan", reply="r001", seconds=1, tokens=10, usd=0.5)]
    meter = Meter(past)
    meter.add(Replied(key="b", role="draft", reply="", seconds=1, tokens=5, usd=0.25, failure="x"))
    spent = meter.spent(3)
    assert (spent.rounds, spent.tokens, spent.usd) == (3, 15, 0.75)


def test_the_pace_of_rounds_is_their_median():
    meter = Meter([])
    for number, seconds in ((1, 10.0), (1, 10.0), (2, 90.0), (3, 30.0), (4, 500.0)):
        meter.add(StageEnded(key="s", stage="write", round=number, seconds=seconds))
    assert meter.pace(3) == Pace(round_s=30)


def test_the_pace_of_benches_is_the_usual_side_of_the_last_few():
    meter = Meter([job("bench", 500, sittings=1, sides=2)])
    for seconds in (10, 300, 20, 25):
        meter.add(job("bench", seconds, sittings=5, sides=2))
    meter.add(job("bench", 999))
    assert meter.pace(0).side_s == 2.5  # one slow first attempt says little of what follows


def test_before_the_first_round_there_is_no_pace():
    assert Meter([]).pace(0) == Pace()
