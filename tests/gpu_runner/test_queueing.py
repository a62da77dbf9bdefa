"""Who is next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.queueing import Queue


def test_first_come_first_served_and_who_returns_keeps_its_place():
    queue = Queue()
    for rank, name in enumerate("abc"):
        queue.add(name, rank)
    queue.remove("a")
    assert (list(queue), len(queue), "a" in queue, "b" in queue) == (["b", "c"], 2, False, True)
    queue.add("a", 0)
    assert list(queue) == ["a", "b", "c"]


def test_what_is_not_in_line_cannot_leave_it():
    with pytest.raises(KeyError):
        Queue().remove("a")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9))))
def test_it_is_always_sorted_by_rank(moves):
    queue, there = Queue(), set()
    for is_added, rank in moves:
        if is_added and rank not in there:
            queue.add(str(rank), rank)
            there.add(rank)
        elif not is_added and rank in there:
            queue.remove(str(rank))
            there.remove(rank)
        assert list(queue) == [str(r) for r in sorted(there)]
