"""Who is registered, and who may take a job."""

import pytest

from gpu_runner.roster import FRESH_BEATS, Roster
from tests.gpu_runner.pool_cases import W1, W2, make_hello, server_of


@pytest.fixture
def roster():
    return Roster(beat_s=1.0, lease_s=10.0)


def test_a_worker_is_found_by_name_and_by_peer(roster):
    member = roster.register(W1, make_hello("w1", slots=3, seq=7), 2.0)
    assert (member.name, member.slots, member.seq, member.heard_s) == ("w1", 3, 7, 2.0)
    assert roster.named("w1") is roster.at(W1) is member
    assert (roster.named("w2"), roster.at(W2)) == (None, None)
    assert (len(roster), list(roster)) == (1, [member])


def test_a_worker_that_comes_from_elsewhere_keeps_what_it_holds(roster):
    roster.register(W1, make_hello("w1"), 0.0).held.add("job")
    member = roster.register(W2, make_hello("w1", spooled=("old",)), 1.0)
    assert (member.held, member.spooled) == ({"job"}, {"old"})
    assert roster.at(W1) is None
    assert len(roster) == 1


def test_a_removed_worker_is_gone(roster):
    member = roster.register(W1, make_hello("w1"), 0.0)
    roster.remove(member)
    roster.remove(member)
    assert (roster.named("w1"), roster.at(W1), len(roster)) == (None, None, 0)


def test_workers_may_leave_while_they_are_looked_through(roster):
    for number in range(4):
        roster.register(bytes([number]), make_hello(f"w{number}"), 0.0)
    for member in roster:
        roster.remove(member)
    assert len(roster) == 0


def test_an_unreachable_worker_is_kept_and_given_nothing(roster):
    member = roster.register(W1, make_hello("w1"), 0.0)
    assert roster.unreachable(W1) is member
    assert roster.unreachable(W1) is None
    assert roster.named("w1") is member
    assert not member.has_free_slot
    assert server_of(roster, "job") is None


@pytest.mark.parametrize(
    ("incarnation", "now_s", "is_taken"),
    [(1, 0.0, False), (2, 0.0, True), (2, FRESH_BEATS - 0.01, True), (2, FRESH_BEATS, False)],
)
def test_a_name_is_taken_while_another_process_has_it(roster, incarnation, now_s, is_taken):
    roster.register(W1, make_hello("w1", incarnation=1), 0.0)
    assert roster.is_taken(make_hello("w1", incarnation=incarnation), now_s) is is_taken
    assert not roster.is_taken(make_hello("w2", incarnation=incarnation), now_s)


def test_the_silent_are_those_whose_lease_is_over(roster):
    first = roster.register(W1, make_hello("w1"), 0.0)
    roster.register(W2, make_hello("w2"), 5.0)
    assert roster.silent(9.99) == ()
    assert roster.silent(10.0) == (first,)
    first.heard_s = 10.0
    assert roster.silent(14.9) == ()


def test_a_job_goes_to_a_free_slot_in_order_of_registration(roster):
    first = roster.register(W1, make_hello("w1"), 0.0)
    second = roster.register(W2, make_hello("w2"), 0.0)
    assert server_of(roster, "job") is first
    first.held.add("other")
    assert server_of(roster, "job") is second
    second.is_draining = True
    assert server_of(roster, "job") is None


def test_a_worker_that_serves_for_months_is_not_remembered_in_full(roster, monkeypatch):
    monkeypatch.setattr("gpu_runner.roster.MOST_SPOOLED", 3)
    member = roster.register(W1, make_hello("w1", spooled=("a",)), 0.0)
    for name in ("b", "c", "d", "e"):
        member.keep_in_spool(name)
        assert name in member.spooled
    assert len(member.spooled) == 3


@pytest.mark.parametrize("state", ["free", "full", "draining", "unreachable"])
def test_who_has_the_outcome_is_preferred_and_waited_for(roster, state):
    other = roster.register(W1, make_hello("w1"), 0.0)
    holder = roster.register(W2, make_hello("w2", spooled=("job",)), 0.0)
    if state == "full":
        holder.held.add("another")
    elif state == "draining":
        holder.is_draining = True
    elif state == "unreachable":
        roster.unreachable(W2)
    wanted = {"free": holder, "full": None, "draining": other, "unreachable": other}[state]
    assert server_of(roster, "job") is wanted
