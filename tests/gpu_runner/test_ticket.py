"""Every move from every state: the legal ones happen, the others raise and change nothing."""

import copy

import pytest

from gpu_runner.message import digest_of
from gpu_runner.ticket import STORY_LINES, IllegalMove, Ticket
from gpu_runner.wire import State
from tests.gpu_runner.executors import make_built, make_job

MOVES = {
    "lease": lambda t: t.lease("w1", (t.token or 0) + 1, 1.0),
    "adopt": lambda t: t.adopt("w1", (t.token or 0) + 1, 1.0),
    "start": lambda t: t.start(1.0),
    "cancel": lambda t: t.cancel(1.0),
    "requeue": lambda t: t.requeue("because", 1.0),
    "finish": lambda t: t.finish(make_built(), 1.0),
}

AFTER = {
    ("lease", State.QUEUED): State.LEASED,
    ("adopt", State.QUEUED): State.RUNNING,
    ("start", State.LEASED): State.RUNNING,
    ("cancel", State.LEASED): State.CANCELLING,
    ("cancel", State.RUNNING): State.CANCELLING,
    ("requeue", State.LEASED): State.QUEUED,
    ("requeue", State.RUNNING): State.QUEUED,
    ("finish", State.QUEUED): State.FINISHED,
    ("finish", State.LEASED): State.FINISHED,
    ("finish", State.RUNNING): State.FINISHED,
    ("finish", State.CANCELLING): State.FINISHED,
}


def make_ticket(state=State.QUEUED) -> Ticket:
    job = make_job()
    ticket = Ticket(job.job_id, digest_of(job), job)
    if state is not State.QUEUED:
        ticket.lease("w1", 7, 0.0)
    if state is State.RUNNING:
        ticket.start(0.0)
    if state is State.CANCELLING:
        ticket.cancel(0.0)
    if state is State.FINISHED:
        ticket.finish(make_built(), 0.0)
    return ticket


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("state", State)
def test_a_move_is_legal_or_changes_nothing(move, state):
    ticket = make_ticket(state)
    before = copy.deepcopy(ticket)
    if (move, state) in AFTER:
        MOVES[move](ticket)
        assert ticket.state is AFTER[move, state]
        assert len(ticket.story) == len(before.story) + 1
    else:
        with pytest.raises(IllegalMove, match=f"'job' is {state}: it cannot {move}"):
            MOVES[move](ticket)
        assert ticket == before


@pytest.mark.parametrize("token", [6, 7])
def test_a_lease_needs_a_larger_token(token):
    ticket = make_ticket(State.LEASED)
    ticket.requeue("lost", 1.0)
    before = copy.deepcopy(ticket)
    with pytest.raises(IllegalMove, match=f"under token {token}, last was 7"):
        ticket.lease("w2", token, 2.0)
    assert ticket == before


def test_an_adoption_may_keep_its_token_but_not_go_back():
    ticket = make_ticket(State.LEASED)
    ticket.requeue("lost", 1.0)
    with pytest.raises(IllegalMove, match="token 6 is older than 7"):
        ticket.adopt("w1", 6, 2.0)
    ticket.adopt("w1", 7, 2.0)
    assert (ticket.state, ticket.owner, ticket.token) == (State.RUNNING, "w1", 7)


def test_a_job_nobody_knows_the_content_of_is_not_leased():
    ticket = Ticket("job", "0" * 64, None)
    with pytest.raises(IllegalMove):
        ticket.lease("w1", 1, 0.0)


def test_the_story_tells_what_happened_and_stays_short():
    ticket = make_ticket()
    for token in range(100):
        ticket.lease("w1", token, float(token))
        ticket.requeue("worker w1 fell silent", token + 0.5)
    assert len(ticket.story) == STORY_LINES
    assert list(ticket.story)[-2:] == [
        "99.000 leased to w1 under token 99",
        "99.500 queued again: worker w1 fell silent",
    ]
