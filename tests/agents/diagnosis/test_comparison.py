import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.diagnosis.comparison import (
    bytes_of,
    change_of,
    compare,
    explain,
    matched,
    microseconds,
)
from tests.agents.diagnosis.kernels import known, make_kernel


def deltas(before, after):
    return {one.metric: one for one in compare(before, after)}


def test_a_shorter_time_is_better_and_told_in_percent():
    found = deltas(make_kernel(time_us=1200.0), make_kernel(time_us=850.0))["time_us"]
    assert (found.shown_before, found.shown_after) == ("1.2 ms", "850 us")
    assert (found.shown_change, found.is_better) == ("-29 %", True)


def test_shares_are_told_in_points():
    found = deltas(make_kernel(occupancy_bound=0.5), make_kernel(occupancy_bound=0.25))
    assert found["occupancy_bound"].shown_change == "-25.0 points"
    assert found["occupancy_bound"].is_better is False


def test_what_is_neither_better_nor_worse_is_left_open():
    found = deltas(make_kernel(dram_fraction=0.2), make_kernel(dram_fraction=0.9))
    assert found["dram_fraction"].is_better is None


def test_a_metric_of_one_report_only_has_no_change():
    found = deltas(make_kernel(registers=None), make_kernel(registers=64))["registers"]
    assert (found.shown_before, found.shown_after, found.shown_change) == ("-", "64", "")


def test_within_noise_nothing_is_better_or_worse():
    found = deltas(make_kernel(time_us=100.0), make_kernel(time_us=101.0))["time_us"]
    assert found.is_better is None


def test_a_regression_is_explained_by_cause_and_effect():
    before = make_kernel(registers=64, occupancy_bound=0.5, time_us=100.0)
    after = make_kernel(registers=96, occupancy_bound=0.25, time_us=130.0)
    said = explain(before, after)
    assert said[0] == "registers a thread 64 -> 96, occupancy possible 50.0 % -> 25.0 %"


def test_fewer_registers_that_spill_explain_a_loss():
    before = make_kernel(registers=128, local_sector_share=0.0)
    after = make_kernel(registers=32, local_sector_share=0.7, time_us=300.0)
    assert any("local memory traffic 0.0 % -> 70.0 %" in text for text in explain(before, after))


def test_what_no_chain_explains_is_listed_by_what_got_worse():
    before = make_kernel(thread_fraction=1.0)
    after = make_kernel(thread_fraction=0.5, time_us=200.0)
    assert any(text.startswith("threads active") for text in explain(before, after))


def test_a_loss_without_a_reason_says_so():
    said = explain(make_kernel(), make_kernel(time_us=200.0))
    assert said == ("no metric of the reports explains the loss",)


@pytest.mark.parametrize("time_us", [100.0, 101.0, 50.0, None])
def test_what_is_not_slower_needs_no_explanation(time_us):
    assert explain(make_kernel(), make_kernel(time_us=time_us)) == ()


def test_kernels_are_matched_by_name_then_grid_then_being_alone():
    first, second = make_kernel(grid=(1, 1, 1)), make_kernel(grid=(2, 1, 1))
    other = make_kernel(kernel="renamed")
    assert matched(second, (first, second)) is second
    assert matched(make_kernel(grid=(9, 1, 1)), (first, second)) is first
    assert matched(make_kernel(), (other,)) is other
    assert matched(make_kernel(), (other, make_kernel(kernel="third"))) is None
    assert matched(make_kernel(), ()) is None


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 B"), (999, "999 B"), (5.13e8, "513 MB"), (2.5e12, "2.5 TB")]
)
def test_bytes_are_shown_with_their_unit(value, text):
    assert bytes_of(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.696, "1.696 us"), (999.0, "999 us"), (1000, "1 ms")]
)
def test_times_are_shown_with_their_unit(value, text):
    assert microseconds(value) == text


@pytest.mark.parametrize(("before", "after"), [(None, 1.0), (1.0, None), (0.0, 1.0)])
def test_no_change_can_be_said_of_nothing(before, after):
    assert change_of(before, after) is None


@given(st.sampled_from(sorted(known())), st.sampled_from(sorted(known())))
def test_any_two_reports_can_be_compared_both_ways(one, other):
    kernels = known()
    there = deltas(kernels[one], kernels[other])
    back = deltas(kernels[other], kernels[one])
    assert set(there) == set(back)
    for name, delta in there.items():
        assert (delta.before, delta.after) == (back[name].after, back[name].before)
        if delta.is_better is not None:
            assert back[name].is_better is (not delta.is_better)
    assert not (explain(kernels[one], kernels[other]) and explain(kernels[other], kernels[one]))
