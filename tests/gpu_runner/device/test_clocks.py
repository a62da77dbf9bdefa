"""Clocks: which pairs count, and when a device is ready."""

from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.clocks import MOST_DROPPED, Settling, steady_pairs

CLOCK = st.floats(min_value=300.0, max_value=3000.0)


def test_a_side_that_draws_more_and_runs_slower_pair_after_pair_loses_no_pair():
    """As captured: a kernel on the tensor cores beside one that waits for memory, H200."""
    waits = [1973.0, 1980.0, 1980.0, 1979.0, 1980.0]
    draws = [1790.0, 1790.0, 1793.0, 1803.0, 1809.0]
    assert steady_pairs(waits, draws) == (0, 1, 2, 3, 4)


def test_a_pair_goes_when_either_side_met_another_clock_than_its_own():
    ours = [1980.0] * 8
    theirs = [1800.0] * 8
    ours[2] = 1700.0
    theirs[5] = 1980.0
    assert steady_pairs(ours, theirs) == (0, 1, 3, 4, 6, 7)
    assert steady_pairs(theirs, ours) == (0, 1, 3, 4, 6, 7)


def test_unknown_clocks_keep_their_pairs():
    assert steady_pairs([0.0, 1980.0, 0.0], [0.0, 0.0, 1980.0]) == (0, 1, 2)
    assert steady_pairs([], []) == ()


def test_a_clock_that_wanders_says_nothing():
    wandering = [1000.0 + 100 * step for step in range(10)]
    kept = steady_pairs(wandering, [1980.0] * 10)
    assert len(kept) < (1 - MOST_DROPPED) * 10


@given(st.lists(CLOCK, min_size=1, max_size=40), st.floats(min_value=0.5, max_value=2.0))
def test_what_both_sides_run_at_does_not_matter_only_how_steadily(clocks, factor):
    ours = steady_pairs(clocks, [factor * mhz for mhz in clocks])
    assert ours == steady_pairs(clocks, clocks)


@given(st.lists(st.tuples(CLOCK, CLOCK), max_size=40))
def test_kept_pairs_are_in_order_and_each_once(pairs):
    kept = steady_pairs([a for a, _ in pairs], [b for _, b in pairs])
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= set(range(len(pairs)))


def test_a_first_reading_is_all_that_is_known():
    assert Settling().is_back(1400.0)


def test_a_clock_that_was_pulled_down_is_waited_for():
    settling = Settling()
    assert settling.is_back(1980.0)
    assert not settling.is_back(1600.0)
    assert not settling.is_back(1900.0)
    assert settling.is_back(1950.0)


def test_what_a_cold_machine_reached_is_forgotten():
    settling = Settling()
    settling.is_back(1980.0)
    answers = [settling.is_back(1755.0) for _ in range(80)]
    assert not answers[0]
    assert answers[-1]


def test_a_clock_that_cannot_be_read_is_not_waited_for():
    settling = Settling()
    assert settling.is_back(1980.0)
    assert settling.is_back(0.0)
