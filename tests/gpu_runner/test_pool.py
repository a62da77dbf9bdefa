"""The pool's rules, one by one; `test_pool_world.py` explores them together."""

from dataclasses import replace

import pytest

from gpu_runner import wire
from gpu_runner.jobs import Unserved
from gpu_runner.message import digest_of
from gpu_runner.pool import Pool, PoolPlan, Send
from gpu_runner.wire import Held, Refusal, State
from tests.builders import make_environment
from tests.gpu_runner.executors import make_built, make_job

PLAN = PoolPlan(epoch=5, beat_s=1.0, lease_s=10.0, settle_s=0.0)
FIRST = (5 << 32) + 1
CLIENT, OTHER, W1, W2 = b"client", b"other", b"w1-peer", b"w2-peer"


def make_pool(**changes) -> Pool:
    return Pool(replace(PLAN, **changes), 0.0)


def make_hello(worker="w1", incarnation=1, **changes) -> wire.Hello:
    values = {"environment": make_environment(), "incarnation": f"{incarnation:016x}", "seq": 0}
    return wire.Hello(worker=worker, **{**values, **changes})


def held(job, token=FIRST) -> Held:
    return Held(job_id=job.job_id, token=token, spec_digest=digest_of(job))


def messages(sends, kind=None):
    return [s.message for s in sends if kind is None or isinstance(s.message, kind)]


def leased(pool, job=None, now_s=0.0):
    """Submit a job to a pool with one worker; return the lease."""
    pool.receive(W1, make_hello(), now_s)
    sends = pool.receive(CLIENT, wire.Submit(job=job or make_job()), now_s)
    return messages(sends, wire.Lease)[0]


def running(pool, job=None, now_s=0.0):
    lease = leased(pool, job, now_s)
    pool.receive(W1, wire.Started(job_id=lease.job.job_id, token=lease.token), now_s)
    return lease


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
def test_an_outcome_needs_the_owner_and_its_token(peer, token):
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


def test_three_lost_runners_end_a_job():
    pool = make_pool()
    lease = leased(pool)
    for incarnation in (2, 3, 4):
        pool.receive(W1, wire.Started(job_id="job", token=lease.token), 10.0 * incarnation)
        sends = pool.receive(W1, make_hello(incarnation=incarnation), 10.0 * incarnation + 5)
        lease = (messages(sends, wire.Lease) or [None])[0]
    assert lease is None
    (result,) = messages(sends, wire.Result)
    assert (result.outcome.cause, result.outcome.is_retryable) == ("runner_lost", False)
    assert "lost its worker 3 times" in result.outcome.message


def test_losses_that_are_nobodys_fault_are_not_charged_but_end_too():
    pool = make_pool(loss_budget=5)
    lease, losses = leased(pool), 0
    while lease is not None:
        sends = pool.undelivered(W1, lease, 0.0)
        losses += 1
        if not messages(sends, wire.Result):
            sends = pool.receive(W1, make_hello(), 0.0)
        lease = (messages(sends, wire.Lease) or [None])[0]
    assert losses == 5


def test_a_leaving_worker_gives_its_job_back_uncharged():
    pool = make_pool(crash_budget=1)
    running(pool)
    pool.receive(W2, make_hello("w2"), 0.0)
    (lease,) = messages(pool.receive(W1, wire.Bye(), 0.0), wire.Lease)
    assert lease.token == FIRST + 1
    assert messages(pool.receive(W1, wire.Beat(seq=1), 0.0)) == [wire.Who()]


def test_a_draining_worker_gets_no_further_lease():
    pool = make_pool()
    running(pool)
    pool.receive(W1, wire.Drain(), 0.0)
    pool.receive(CLIENT, wire.Submit(job=make_job("next")), 0.0)
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 0.0)
    assert not messages(sends, wire.Lease)


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


def test_a_restarted_broker_adopts_a_running_job_before_its_submission():
    pool, job = make_pool(epoch=6), make_job()
    pool.receive(W1, make_hello(running=(held(job),)), 0.0)
    sends = pool.receive(CLIENT, wire.Submit(job=job), 0.0)
    assert messages(sends) == [wire.Submitted(job_id="job", state=State.RUNNING, workers=1)]
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 0.0)
    assert messages(sends, wire.Result) == [wire.Result(outcome=make_built())]


def test_a_restarted_broker_adopts_a_running_job_after_its_submission():
    pool, job = make_pool(epoch=6, settle_s=10.0), make_job()
    pool.receive(W2, make_hello("w2"), 0.0)
    assert not messages(pool.receive(CLIENT, wire.Submit(job=job), 0.0), wire.Lease)
    sends = pool.receive(W1, make_hello(running=(held(job),)), 1.0)
    assert messages(sends, wire.Welcome)[0].drop == ()
    assert not messages(pool.tick(10.0), wire.Lease)


def test_the_pool_waits_for_its_workers_after_a_start():
    pool = make_pool(settle_s=10.0, expected_workers=2)
    pool.receive(CLIENT, wire.Submit(job=make_job()), 0.0)
    assert not messages(pool.receive(W1, make_hello("w1"), 1.0), wire.Lease)
    assert len(messages(pool.receive(W2, make_hello("w2"), 2.0), wire.Lease)) == 1


def test_the_pool_does_not_wait_for_ever_for_its_workers():
    pool = make_pool(settle_s=4.0, expected_workers=2)
    pool.receive(CLIENT, wire.Submit(job=make_job()), 0.0)
    pool.receive(W1, make_hello("w1"), 1.0)
    assert not messages(pool.tick(3.9), wire.Lease)
    assert len(messages(pool.tick(4.0), wire.Lease)) == 1


