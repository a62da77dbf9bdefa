"""The pool's rules for jobs, one by one; `test_pool_world.py` explores them together."""

import pytest

from gpu_runner import wire
from gpu_runner.jobs import Unserved
from gpu_runner.pool import Send
from gpu_runner.wire import Refusal, State
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.pool_cases import (
    CLIENT,
    FIRST,
    OTHER,
    W1,
    W2,
    held,
    leased,
    make_hello,
    make_pool,
    messages,
    running,
)


def test_a_job_goes_from_submission_to_result():
    pool, job = make_pool(), make_job()
    welcome = wire.Welcome(seq=0, epoch=5, beat_s=1.0, lease_s=10.0)
    assert pool.receive(W1, make_hello(), 0.0) == (Send(W1, welcome),)
    assert pool.receive(CLIENT, wire.Submit(job=job), 1.0) == (
        Send(CLIENT, wire.Submitted(job_id="job", state=State.QUEUED, workers=1)),
        Send(W1, wire.Lease(token=FIRST, job=job)),
    )
    assert pool.receive(W1, wire.Started(job_id="job", token=FIRST), 2.0) == ()
    assert pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 3.0) == (
        Send(CLIENT, wire.Result(outcome=make_built())),
        Send(W1, wire.Ack(job_id="job", token=FIRST, is_accepted=True)),
    )
    assert pool.story("job") == (
        "1.000 submitted",
        f"1.000 leased to w1 under token {FIRST}",
        "2.000 started",
        "3.000 finished: built",
    )
    assert pool.story("unknown") == ()


def test_a_repeated_submission_attaches_and_is_leased_once():
    pool = make_pool()
    leased(pool)
    sends = pool.receive(OTHER, wire.Submit(job=make_job()), 0.0)
    assert messages(sends) == [wire.Submitted(job_id="job", state=State.LEASED, workers=1)]
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 0.0)
    assert {s.peer for s in sends if isinstance(s.message, wire.Result)} == {CLIENT, OTHER}
    sends = pool.receive(OTHER, wire.Submit(job=make_job()), 0.0)
    assert messages(sends) == [wire.Result(outcome=make_built())]


def test_one_id_for_two_jobs_is_a_conflict():
    pool = make_pool()
    pool.receive(CLIENT, wire.Submit(job=make_job()), 0.0)
    sends = pool.receive(OTHER, wire.Submit(job=make_job(order="sleep 1")), 0.0)
    (refused,) = messages(sends)
    assert (refused.job_id, refused.code) == ("job", Refusal.CONFLICT)


def test_a_full_queue_refuses_and_says_when_to_come_back():
    pool = make_pool(most_live=1)
    pool.receive(CLIENT, wire.Submit(job=make_job("a")), 0.0)
    (refused,) = messages(pool.receive(CLIENT, wire.Submit(job=make_job("b")), 0.0))
    assert (refused.job_id, refused.code, refused.retry_after_s) == ("b", Refusal.BUSY, 1.0)
    again = messages(pool.receive(CLIENT, wire.Submit(job=make_job("a")), 0.0))
    assert isinstance(again[0], wire.Submitted)


def test_who_waits_for_an_unknown_job_is_asked_to_submit_it():
    (refused,) = messages(make_pool().receive(CLIENT, wire.Wait(job_id="job"), 0.0))
    assert (refused.job_id, refused.code) == ("job", Refusal.UNKNOWN)


def test_jobs_are_leased_in_order_one_a_slot():
    pool = make_pool()
    for name in ("a", "b", "c"):
        pool.receive(CLIENT, wire.Submit(job=make_job(name)), 0.0)
    sends = pool.receive(W1, make_hello(slots=2), 0.0)
    assert [lease.job.job_id for lease in messages(sends, wire.Lease)] == ["a", "b"]
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built("a")), 0.0)
    assert [lease.job.job_id for lease in messages(sends, wire.Lease)] == ["c"]


@pytest.mark.parametrize(
    ("peer", "token"), [(W1, FIRST + 1), (W1, FIRST - 1), (W2, FIRST)], ids=["new", "old", "thief"]
)
def test_a_forged_outcome_fails_for_want_of_the_owner_and_its_token(peer, token):
    pool = make_pool()
    running(pool)
    pool.receive(W2, make_hello("w2"), 0.0)
    sends = pool.receive(peer, wire.Done(token=token, outcome=make_built()), 0.0)
    assert messages(sends) == [wire.Ack(job_id="job", token=token, is_accepted=False)]
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 0.0)
    assert messages(sends, wire.Ack)[0].is_accepted


def test_a_repeated_outcome_is_acknowledged_and_told_once():
    pool = make_pool()
    running(pool)
    done = wire.Done(token=FIRST, outcome=make_built())
    pool.receive(W1, done, 0.0)
    assert messages(pool.receive(W1, done, 0.0)) == [
        wire.Ack(job_id="job", token=FIRST, is_accepted=True)
    ]


