"""A broker with a database, killed: what it said still holds."""

import pytest

from gpu_runner import wire
from gpu_runner.wire import Refusal, State
from tests.gpu_runner.broker_process import BrokerProcess
from tests.gpu_runner.bus_threads import Peer
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.pool_cases import held

pytestmark = pytest.mark.processes


def test_jobs_survive_their_broker_without_their_client(tmp_path):
    with BrokerProcess(tmp_path) as broker:
        with Peer(broker.endpoint, wire.TO_CLIENT) as client:
            for name in ("a", "b"):
                client.send(wire.Submit(job=make_job(name)))
                assert client.receive().job_id == name
        broker.kill()
        broker.start()
        with Peer(broker.endpoint) as worker:
            worker.say_hello()  # no settling: the database says that nobody runs anything
            for name in ("a", "b"):
                lease = worker.receive_until(wire.Lease)
                assert lease.job == make_job(name)
                worker.send(wire.Done(token=lease.token, outcome=make_built(name)))
                assert worker.receive_until(wire.Ack).is_accepted
        broker.kill()
        broker.start()
        with Peer(broker.endpoint, wire.TO_CLIENT) as client:
            for name in ("a", "b"):
                client.send(wire.Wait(job_id=name))
                assert client.receive() == wire.Result(outcome=make_built(name))
            client.send(wire.Submit(job=make_job("a", "sleep 1")))
            assert client.receive().code is Refusal.CONFLICT


def test_a_running_job_stays_its_workers_over_a_restart(tmp_path):
    with (
        BrokerProcess(tmp_path, "--lease-s", 30) as broker,
        Peer(broker.endpoint) as worker,
        Peer(broker.endpoint) as other,
        Peer(broker.endpoint, wire.TO_CLIENT) as client,
    ):
        worker.say_hello()
        client.send(wire.Submit(job=make_job()))
        lease = worker.receive_until(wire.Lease)
        broker.kill()
        broker.start()
        other.say_hello(worker="w2", incarnation="1" * 16)
        client.send(wire.Wait(job_id="job"))
        submitted = client.receive_until(wire.Submitted)
        while submitted.state is State.QUEUED:  # of the first submission
            submitted = client.receive_until(wire.Submitted)
        assert submitted.state is State.LEASED
        welcome = worker.say_hello(seq=1, running=(held(make_job(), lease.token),))
        assert welcome.drop == ()
        worker.send(wire.Done(token=lease.token, outcome=make_built()))
        assert worker.receive_until(wire.Ack).is_accepted
        assert client.receive_until(wire.Result).outcome == make_built()
        other.send(wire.Beat(seq=1))
        assert isinstance(other.receive(), wire.Pong)  # and it was never leased to the other


def test_an_outcome_repeated_after_a_restart_is_acknowledged_as_the_same(tmp_path):
    with BrokerProcess(tmp_path) as broker, Peer(broker.endpoint) as worker:
        worker.say_hello()
        with Peer(broker.endpoint, wire.TO_CLIENT) as client:
            client.send(wire.Submit(job=make_job()))
            lease = worker.receive_until(wire.Lease)
        worker.send(wire.Done(token=lease.token, outcome=make_built()))
        assert worker.receive_until(wire.Ack).is_accepted
        broker.kill()
        broker.start()
        worker.say_hello(seq=1)
        worker.send(wire.Done(token=lease.token, outcome=make_built()))
        assert worker.receive_until(wire.Ack).is_accepted
        worker.send(wire.Done(token=lease.token + 1, outcome=make_built()))
        assert not worker.receive_until(wire.Ack).is_accepted


def test_a_full_disk_ends_the_broker_with_70_and_nothing_is_promised(tmp_path):
    with BrokerProcess(tmp_path) as broker:
        with Peer(broker.endpoint, wire.TO_CLIENT) as client:
            client.send(wire.Submit(job=make_job("kept")))
            assert client.receive().job_id == "kept"
        broker.kill()
    acknowledged = []
    with BrokerProcess(tmp_path, most_file_bytes=400_000) as broker:
        with Peer(broker.endpoint, wire.TO_CLIENT) as client:
            for number in range(8):
                job = make_job(f"job-{number}", f"answer {'x' * 100_000}")
                client.send(wire.Submit(job=job))
            broker.process.wait(30)
            client.socket.RCVTIMEO = 200
            while client.socket.poll(200):
                acknowledged.append(client.receive().job_id)
        assert broker.process.returncode == 70
        assert "the broker's database" in broker.log
        assert "then start the broker again" in broker.log
    with (
        BrokerProcess(tmp_path) as broker,
        Peer(broker.endpoint, wire.TO_CLIENT) as client,
    ):
        for name in ("kept", *acknowledged):
            client.send(wire.Wait(job_id=name))
            assert client.receive().kind == "submitted"


def test_a_damaged_database_is_said_at_the_start(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "broker.sqlite").write_bytes(b"not a database" * 500)
    with BrokerProcess(tmp_path) as broker:
        assert broker.process.wait(30) == 70
        assert "not a database" in broker.log
