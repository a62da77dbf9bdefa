"""What operators learn and what their orders do."""

import pytest

from gpu_runner import wire
from gpu_runner.operations import Action, Change, Manage, Managed, Replay, Survey
from gpu_runner.outcomes import cancelled
from gpu_runner.store import Store
from gpu_runner.wire import Refusal, State
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

OPERATOR = b"operator"


def order(pool, action, subject, reason="", now_s=0.0):
    return pool.receive(OPERATOR, Manage(action=action, subject=subject, reason=reason), now_s)


def answer(sends):
    (message,) = [send.message for send in sends if send.peer == OPERATOR]
    return message


def survey(pool, now_s=0.0):
    return answer(pool.receive(OPERATOR, Survey(), now_s))


def changes(pool):
    return [entry.change for entry in pool.entries()]


def test_the_state_names_workers_queue_sessions_and_what_became_of_jobs():
    pool = make_pool()
    pool.receive(W1, make_hello(tags=("ncu",)), 0.0)
    for name in ("run-r1-a", "run-r1-b"):
        pool.receive(CLIENT, wire.Submit(job=make_job(name)), 1.0)
    urgent = wire.Submit(job=make_job("other-r1-c"), priority=9)
    pool.receive(CLIENT, urgent, 2.0)
    pool.receive(W1, wire.Done(token=FIRST, outcome=make_built("run-r1-a")), 4.0)
    state = survey(pool, 5.0)
    (worker,) = state.workers
    assert (worker.worker, worker.jobs, worker.silent_s) == ("w1", ("other-r1-c",), 1.0)
    assert worker.tags == ("cpu", "ncu", "x86_64")
    (waiting,) = state.waiting
    assert (waiting.job, waiting.priority, waiting.jobs, waiting.oldest_s) == ("build", 5, 1, 4.0)
    assert {s.session: s.unfinished for s in state.sessions} == {"run": 1, "other": 1}
    (served,) = state.served
    assert (served.count, served.wait.p50_s, served.run.p50_s) == (1, 0.0, 3.0)
    assert (state.up_s, state.epoch) == (5.0, 5)


@pytest.mark.parametrize("action", [Action.DRAIN, Action.QUARANTINE])
def test_a_restricted_worker_finishes_and_gets_nothing_more_until_it_is_released(action):
    pool = make_pool()
    leased(pool)
    pool.entries()
    said = answer(order(pool, action, "w1", "Xid 79"))
    assert isinstance(said, Managed)
    assert "it finishes the 1 that it has" in said.message
    pool.receive(CLIENT, wire.Submit(job=make_job("next")), 0.0)
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 0.0)
    assert messages(sends, wire.Result)
    assert not messages(sends, wire.Lease)
    assert survey(pool).workers[0].restriction.endswith("ed: Xid 79")
    assert len(messages(order(pool, Action.RELEASE, "w1"), wire.Lease)) == 1
    assert survey(pool).workers[0].restriction == ""


def test_a_restriction_outlives_the_worker_and_the_broker():
    pool, store = make_pool(), Store(None)
    order(pool, Action.QUARANTINE, "w1", "Xid 79")
    order(pool, Action.QUARANTINE, "w1", "Xid 79")
    order(pool, Action.DRAIN, "w2")
    order(pool, Action.RELEASE, "w2")
    order(pool, Action.RELEASE, "w2")
    store.keep(pool.entries(), epoch=1, at_s=0.0)
    assert [e.change for e in store.events(0, 9)] == [
        Change.QUARANTINED,
        Change.DRAINED,
        Change.RELEASED,
    ]
    heir = make_pool(epoch=6)
    heir.restore(store.restored())
    heir.receive(CLIENT, wire.Submit(job=make_job()), 0.0)
    assert not messages(heir.receive(W1, make_hello("w1"), 0.0), wire.Lease)
    assert messages(heir.receive(W2, make_hello("w2"), 0.0), wire.Lease)


