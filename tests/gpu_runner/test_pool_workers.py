"""The pool's rules for workers: registration, adoption, loss, settling."""

import pytest

from gpu_runner import wire
from gpu_runner.wire import Refusal, State
from tests.builders import make_environment
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.pool_cases import (
    CLIENT,
    FIRST,
    W1,
    W2,
    held,
    leased,
    make_hello,
    make_pool,
    messages,
    running,
)


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


def test_a_lease_that_was_never_heard_of_is_not_counted():
    """A slow disk holds the welcome and the lease back together; the worker asks again."""
    pool = make_pool(loss_budget=2)
    leased(pool)
    for seq in range(1, 9):
        sends = pool.receive(W1, make_hello(seq=seq), 0.0)
        (lease,) = messages(sends, wire.Lease)
    assert lease.token == FIRST + 8
    pool.receive(W1, wire.Beat(seq=9, heard=8), 0.0)
    sends = pool.receive(W1, make_hello(seq=10), 0.0)
    assert messages(sends, wire.Lease)
    pool.receive(W1, wire.Beat(seq=11, heard=10), 0.0)
    (result,) = messages(pool.receive(W1, make_hello(seq=12), 0.0), wire.Result)
    assert result.outcome.cause == "runner_lost"


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
    pool.receive(W1, make_hello(running=(held(make_job("old"), high),)), 0.0)
    pool.receive(W2, make_hello("w2"), 0.0)
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


def test_the_machine_is_that_of_the_first_worker_with_a_gpu():
    pool = make_pool()
    pool.receive(W1, make_hello("builder"), 0.0)
    gpu = make_environment(arch="sm_90")
    pool.receive(W2, make_hello("gpu", environment=gpu), 0.0)
    (described,) = messages(pool.receive(CLIENT, wire.Describe(), 0.0))
    assert (described.environment, described.workers) == (gpu, 2)


def test_the_machine_is_that_of_the_first_worker():
    pool = make_pool()
    assert messages(pool.receive(CLIENT, wire.Describe(), 0.0)) == [wire.Described(workers=0)]
    pool.receive(W1, make_hello(), 0.0)
    described = wire.Described(environment=make_environment(), workers=1)
    assert messages(pool.receive(CLIENT, wire.Describe(), 0.0)) == [described]
