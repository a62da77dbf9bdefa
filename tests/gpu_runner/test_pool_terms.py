"""The pool's rules for whoever waits: deadlines, limits, turns over a restart."""

import pytest

from gpu_runner import wire
from gpu_runner.store import Store
from gpu_runner.wire import Refusal
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.pool_cases import (
    CLIENT,
    FIRST,
    OTHER,
    W1,
    leased,
    make_hello,
    make_pool,
    messages,
)


def submit(pool, name="job", now_s=0.0, **terms):
    return messages(pool.receive(CLIENT, wire.Submit(job=make_job(name), **terms), now_s))


def test_a_job_that_nobody_takes_in_time_expires():
    pool = make_pool()
    submit(pool, deadline_s=5.0)
    assert pool.tick(4.9) == ()
    (result,) = messages(pool.tick(5.0))
    assert (result.outcome.kind, result.outcome.cause) == ("unserved", "expired")
    assert not result.outcome.is_retryable
    assert "start more workers" in result.outcome.message
    assert pool.tick(50.0) == ()


def test_a_job_that_runs_at_its_deadline_goes_on_and_expires_when_it_waits_again():
    pool = make_pool()
    pool.receive(W1, make_hello(), 0.0)
    submit(pool, deadline_s=5.0)
    assert messages(pool.tick(6.0)) == []
    pool.receive(W1, wire.Beat(seq=1), 6.0)
    pool.receive(W1, wire.Drain(), 6.0)
    pool.receive(W1, wire.Bye(), 6.5)
    (result,) = messages(pool.tick(8.0))
    assert result.outcome.cause == "expired"


def test_an_ended_job_does_not_expire_and_neither_does_its_successor():
    pool = make_pool()
    pool.receive(W1, make_hello(), 0.0)
    submit(pool, deadline_s=5.0)
    pool.receive(CLIENT, wire.Cancel(job_id="job"), 0.0)
    lost = wire.Done(token=FIRST, outcome=make_built())
    pool.receive(W1, lost, 0.0)
    submit(pool, "other", deadline_s=2.0)
    pool.receive(W1, wire.Done(token=FIRST + 1, outcome=make_built("other")), 1.0)
    assert messages(pool.tick(9.0)) == []


def test_a_deadline_outlives_the_broker():
    store, pool = Store(None), make_pool()
    submit(pool, deadline_s=5.0)
    store.keep(pool.entries(), epoch=1, at_s=1000.0)
    heir = make_pool(epoch=6)
    heir.restore(store.restored(1003.0))
    heir.receive(OTHER, wire.Wait(job_id="job"), 0.0)
    assert heir.tick(1.9) == ()
    (result,) = messages(heir.tick(2.0))
    assert result.outcome.cause == "expired"


def test_terms_outlive_the_broker():
    store, pool = Store(None), make_pool()
    submit(pool, "low", priority=1)
    submit(pool, "high", priority=9)
    submit(pool, "choosy", priority=9, need=("rack-2",))
    store.keep(pool.entries(), epoch=1, at_s=0.0)
    heir = make_pool(epoch=6, archive=store)
    heir.restore(store.restored())
    sends = heir.receive(W1, make_hello(slots=9), 0.0)
    assert [lease.job.job_id for lease in messages(sends, wire.Lease)] == ["high", "low"]


@pytest.mark.parametrize(("processes", "is_served"), [((1, 1, 1, 1), True), ((2, 3), False)])
def test_after_restarts_only_a_new_process_of_its_worker_counts_against_a_job(processes, is_served):
    store, pool = Store(None), make_pool(loss_budget=2)
    leased(pool)
    for epoch, incarnation in enumerate(processes, start=6):
        store.keep(pool.entries(), epoch=epoch, at_s=0.0)
        pool = make_pool(epoch=epoch, archive=store, loss_budget=2)
        pool.restore(store.restored())
        sends = pool.receive(W1, make_hello(incarnation=incarnation), 0.0)
    assert bool(messages(sends, wire.Lease)) is is_served


def test_a_session_may_have_so_many_jobs_and_others_still_come_in():
    pool = make_pool(most_of_session=2)
    for name in ("run-r1-a", "run-r1-b"):
        assert isinstance(submit(pool, name)[0], wire.Submitted)
    (refused,) = submit(pool, "run-r1-c")
    assert (refused.code, refused.retry_after_s) == (Refusal.BUSY, 1.0)
    assert "session 'run' has 2 unfinished jobs" in refused.message
    assert isinstance(submit(pool, "other-r1-a")[0], wire.Submitted)
    assert isinstance(submit(pool, "run-r1-d", session="mine")[0], wire.Submitted)
    pool.receive(CLIENT, wire.Cancel(job_id="run-r1-a"), 0.0)
    assert isinstance(submit(pool, "run-r1-c")[0], wire.Submitted)


def test_a_repeated_submission_counts_once():
    pool = make_pool(most_of_session=1)
    leased(pool)
    for _ in range(3):
        assert isinstance(submit(pool)[0], wire.Submitted)


def test_a_stored_job_that_cannot_be_read_is_asked_for_again():
    store, pool = Store(None), make_pool()
    submit(pool)
    store.keep(pool.entries(), epoch=1, at_s=0.0)
    store._db.execute("UPDATE content SET job = 'of another version'")
    heir = make_pool(epoch=6, archive=store)
    heir.restore(store.restored())
    heir.receive(CLIENT, wire.Wait(job_id="job"), 0.0)
    (refused,) = messages(heir.receive(W1, make_hello(), 0.0), wire.Refused)
    assert refused.code is Refusal.UNKNOWN
    assert "cannot be read" in refused.message
    assert messages(heir.receive(CLIENT, wire.Submit(job=make_job()), 0.0), wire.Lease), (
        "it is leased once it is known again"
    )
