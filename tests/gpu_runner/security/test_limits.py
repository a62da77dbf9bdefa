"""How much one key may send, as laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.security.limits import Allowance, Meter

SMALL = Allowance(messages_per_s=10.0, burst_messages=5.0, bytes_per_s=100.0, burst_bytes=50.0)
steps = st.lists(st.tuples(st.floats(0, 2), st.integers(0, 80)), max_size=60)


def test_a_burst_is_taken_and_what_exceeds_it_is_not():
    meter = Meter(SMALL, 0.0)
    assert [meter.takes(1, 0.0) for _ in range(7)] == [True] * 5 + [False] * 2


def test_the_buckets_fill_with_time():
    meter = Meter(SMALL, 0.0)
    for _ in range(5):
        meter.takes(1, 0.0)
    assert not meter.takes(1, 0.05)
    assert meter.takes(1, 0.16)


def test_a_large_message_waits_for_its_bytes():
    meter = Meter(SMALL, 0.0)
    assert meter.takes(50, 0.0)
    assert not meter.takes(20, 0.1)
    assert meter.takes(20, 0.21)


def test_what_is_larger_than_the_burst_never_passes():
    meter = Meter(SMALL, 0.0)
    assert not any(meter.takes(51, float(now_s)) for now_s in range(20))


@given(steps)
def test_no_more_passes_than_burst_and_time_allow(sent):
    meter, now_s, taken, taken_bytes = Meter(SMALL, 0.0), 0.0, 0, 0
    for pause_s, size in sent:
        now_s += pause_s
        if meter.takes(size, now_s):
            taken, taken_bytes = taken + 1, taken_bytes + size
    assert taken <= SMALL.burst_messages + SMALL.messages_per_s * now_s + 1e-6
    assert taken_bytes <= SMALL.burst_bytes + SMALL.bytes_per_s * now_s + 1e-6


@given(st.lists(st.floats(0.11, 2), max_size=40))
def test_whoever_stays_within_the_rate_is_never_held_up(pauses):
    meter, now_s = Meter(SMALL, 0.0), 0.0
    for pause_s in pauses:
        now_s += pause_s
        assert meter.takes(1, now_s)


@pytest.mark.parametrize("back_s", [0.0, 5.0])
def test_a_clock_that_stands_or_goes_back_gives_nothing(back_s):
    meter = Meter(SMALL, 5.0)
    assert sum(meter.takes(1, 5.0 - back_s) for _ in range(20)) == 5


def test_the_default_is_far_above_what_a_busy_client_sends():
    """A client with 64 jobs in flight at 800 jobs a second sends about 1,600 messages a second."""
    plan = Allowance()
    assert plan.messages_per_s >= 3 * 1600
    assert plan.burst_bytes >= 16 * 16 * 1024 * 1024
