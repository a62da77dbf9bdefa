"""A pool, its peers and what they say, for tests of the pool's rules."""

from dataclasses import replace

from gpu_runner import wire
from gpu_runner.book import Book
from gpu_runner.dispatch import Dispatch
from gpu_runner.message import digest_of
from gpu_runner.pool import Pool, PoolPlan
from gpu_runner.terms import terms_of
from gpu_runner.wire import Held
from tests.builders import make_environment
from tests.gpu_runner.executors import make_job

PLAN = PoolPlan(epoch=5, beat_s=1.0, lease_s=10.0, settle_s=0.0)
FIRST = (5 << 32) + 1
"""The first token of that epoch."""
CLIENT, OTHER, W1, W2 = b"client", b"other", b"w1-peer", b"w2-peer"


def make_pool(archive=None, **changes) -> Pool:
    return Pool(replace(PLAN, **changes), 0.0, archive)


def make_hello(worker="w1", incarnation=1, **changes) -> wire.Hello:
    values = {"environment": make_environment(), "incarnation": f"{incarnation:016x}", "seq": 0}
    return wire.Hello(worker=worker, **{**values, **changes})


def held(job, token=FIRST) -> Held:
    return Held(job_id=job.job_id, token=token, spec_digest=digest_of(job))


def messages(sends, kind=None):
    return [s.message for s in sends if kind is None or isinstance(s.message, kind)]


def server_of(roster, job_id="job", **terms):
    """The worker of a roster that would get a job now; None while it would wait."""
    book, job = Book(most_finished=1), make_job(job_id)
    book.submit(job, digest_of(job), terms_of(job, **terms))
    pair = next(Dispatch(book, roster, most_drain_s=60.0).pairs(0.0), None)
    return pair[1] if pair else None


def leased(pool, job=None, now_s=0.0):
    """Submit a job to a pool with one worker; return the lease."""
    pool.receive(W1, make_hello(), now_s)
    sends = pool.receive(CLIENT, wire.Submit(job=job or make_job()), now_s)
    return messages(sends, wire.Lease)[0]


def running(pool, job=None, now_s=0.0):
    lease = leased(pool, job, now_s)
    pool.receive(W1, wire.Started(job_id=lease.job.job_id, token=lease.token), now_s)
    return lease