def test_a_running_job_that_is_queued_again_is_killed_first():
    pool = make_pool()
    running(pool)
    pool.receive(W2, make_hello("w2"), 0.0)
    sends = order(pool, Action.REQUEUE, "job")
    assert messages(sends, wire.Abort) == [wire.Abort(job_id="job", token=FIRST)]
    assert not messages(sends, wire.Lease)
    sends = pool.receive(W1, wire.Beat(seq=1, running=(held(make_job()),)), 1.0)
    assert messages(sends, wire.Abort), "a lost abort is sent again"
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=cancelled("job")), 2.0)
    assert messages(sends, wire.Lease)[0].token == FIRST + 1
    assert not messages(sends, wire.Result)


def test_a_job_that_ended_before_it_could_be_killed_keeps_its_outcome():
    pool = make_pool()
    running(pool)
    order(pool, Action.REQUEUE, "job")
    sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 2.0)
    assert messages(sends, wire.Result) == [wire.Result(outcome=make_built())]
    refused = answer(order(pool, Action.REQUEUE, "job", now_s=2.0))
    assert (refused.code, "not run again" in refused.message) == (Refusal.CONFLICT, True)


def test_a_job_that_was_not_served_is_queued_again_from_the_database():
    pool, store = make_pool(), Store(None)
    pool.receive(CLIENT, wire.Submit(job=make_job()), 0.0)
    pool.receive(CLIENT, wire.Cancel(job_id="job"), 0.0)
    store.keep(pool.entries(), epoch=1, at_s=0.0)
    heir = make_pool(epoch=6, archive=store)
    assert "queued again" in answer(order(heir, Action.REQUEUE, "job")).message
    assert "waits already" in answer(order(heir, Action.REQUEUE, "job")).message
    (lease,) = messages(heir.receive(W1, make_hello(), 0.0), wire.Lease)
    assert lease.job == make_job()


def test_what_is_not_known_or_not_kept_cannot_be_queued_again():
    pool = make_pool()
    assert "not known here" in answer(order(pool, Action.REQUEUE, "job")).message
    pool.receive(CLIENT, wire.Submit(job=make_job()), 0.0)
    pool.receive(CLIENT, wire.Cancel(job_id="job"), 0.0)
    refused = answer(order(pool, Action.REQUEUE, "job"))
    assert (refused.code, "not kept" in refused.message) == (Refusal.UNKNOWN, True)


def test_history_comes_in_pages_with_its_ends():
    pool, store = make_pool(), Store(None)
    for number in range(5):
        pool.receive(CLIENT, wire.Submit(job=make_job(f"job-{number}")), 0.0)
    store.keep(pool.entries(), epoch=3, at_s=9.0)
    heir = make_pool(epoch=6, archive=store)
    page = answer(heir.receive(OPERATOR, Replay(after_seq=1, limit=2), 0.0))
    assert [(e.seq, e.job_id) for e in page.events] == [(2, "job-1"), (3, "job-2")]
    assert (page.first_seq, page.last_seq, page.epoch) == (1, 5, 6)


def test_an_expected_worker_is_shown_as_not_heard():
    pool, store = make_pool(), Store(None)
    running(pool)
    store.keep(pool.entries(), epoch=1, at_s=0.0)
    heir = make_pool(epoch=6, archive=store)
    heir.restore(store.restored())
    (worker,) = survey(heir).workers
    assert (worker.worker, worker.machine, worker.jobs) == ("w1", "", ("job",))
    submitted = messages(heir.receive(CLIENT, wire.Wait(job_id="job"), 0.0))
    assert submitted == [wire.Submitted(job_id="job", state=State.LEASED, workers=0)] or (
        submitted == [wire.Submitted(job_id="job", state=State.RUNNING, workers=0)]
    )
    (lost,) = [e for e in _entries_at(heir, 10.0) if e.change is Change.REQUEUED]
    assert lost.detail == "worker w1 fell silent"
    assert lost.row is not None
    assert (lost.row.crashes, lost.row.losses) == (0, 1)


def _entries_at(pool, now_s):
    pool.tick(now_s)
    return pool.entries()


def test_workers_that_come_and_go_are_events():
    pool = make_pool()
    pool.receive(W1, make_hello(), 0.0)
    pool.receive(W1, make_hello(seq=1), 1.0)  # the same one again
    pool.receive(W1, wire.Bye(), 2.0)
    assert changes(pool) == [Change.JOINED, Change.LEFT]