def test_late_result_from_a_lost_worker_is_ignored():
    pool = make_pool()
    running(pool)
    pool.receive(W2, make_hello("w2"), 5.0)
    (lease,) = messages(pool.tick(10.0), wire.Lease)
    assert lease.token == FIRST + 1
    late = wire.Done(token=FIRST, outcome=make_built())
    assert messages(pool.receive(W1, late, 11.0)) == [wire.Who()]
    sends = pool.receive(W1, make_hello(), 11.0)
    assert not messages(sends, wire.Lease)
    sends = pool.receive(W1, late, 11.0)
    assert messages(sends) == [wire.Ack(job_id="job", token=FIRST, is_accepted=False)]


def test_any_message_keeps_a_lease_alive():
    pool = make_pool()
    running(pool)
    for now_s in (8.0, 16.0, 24.0):
        pool.receive(W1, wire.Beat(seq=1, running=(held(make_job()),)), now_s)
        assert pool.tick(now_s + 1) == ()
    pool.receive(W2, make_hello("w2"), 30.0)
    assert messages(pool.tick(33.9), wire.Lease) == []
    assert len(messages(pool.tick(34.0), wire.Lease)) == 1


def test_a_queued_job_is_cancelled_at_once():
    pool = make_pool()
    pool.receive(CLIENT, wire.Submit(job=make_job()), 0.0)
    sends = pool.receive(OTHER, wire.Cancel(job_id="job"), 0.0)
    assert {s.peer for s in sends} == {CLIENT, OTHER}
    assert {m.outcome.cause for m in messages(sends)} == {"cancelled"}
    assert not messages(pool.receive(W1, make_hello(), 0.0), wire.Lease)


def test_a_running_job_is_cancelled_by_its_worker():
    pool = make_pool()
    running(pool)
    sends = pool.receive(CLIENT, wire.Cancel(job_id="job"), 0.0)
    assert messages(sends, wire.Abort) == [wire.Abort(job_id="job", token=FIRST)]
    killed = Unserved(job_id="job", cause="cancelled", message="killed", is_retryable=True)
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=killed), 0.0)
    assert messages(sends, wire.Result) == [wire.Result(outcome=killed)]


def test_a_job_that_ended_before_the_cancellation_keeps_its_outcome():
    pool = make_pool()
    running(pool)
    pool.receive(CLIENT, wire.Cancel(job_id="job"), 0.0)
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 0.0)
    assert messages(sends, wire.Result) == [wire.Result(outcome=make_built())]


def test_a_cancelled_job_whose_worker_is_lost_is_cancelled():
    pool = make_pool()
    running(pool)
    pool.receive(CLIENT, wire.Cancel(job_id="job"), 0.0)
    (result,) = messages(pool.tick(10.0), wire.Result)
    assert result.outcome.cause == "cancelled"


def test_a_lost_abort_is_sent_again():
    pool = make_pool()
    running(pool)
    pool.receive(CLIENT, wire.Cancel(job_id="job"), 0.0)
    sends = pool.receive(W1, wire.Beat(seq=1, running=(held(make_job()),)), 1.0)
    assert messages(sends, wire.Abort) == [wire.Abort(job_id="job", token=FIRST)]


def test_a_job_that_was_not_served_is_tried_again_when_submitted():
    pool = make_pool()
    running(pool)
    full = Unserved(job_id="job", cause="no_space", message="full", is_retryable=True)
    pool.receive(W1, wire.Done(token=FIRST, outcome=full), 0.0)
    assert messages(pool.receive(CLIENT, wire.Wait(job_id="job"), 0.0)) == [
        wire.Result(outcome=full)
    ]
    (lease,) = messages(pool.receive(CLIENT, wire.Submit(job=make_job()), 0.0), wire.Lease)
    assert lease.token == FIRST + 1


def test_old_outcomes_are_forgotten():
    pool = make_pool(most_finished=2)
    pool.receive(W1, make_hello(), 0.0)
    for number in range(4):
        name = f"job-{number}"
        pool.receive(CLIENT, wire.Submit(job=make_job(name)), 0.0)
        pool.receive(W1, wire.Done(token=FIRST + number, outcome=make_built(name)), 0.0)
    answers = [messages(pool.receive(CLIENT, wire.Wait(job_id=f"job-{n}"), 0.0)) for n in range(4)]
    assert [type(m) for (m,) in answers] == [wire.Refused] * 2 + [wire.Result] * 2


def test_a_client_that_left_is_not_written_to():
    pool = make_pool()
    running(pool)
    pool.undelivered(CLIENT, wire.Submitted(job_id="job", state=State.QUEUED, workers=1), 0.0)
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 0.0)
    assert [s.peer for s in sends] == [W1]


def test_time_that_goes_back_is_a_bug_and_changes_nothing():
    pool = make_pool()
    pool.tick(5.0)
    with pytest.raises(ValueError, match="monotonic"):
        pool.receive(CLIENT, wire.Submit(job=make_job()), 4.0)
    assert pool.story("job") == ()