def test_an_adopted_job_that_is_lost_is_asked_for_again():
    pool, job = make_pool(epoch=6), make_job()
    pool.receive(W1, make_hello(running=(held(job),)), 0.0)
    pool.receive(CLIENT, wire.Wait(job_id="job"), 0.0)
    (refused,) = messages(pool.receive(W1, wire.Bye(), 0.0))
    assert (refused.code, refused.job_id) == (Refusal.UNKNOWN, "job")


@pytest.mark.parametrize("case", ["other content", "finished", "elsewhere", "no slot"])
def test_an_execution_that_is_not_wanted_is_dropped(case):
    pool, job = make_pool(epoch=6), make_job()
    if case == "other content":
        pool.receive(CLIENT, wire.Submit(job=make_job(order="sleep 1")), 0.0)
    elif case == "finished":
        pool.receive(CLIENT, wire.Submit(job=job), 0.0)
        pool.receive(CLIENT, wire.Cancel(job_id="job"), 0.0)
    elif case == "elsewhere":
        pool.receive(W2, make_hello("w2"), 0.0)
        pool.receive(CLIENT, wire.Submit(job=job), 0.0)
    extra = (held(make_job("more")),) if case == "no slot" else ()
    sends = pool.receive(W1, make_hello(running=(*extra, held(job))), 0.0)
    assert messages(sends, wire.Welcome)[0].drop == (held(job),)


def test_an_execution_older_than_the_last_lease_is_dropped():
    pool = make_pool()
    running(pool)
    pool.receive(W2, make_hello("w2"), 5.0)
    pool.tick(10.0)
    pool.receive(W2, wire.Bye(), 10.0)
    sends = pool.receive(W1, make_hello(running=(held(make_job()),)), 11.0)
    assert messages(sends, wire.Welcome)[0].drop == (held(make_job()),)
    assert messages(sends, wire.Lease)[0].token == FIRST + 2


def test_tokens_outgrow_what_a_worker_still_holds():
    pool = make_pool(epoch=1)
    high = (9 << 32) + 3
    pool.receive(W1, make_hello(running=(held(make_job("old"), high),), slots=2), 0.0)
    (lease,) = messages(pool.receive(CLIENT, wire.Submit(job=make_job()), 0.0), wire.Lease)
    assert lease.token == high + 1


def test_a_name_in_use_is_refused_until_its_owner_is_silent():
    pool = make_pool()
    pool.receive(W1, make_hello(incarnation=1), 0.0)
    assert messages(pool.receive(W2, make_hello(incarnation=2), 2.4)) == [
        wire.Busy(retry_after_s=1.0)
    ]
    assert messages(pool.receive(W2, make_hello(incarnation=2), 2.5), wire.Welcome)


def test_a_worker_that_reconnects_keeps_its_job():
    pool, job = make_pool(), make_job()
    running(pool)
    assert messages(pool.receive(W2, wire.Beat(seq=1), 0.1)) == [wire.Who()]
    sends = pool.receive(W2, make_hello(running=(held(job),)), 0.1)
    assert messages(sends, wire.Welcome)[0].drop == ()
    assert messages(pool.receive(W1, wire.Beat(seq=2), 0.2)) == [wire.Who()]
    sends = pool.receive(W2, wire.Done(token=FIRST, outcome=make_built()), 0.2)
    assert messages(sends, wire.Result)


def test_a_lease_lost_on_the_way_is_found_by_the_next_beats():
    pool = make_pool()
    leased(pool)
    assert messages(pool.receive(W1, wire.Beat(seq=1), 1.0)) == [wire.Pong(seq=1)]
    sends = pool.receive(W1, wire.Beat(seq=2, heard=1), 2.0)
    assert messages(sends) == [
        wire.Pong(seq=2),
        wire.Lease(token=FIRST + 1, job=make_job()),
    ]


def test_the_worker_that_has_the_outcome_gets_the_job_and_is_waited_for():
    pool = make_pool()
    pool.receive(W1, make_hello("w1"), 0.0)
    pool.receive(W2, make_hello("w2", spooled=("job", "busy")), 0.0)
    sends = pool.receive(CLIENT, wire.Submit(job=make_job("busy")), 0.0)
    assert [s.peer for s in sends if isinstance(s.message, wire.Lease)] == [W2]
    assert not messages(pool.receive(CLIENT, wire.Submit(job=make_job()), 0.0), wire.Lease)
    done = wire.Done(token=FIRST, outcome=make_built("busy"))
    sends = pool.receive(W2, done, 0.0)
    assert [s.peer for s in sends if isinstance(s.message, wire.Lease)] == [W2]


def test_old_outcomes_are_forgotten():
    pool = make_pool(most_finished=2)
    pool.receive(W1, make_hello(), 0.0)
    for number in range(4):
        name = f"job-{number}"
        pool.receive(CLIENT, wire.Submit(job=make_job(name)), 0.0)
        pool.receive(W1, wire.Done(token=FIRST + number, outcome=make_built(name)), 0.0)
    answers = [messages(pool.receive(CLIENT, wire.Wait(job_id=f"job-{n}"), 0.0)) for n in range(4)]
    assert [type(m) for (m,) in answers] == [wire.Refused] * 2 + [wire.Result] * 2


def test_the_machine_is_that_of_the_first_worker():
    pool = make_pool()
    assert messages(pool.receive(CLIENT, wire.Describe(), 0.0)) == [wire.Described(workers=0)]
    pool.receive(W1, make_hello(), 0.0)
    described = wire.Described(environment=make_environment(), workers=1)
    assert messages(pool.receive(CLIENT, wire.Describe(), 0.0)) == [described]


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
