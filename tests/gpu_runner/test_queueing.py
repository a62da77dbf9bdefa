"""Who is next: priority, then whose turn it is, then who came first."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.queueing import Queue
from gpu_runner.terms import Demand, Terms

BUILD = Demand(is_shared=True)
BENCH = Demand()


def terms(session="s", priority=5, demand=BENCH):
    return Terms(session=session, priority=priority, demand=demand)


def served(queue, count, accepts=lambda _: True):
    """The next jobs, each leaving the line before the next is looked for."""
    ids = []
    for _ in range(count):
        job_id, _ = next(queue.candidates(accepts))
        queue.serve(job_id)
        ids.append(job_id)
    return ids


def test_within_a_session_first_come_first_served_and_who_returns_keeps_its_place():
    queue = Queue()
    for rank, name in enumerate("abc"):
        queue.add(name, rank, terms())
    queue.remove("a")
    assert (list(queue), len(queue), "a" in queue, "b" in queue) == (["b", "c"], 2, False, True)
    queue.add("a", 0, terms())
    assert list(queue) == ["a", "b", "c"]


def test_what_is_not_in_line_cannot_leave_it():
    for leave in (Queue().remove, Queue().serve):
        with pytest.raises(KeyError):
            leave("a")


def test_a_higher_priority_is_served_first():
    queue = Queue()
    for rank, (name, priority) in enumerate([("low", 0), ("middle", 5), ("high", 9)]):
        queue.add(name, rank, terms(name, priority))
    assert served(queue, 3) == ["high", "middle", "low"]


def test_sessions_take_turns_however_much_one_asks_for():
    queue = Queue()
    for rank in range(6):
        queue.add(f"big-{rank}", rank, terms("big"))
    for rank in range(6, 8):
        queue.add(f"small-{rank}", rank, terms("small"))
    wanted = ["big-0", "small-6", "big-1", "small-7", "big-2", "big-3"]
    assert list(queue)[:6] == wanted
    assert served(queue, 6) == wanted


def test_a_session_that_asks_for_one_job_at_a_time_does_not_starve_the_others():
    queue = Queue()
    for rank in range(10):
        queue.add(f"big-{rank}", rank, terms("big"))
    ids = []
    for rank in range(10, 16):
        queue.add(f"drop-{rank}", rank, terms("drop"))
        ids += served(queue, 2)
    assert Counter(job_id.partition("-")[0] for job_id in ids) == {"big": 6, "drop": 6}


def test_only_demands_that_are_accepted_are_served():
    queue = Queue()
    queue.add("bench", 0, terms(demand=BENCH))
    queue.add("build", 1, terms(demand=BUILD))
    assert served(queue, 1, lambda demand: demand.is_shared) == ["build"]
    assert next(queue.candidates(lambda demand: demand.is_shared), None) is None
    assert queue.waiting == {BENCH: 1}
    assert queue.terms("bench").demand == BENCH


JOBS = st.lists(
    st.tuples(st.sampled_from("xyz"), st.integers(0, 3), st.booleans()), min_size=1, max_size=30
)


@given(JOBS)
def test_every_job_is_served_once_by_priority_and_in_order_within_its_session(jobs):
    queue, known = Queue(), {}
    for rank, (session, priority, is_shared) in enumerate(jobs):
        known[str(rank)] = Terms(
            session=session, priority=priority, demand=Demand(is_shared=is_shared)
        )
        queue.add(str(rank), rank, known[str(rank)])
    ids = served(queue, len(jobs))
    assert sorted(ids, key=int) == list(known)
    priorities = [known[job_id].priority for job_id in ids]
    assert priorities == sorted(priorities, reverse=True)
    for wanted in set(known.values()):
        alike = [int(job_id) for job_id in ids if known[job_id] == wanted]
        assert alike == sorted(alike)
    assert (len(queue), list(queue), queue.waiting) == (0, [], {})


@given(JOBS)
def test_no_session_waits_longer_than_one_turn_of_each_other(jobs):
    queue = Queue()
    for rank, (session, _, is_shared) in enumerate(jobs):
        queue.add(str(rank), rank, terms(session, demand=Demand(is_shared=is_shared)))
    left = Counter(session for session, _, _ in jobs)
    while left:
        turn = [jobs[int(job_id)][0] for job_id in served(queue, len(left))]
        assert Counter(turn) == dict.fromkeys(left, 1)
        left -= Counter(turn)


@given(JOBS, st.data())
def test_leaving_the_line_in_any_order_leaves_the_others_as_they_were(jobs, data):
    queue, there = Queue(), {}
    for rank, (session, priority, is_shared) in enumerate(jobs):
        there[str(rank)] = terms(session, priority, Demand(is_shared=is_shared))
        queue.add(str(rank), rank, there[str(rank)])
    for job_id in data.draw(st.permutations(sorted(there)))[: len(jobs) // 2]:
        queue.remove(job_id)
        del there[job_id]
    assert set(queue) == set(there)
    assert queue.waiting == Counter(t.demand for t in there.values())
