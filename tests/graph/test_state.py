"""The reducer of lanes, and the channels."""

import typing

from hypothesis import given
from hypothesis import strategies as st

from graph.state import RunState, Update, first_state, merge_lanes
from tests.graph.builders import make_lane

STATUSES = ("drafted", "built", "checked", "measured")
lanes = st.dictionaries(
    st.sampled_from(["0", "1", "2"]),
    st.builds(
        lambda number, status: make_lane(0, round=number, status=status),
        st.integers(1, 3),
        st.sampled_from(STATUSES),
    ),
)


def test_a_later_round_replaces_the_earlier_one_whole():
    old = {"0": make_lane(0, round=1), "1": make_lane(1, round=1)}
    new = {"1": make_lane(1, round=2)}
    assert merge_lanes(old, new) == new


def test_lanes_of_one_round_are_merged_by_lane():
    first, second = make_lane(0), make_lane(1)
    assert merge_lanes({"0": first}, {"1": second}) == {"0": first, "1": second}


def test_a_late_update_of_an_earlier_round_is_dropped():
    now = {"0": make_lane(0, round=3)}
    assert merge_lanes(now, {"1": make_lane(1, round=2)}) == now


@given(lanes, lanes)
def test_merging_twice_is_merging_once(old, new):
    once = merge_lanes(old, new)
    assert merge_lanes(once, new) == once
    assert merge_lanes(once, {}) == once


@given(lanes)
def test_only_one_round_is_kept(some):
    assert len({lane.round for lane in merge_lanes({}, some).values()}) <= 1


def test_the_order_of_sibling_updates_does_not_matter():
    base = {"0": make_lane(0)}
    left, right = {"1": make_lane(1)}, {"2": make_lane(2)}
    assert merge_lanes(merge_lanes(base, left), right) == merge_lanes(
        merge_lanes(base, right), left
    )


def test_a_node_may_change_every_channel_but_the_version():
    assert set(Update.__annotations__) == set(RunState.__annotations__) - {"graph_version"}


def test_an_update_has_the_types_of_the_channels():
    state = typing.get_type_hints(RunState)
    update = typing.get_type_hints(Update)
    assert {key: state[key] for key in update} == update


def test_the_first_state_has_every_channel():
    assert set(first_state()) == set(RunState.__annotations__)


def test_draft_keys_sort_in_order_of_time():
    keys = [
        make_lane(lane, round=number, repair=repair).draft_key
        for number in (1, 2, 10)
        for lane in (0, 1)
        for repair in (0, 1)
    ]
    assert keys == sorted(keys)
