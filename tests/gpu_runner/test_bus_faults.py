"""Faults of processes and lines that no other file has: see docs/bus-faults.md for all of them."""

import contextlib
import signal
import threading

import pytest
import zmq

from gpu_runner import wire
from gpu_runner.blobs.client import BlobClient
from gpu_runner.blobs.messages import CHUNK_BYTES
from gpu_runner.blobs.server import blob_endpoint
from gpu_runner.client import BusClient
from tests.gpu_runner.blobs.worlds import bytes_of
from tests.gpu_runner.blobs.worlds import digest_of as digest_of_bytes
from tests.gpu_runner.broker_process import BrokerProcess
from tests.gpu_runner.bus_threads import PLAN, Peer, serving
from tests.gpu_runner.bus_world import JOBS, World
from tests.gpu_runner.executors import executions, make_built, make_job
from tests.gpu_runner.fleet import client_process, worker_process
from tests.gpu_runner.pool_cases import (
    CLIENT,
    FIRST,
    W1,
    held,
    leased,
    make_hello,
    make_pool,
    messages,
)
from tests.gpu_runner.security.secured import until

BACK_S = 3.0
"""After the name of a worker that ended is free again: two and a half beats."""
HELD_SPOOL = {"running": (held(make_job()),), "spooled": ("job",)}


class TestWorkerDies:
    """A worker that ends around the moment its outcome is sent, and comes back."""

    def test_before_its_spool_the_job_is_leased_again_at_once(self):
        pool = make_pool()
        leased(pool)
        sends = pool.receive(W1, make_hello(incarnation=2), BACK_S)
        assert messages(sends, wire.Welcome)
        (lease,) = messages(sends, wire.Lease)
        assert (lease.job, lease.token) == (make_job(), FIRST + 1)

    def test_after_its_spool_the_outcome_is_waited_for_and_nothing_runs_again(self):
        pool = make_pool()
        leased(pool)
        hello = make_hello(incarnation=2, **HELD_SPOOL)
        sends = pool.receive(W1, hello, BACK_S)
        assert messages(sends, wire.Welcome)
        assert not messages(sends, wire.Lease)
        sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), BACK_S)
        assert messages(sends, wire.Result) == [wire.Result(outcome=make_built())]

    def test_after_its_send_the_outcome_stands_and_is_acknowledged_again(self):
        pool = make_pool()
        leased(pool)
        pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), 0.0)  # the ack is lost
        sends = pool.receive(W1, make_hello(incarnation=2, **HELD_SPOOL), BACK_S)
        assert messages(sends, wire.Welcome)
        assert not messages(sends, wire.Lease)
        sends = pool.receive(W1, wire.Done(token=FIRST, outcome=make_built()), BACK_S)
        acks = [message for message in messages(sends) if isinstance(message, wire.Ack)]
        assert [ack.is_accepted for ack in acks] == [True]
        assert not messages(sends, wire.Result)
        (known,) = messages(pool.receive(CLIENT, wire.Wait(job_id="job"), BACK_S))
        assert known == wire.Result(outcome=make_built())


class TestBrokerDownForLongerThanALease:
    """The worker ends what it cannot hold, and keeps what it has finished."""

    def world(self):
        world = World(workers=1, clients=1, expected=1)
        world.clients[0].ask(JOBS[0])
        world.workers[0].beat()
        world.deliver()
        assert world.started[JOBS[0].job_id] == 1
        return world

    def test_a_job_that_ended_meanwhile_is_not_executed_again(self):
        world = self.world()
        world.loses = True
        world.workers[0].finish()
        world.pass_time(2 * world.plan.lease_s)
        world.start_broker()
        world.settle()
        assert world.started[JOBS[0].job_id] == 1

    def test_a_job_that_still_ran_is_ended_and_executed_once_more(self):
        world = self.world()
        world.loses = True
        world.pass_time(2 * world.plan.lease_s)
        assert world.workers[0].running is None
        world.start_broker()
        world.settle()
        assert world.started[JOBS[0].job_id] == 2
        assert world.clients[0].outcomes.keys() == {JOBS[0].job_id}


