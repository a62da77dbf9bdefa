"""What attempts promise, what a round is worth, what the best one cost."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.economics import (
    LEAST_ATTEMPTS,
    Outlook,
    Price,
    effort_to,
    hopeless,
    outlook,
    overpriced,
)
from graph.events import AttemptDecided, BudgetRead, JobFinished, Replied
from graph.ledger import AttemptOutcome, Effort
from graph.meter import JOB, Meter
from graph.target import Budget
from tests.graph.builders import make_attempt, make_decision

LIMITS = Budget(plateau_attempts=12)


def tried(*speedups: float):
    return [
        make_attempt(number, feedback=make_decision(speedup, basis="feedback"))
        for number, speedup in enumerate(speedups, start=1)
    ]


def refused(count: int):
    return [make_attempt(n, outcome=AttemptOutcome.REJECTED) for n in range(50, 50 + count)]


def expected(speedups, **changes) -> float:
    found = outlook(tried(*speedups), LIMITS.model_copy(update=changes))
    assert found is not None
    return found.gain


# -- the outlook ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(LEAST_ATTEMPTS))
def test_too_few_attempts_promise_nothing_and_rule_out_nothing(count):
    assert outlook(tried(*[0.5] * count), LIMITS) is None


def test_the_expected_gain_is_that_of_draws_from_what_was_seen():
    speedups = [0.92, 1.01, 0.97, 0.88, 1.04, 0.95, 0.99, 0.9]
    logs = [math.log(value) for value in speedups]
    spread = statistics.stdev(logs) * math.sqrt(1 + 1 / len(logs))
    draw = random.Random(1)
    draws = [max(0.0, draw.gauss(statistics.fmean(logs), spread)) for _ in range(200_000)]
    assert expected(speedups) == pytest.approx(statistics.fmean(draws), rel=0.03)


def test_a_search_that_is_far_below_promises_nothing_and_one_that_is_close_does():
    assert expected([0.60, 0.61, 0.59, 0.60, 0.62, 0.6]) < 1e-9
    assert expected([0.99, 1.0, 0.98, 1.01, 0.99, 1.0]) > 1e-3


def test_a_wide_search_promises_more_than_a_narrow_one_of_the_same_mean():
    assert expected([0.5, 1.1, 0.7, 1.0, 0.6, 0.9]) > expected([0.8, 0.82, 0.79, 0.8, 0.81, 0.8])


def test_refused_attempts_count_as_attempts_that_gained_nothing():
    some = tried(0.9, 1.0, 0.95, 1.02, 0.97, 0.99)
    alone, diluted = outlook(some, LIMITS), outlook([*some, *refused(6)], LIMITS)
    assert alone is not None
    assert diluted is not None
    assert diluted.gain == pytest.approx(alone.gain / 2)
    assert outlook(refused(12), LIMITS) is None


def test_only_recent_attempts_count():
    old_news = [1.5] * 12
    assert expected([*old_news, *[0.5] * 12]) < 1e-9


@given(st.lists(st.floats(0.2, 3.0), min_size=6, max_size=12), st.floats(1.01, 1.5))
def test_faster_attempts_never_promise_less(speedups, factor):
    assert expected([s * factor for s in speedups]) >= expected(speedups) - 1e-12


# -- plateaus ------------------------------------------------------------------------------------


def test_attempts_far_below_are_a_plateau_once_half_of_them_are_made():
    found = outlook(tried(*[0.6, 0.62] * 4), LIMITS)
    assert hopeless(found, 5, LIMITS) == ""
    assert "promise 0.00% from 12 more" in hopeless(found, 6, LIMITS)


def test_half_of_a_long_patience_is_long_too():
    found = outlook(tried(*[0.6, 0.62] * 4), LIMITS)
    patient = Budget(plateau_attempts=50)
    assert hopeless(found, 24, patient) == ""
    assert hopeless(found, 25, patient)


def test_close_attempts_are_no_plateau():
    assert hopeless(outlook(tried(*[0.99, 1.01] * 4), LIMITS), 11, LIMITS) == ""


def test_without_a_least_gain_only_the_number_counts():
    limits = Budget(plateau_attempts=12, least_gain=0)
    assert hopeless(outlook(tried(*[0.6, 0.62] * 4), limits), 11, limits) == ""


def test_without_an_outlook_nothing_is_hopeless():
    assert hopeless(None, 100, LIMITS) == ""


# -- prices --------------------------------------------------------------------------------------

WORTH = Budget(usd_per_percent=0.5, device_usd_per_hour=3.6)


@pytest.mark.parametrize(
    ("gain", "price", "is_over"),
    [
        (0.005, Price(usd=0.4), False),  # two lanes: 1.005 %, worth half a dollar
        (0.005, Price(usd=0.6), True),
        (0.005, Price(usd=0.4, job_s=200), True),  # with the device 0.6
        (0.0, Price(usd=0.01), True),
        (0.0, Price(), False),
    ],
)
def test_a_round_is_begun_where_it_promises_what_it_costs(gain, price, is_over):
    found = overpriced(Outlook(attempts=8, gain=gain), price, 2, WORTH)
    assert bool(found) is is_over


def test_the_reason_names_gain_worth_and_price():
    words = overpriced(Outlook(attempts=8, gain=0.005), Price(usd=0.6), 2, WORTH)
    assert words == ("the next round is expected to gain 1.005 %, worth $0.5025, and costs $0.6000")


def test_where_nobody_said_what_a_gain_is_worth_nothing_is_too_dear():
    assert overpriced(Outlook(attempts=8, gain=0.0), Price(usd=99), 2, Budget()) == ""
    assert overpriced(None, Price(usd=99), 2, WORTH) == ""


# -- what was spent ------------------------------------------------------------------------------


def replied(number: int, tokens: int, usd: float, role: str = "draft") -> Replied:
    return Replied(
        key=f"q{number}", role=role, reply=f"r{number}", seconds=1, tokens=tokens, usd=usd
    )


def finished(number: int, seconds: float, job: str = "bench") -> JobFinished:
    return JobFinished(key=f"j{number}", job_id=f"j{number}", job=job, outcome="x", seconds=seconds)


def decided(number: int, round_: int, elapsed_s: float) -> AttemptDecided:
    return AttemptDecided(
        key=f"d{number}",
        attempt_id=f"a{number:04}",
        round=round_,
        lane=0,
        label="row",
        outcome="measured",
        verdict="SAME",
        elapsed_s=elapsed_s,
    )


def read(number: int) -> BudgetRead:
    return BudgetRead(
        key=f"b{number}",
        round=number,
        rounds_left=1,
        wall_left_s=None,
        tokens_left=None,
        usd_left=None,
        job_left_s=None,
        job_s=0,
    )


LOG = (
    replied(1, 100, 0.25),
    finished(1, 3.0),
    decided(1, 1, 10.0),
    read(1),
    replied(2, 50, 0.5, "review"),
    finished(2, 5.0, "check"),
    finished(3, 99.0, "build"),
    decided(2, 2, 25.0),
    read(2),
    replied(3, 400, 2.0),
    read(3),
)


def test_the_effort_to_an_attempt_is_what_was_spent_until_its_row():
    assert effort_to(LOG, "a0001") == Effort(rounds=1, wall_s=10, job_s=3, tokens=100, usd=0.25)
    assert effort_to(LOG, "a0002") == Effort(rounds=2, wall_s=25, job_s=8, tokens=150, usd=0.75)
    assert effort_to(LOG, "a0009") is None
    assert effort_to(LOG, "") is None


def test_the_price_of_a_round_is_the_median_of_those_that_ended():
    assert Meter(LOG).price() == (0.5, 3.0)
    assert Meter(()).price() == (0.0, 0.0)


def test_the_dearest_call_is_known_by_role():
    meter = Meter(LOG)
    assert (meter.dearest("draft").tokens, meter.dearest("draft").usd) == (400, 2.0)
    assert meter.dearest("review").usd == 0.5
    assert meter.dearest(JOB).job_s == 5.0, "a build does not count"
    assert meter.dearest("plan").tokens == 0
