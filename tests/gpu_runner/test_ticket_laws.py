"""Tickets and rosters under any sequence of moves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gpu_runner.message import digest_of
from gpu_runner.roster import Roster
from gpu_runner.ticket import STORY_LINES, IllegalMove, Ticket
from gpu_runner.wire import State
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.pool_cases import make_hello, server_of

JOB = make_job()
MOVES = st.one_of(
    st.tuples(st.just("lease"), st.sampled_from(["w1", "w2"]), st.integers(0, 9)),
    st.tuples(st.just("adopt"), st.sampled_from(["w1", "w2"]), st.integers(0, 9)),
    st.tuples(st.just("start")),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("requeue"), st.just("lost")),
    st.tuples(st.just("finish"), st.just(make_built())),
)


def tried(ticket: Ticket, move, now_s: float) -> bool:
    """Make a move; say whether it was legal."""
    name, *arguments = move
    try:
        getattr(ticket, name)(*arguments, now_s)
    except IllegalMove:
        return False
    return True


@settings(deadline=None)
@given(st.lists(MOVES, max_size=60))
def test_tokens_grow_owners_are_known_and_the_end_is_the_end(moves):
    ticket = Ticket(JOB.job_id, digest_of(JOB), JOB)
    leases: list[int] = []
    for number, move in enumerate(moves):
        before = (ticket.state, ticket.token, ticket.owner, ticket.outcome, len(ticket.story))
        was_legal = tried(ticket, move, float(number))
        if not was_legal:
            assert (
                ticket.state,
                ticket.token,
                ticket.owner,
                ticket.outcome,
                len(ticket.story),
            ) == before
        if was_legal and move[0] == "lease":
            leases.append(move[2])
        if before[0] is State.FINISHED:
            assert not was_legal
        if before[1] is not None:
            assert (ticket.token or 0) >= before[1]
        assert ticket.is_live == (ticket.state in {State.LEASED, State.RUNNING, State.CANCELLING})
        assert not ticket.is_live or (ticket.owner is not None and ticket.token is not None)
        assert ticket.state is not State.QUEUED or ticket.owner is None
        assert (ticket.outcome is not None) == (ticket.state is State.FINISHED)
        assert len(ticket.story) <= STORY_LINES
    assert leases == sorted(set(leases))  # no token is handed out twice


@settings(deadline=None)
@given(st.lists(MOVES, max_size=40))
def test_the_story_has_a_line_for_each_move_and_its_time(moves):
    ticket = Ticket(JOB.job_id, digest_of(JOB), JOB)
    times = [f"{n:.3f}" for n, move in enumerate(moves) if tried(ticket, move, float(n))]
    assert [line.split()[0] for line in ticket.story] == times[-STORY_LINES:]


def test_a_job_that_loses_its_runners_ends_with_the_last_of_its_story():
    ticket = Ticket(JOB.job_id, digest_of(JOB), JOB)
    for token in range(3):
        ticket.lease(f"w{token}", token, float(token))
        ticket.requeue(f"worker w{token} fell silent", token + 0.5)
        ticket.losses += 1
    outcome = ticket.runner_lost()
    assert (outcome.job_id, outcome.cause, outcome.is_retryable) == ("job", "runner_lost", False)
    assert "lost its worker 3 times" in outcome.message
    assert "worker w2 fell silent" in outcome.message
    assert "worker w0" not in outcome.message  # the last four lines are enough


def test_a_lease_keeps_the_beat_it_was_given_after():
    ticket = Ticket(JOB.job_id, digest_of(JOB), JOB)
    ticket.lease("w1", 1, 0.0, beat=7)
    assert ticket.beat == 7
    ticket.requeue("lost", 1.0)
    ticket.lease("w1", 2, 2.0)
    assert ticket.beat == 0


@pytest.mark.parametrize("state", [State.RUNNING, State.CANCELLING])
def test_an_adopted_job_may_be_cancelled_and_finished(state):
    ticket = Ticket(JOB.job_id, digest_of(JOB), None)
    ticket.adopt("w1", 5, 0.0)
    if state is State.CANCELLING:
        ticket.cancel(1.0)
    assert ticket.state is state
    ticket.finish(make_built(), 2.0)
    assert (ticket.outcome, ticket.owner) == (make_built(), "w1")


NAMES = st.sampled_from(["w1", "w2", "w3"])
ALL_PEERS = (b"p1", b"p2", b"p3", b"p4")
PEERS = st.sampled_from(ALL_PEERS)


class RosterMachine(RuleBasedStateMachine):
    """Workers come, move, vanish and return; the two indices of a roster never disagree."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster(beat_s=1.0, lease_s=10.0)
        self.now_s = 0.0

    @rule(name=NAMES, peer=PEERS)
    def register(self, name, peer):
        there, known = self.roster.at(peer), self.roster.named(name)
        if there is not None and there.name != name:
            return  # a socket has one worker for life
        held = set(known.held) if known is not None else set()
        assert self.roster.register(peer, make_hello(name), self.now_s).held == held

    @rule(name=NAMES)
    def remove(self, name):
        member = self.roster.named(name)
        if member is not None:
            self.roster.remove(member)

    @rule(peer=PEERS)
    def lose(self, peer):
        member = self.roster.at(peer)
        assert self.roster.unreachable(peer) is member
        assert self.roster.at(peer) is None

    @precondition(lambda self: len(self.roster) > 0)
    @rule(name=NAMES, job=st.sampled_from(["a", "b"]))
    def hold(self, name, job):
        member = self.roster.named(name)
        if member is not None:
            member.held.add(job)

    @rule(step_s=st.floats(0.1, 20))
    def wait(self, step_s):
        self.now_s += step_s

    @invariant()
    def indices_agree(self):
        for member in self.roster:
            assert self.roster.named(member.name) is member
            if member.peer is not None:
                assert self.roster.at(member.peer) is member
        peers = [m.peer for m in self.roster if m.peer is not None]
        assert len(set(peers)) == len(peers)
        assert {p for p in ALL_PEERS if self.roster.at(p) is not None} == set(peers)

    @invariant()
    def only_the_reachable_and_free_serve(self):
        server = server_of(self.roster, "a")
        if server is not None:
            assert server.peer is not None
            assert server.has_free_slot
        elif any(m.has_free_slot for m in self.roster):
            raise AssertionError("a free worker was not offered the job")

    @invariant()
    def the_silent_are_silent(self):
        silent = self.roster.silent(self.now_s)
        assert all(self.now_s - m.heard_s >= 10.0 for m in silent)
        assert len(silent) == sum(self.now_s - m.heard_s >= 10.0 for m in self.roster)


TestRoster = RosterMachine.TestCase
TestRoster.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
