"""What models cost a run, in short, and that each goal can be missed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.events import Replied
from tests.agents.model_server import model_server
from tests.benchmarks.agents import Figures, covered, faults, measure, read

GOOD = Figures(
    rounds=6,
    wall_s=60.0,
    models_s=50.0,
    jobs_s=9.0,
    overhead_s_a_round=0.1,
    overhead_fraction=0.01,
    cached_share=0.7,
    roles={},
)


async def test_two_rounds_are_counted_by_role():
    with model_server() as server:
        found = await measure(server, 2, 0.05, 0.0)
    assert found.roles["writer"].questions == 4
    assert found.roles["reviewer"].questions == 2
    assert found.roles["writer"].input_tokens_a_round > found.roles["planner"].input_tokens_a_round
    assert 0 < found.cached_share < 1
    assert found.models_s > 0
    assert 0 < found.overhead_fraction < 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [({}, 0), ({"overhead_fraction": 0.021}, 1), ({"cached_share": 0.49}, 1)],
)
def test_a_goal_that_is_missed_is_said(changes, told):
    assert len(faults(GOOD.model_copy(update=changes))) == told


def test_intervals_that_overlap_count_once():
    assert covered([(0, 2), (1, 3), (5, 6)], (0, 10)) == 4
    assert covered([(0, 2)], (1, 10)) == 1
    assert covered([(8, 12)], (1, 10)) == 2
    assert covered([], (1, 10)) == 0


SPANS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted).map(tuple), max_size=9
)


@given(SPANS)
def test_what_is_covered_is_what_a_count_of_seconds_says(spans):
    counted = {second for first, last in spans for second in range(first, last)}
    assert covered(spans, (0, 50)) == len(counted & set(range(50)))


def test_shares_are_of_all_that_was_read():
    events = [
        Replied(
            key=str(n),
            role="draft",
            reply="r",
            seconds=1.0,
            input_tokens=100,
            repeated_tokens=n * 50,
        )
        for n in (0, 1)
    ]
    found = read(events, (0.0, 10.0), [(0, 5)], [(5, 9)], 2)
    assert found.cached_share == found.roles["writer"].cached_share == 0.25
    assert found.overhead_fraction == 0.1
    assert found.overhead_s_a_round == 1.0