@pytest.mark.processes
def test_a_worker_frozen_for_longer_than_its_lease_loses_its_job_and_its_late_outcome(tmp_path):
    """Frozen, it cannot end its child; the token keeps what that leaves from being taken."""
    endpoint = f"ipc://{tmp_path}/bus"
    taken = make_built(seconds=7.0)
    with (
        serving(endpoint, PLAN.__class__(epoch=1, beat_s=0.2, lease_s=2.0, settle_s=0.0)),
        Peer(endpoint, wire.TO_CLIENT) as client,
        Peer(endpoint) as heir,
        ended(worker_process(tmp_path, endpoint, "w1")) as frozen,
    ):
        client.send(wire.Submit(job=make_job(order="await go")))
        until(lambda: executions(tmp_path / "w1", "started"), patience_s=30)
        frozen.signal(signal.SIGSTOP)
        lease = lease_to(heir)
        heir.send(wire.Done(token=lease.token, outcome=taken))
        assert heir.receive_until(wire.Ack).is_accepted
        assert client.receive_until(wire.Result).outcome == taken
        (tmp_path / "w1" / "go").touch()
        until(lambda: executions(tmp_path / "w1"), patience_s=30)
        frozen.signal(signal.SIGCONT)
        until(lambda: frozen.log.read_text().count("registered worker=w1") == 2)
        assert "no broker for a lease, jobs killed" in frozen.log.read_text()
        client.send(wire.Wait(job_id="job"))
        assert client.receive_until(wire.Result).outcome == taken


@pytest.mark.processes
async def test_a_client_killed_while_it_waits_costs_no_execution(tmp_path):
    """Whoever asks next under the same id gets what the first one asked for."""
    endpoint = f"ipc://{tmp_path}/bus"
    with serving(endpoint), Peer(endpoint) as worker:
        worker.say_hello()
        jobs = [("run-r1-1", "answer")]
        with ended(client_process(tmp_path, endpoint, "client", jobs)):
            lease = worker.receive_until(wire.Lease)
        worker.send(wire.Done(token=lease.token, outcome=make_built("run-r1-1")))
        assert worker.receive_until(wire.Ack).is_accepted
        heir = BusClient(endpoint, patience_s=10)
        assert await heir.run(make_job("run-r1-1")) == make_built("run-r1-1")
        await heir.close()
        worker.send(wire.Beat(seq=1))
        assert isinstance(worker.receive(), wire.Pong), "and nothing was leased before it"


@pytest.mark.processes
def test_a_blob_server_killed_in_a_transfer_is_gone_on_with(tmp_path):
    """What had arrived is not sent again."""
    content = bytes_of(160 * CHUNK_BYTES)
    (tmp_path / "file").write_bytes(content)
    done: list[str] = []
    blobs = tmp_path / "blobs"

    def send():
        place = blob_endpoint(f"ipc://{tmp_path}/bus")
        with BlobClient(place, patience_s=60.0, retry_s=0.1) as client:
            done.append(client.put(tmp_path / "file"))

    def arrived():
        return sum(path.stat().st_size for path in blobs.glob("partial/*"))

    with BrokerProcess(tmp_path, "--blobs", blobs) as broker:
        until((tmp_path / "bus.blobs").exists, patience_s=30)
        thread = threading.Thread(target=send)
        thread.start()
        until(lambda: arrived() > 8 * CHUNK_BYTES)
        broker.kill()
        before = arrived()
        assert before < len(content)
        broker.start()
        thread.join(60)
    assert done == [digest_of_bytes(content)]
    assert before


@contextlib.contextmanager
def ended(process):
    try:
        yield process
    finally:
        process.end()


def lease_to(peer):
    """Say hello until there is something to do."""
    peer.socket.setsockopt(zmq.RCVTIMEO, 100)
    for _ in range(100):
        with contextlib.suppress(zmq.Again):
            peer.say_hello(worker="w2", incarnation="1" * 16)
            return peer.receive_until(wire.Lease)
    raise AssertionError("nothing was leased")
