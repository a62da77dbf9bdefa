"""The broker's shell: sockets, bytes that are no message, epochs."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import zmq

from gpu_runner import wire
from gpu_runner.broker import Broker, next_epoch
from gpu_runner.errors import PoolError
from gpu_runner.wire import MAGIC, Inbox, Refusal, TooLarge
from tests.builders import make_environment
from tests.gpu_runner.bus_threads import PLAN, Peer, serving
from tests.gpu_runner.executors import make_built, make_job, seen


@pytest.fixture
def endpoint(tmp_path):
    return f"ipc://{tmp_path}/bus"


def test_a_job_travels_from_client_to_worker_and_back(endpoint):
    with serving(endpoint), Peer(endpoint) as worker, Peer(endpoint, wire.TO_CLIENT) as client:
        worker.say_hello()
        client.send(wire.Submit(job=make_job()))
        assert isinstance(client.receive(), wire.Submitted)
        lease = worker.receive_until(wire.Lease)
        assert lease.job == make_job()
        worker.send(wire.Done(token=lease.token, outcome=make_built()))
        assert client.receive() == wire.Result(outcome=make_built())
        assert worker.receive_until(wire.Ack).is_accepted


def test_a_broker_on_tcp_tells_its_port():
    with serving("tcp://127.0.0.1:*") as broker:
        assert broker.endpoint.startswith("tcp://127.0.0.1:")
        with Peer(broker.endpoint) as worker:
            assert worker.say_hello().epoch == 1


def test_a_malformed_message_is_answered_and_the_next_one_served(endpoint):
    with serving(endpoint), Peer(endpoint, wire.TO_CLIENT) as client:
        for frames in ((MAGIC, b"\xff\xfe"), (MAGIC, b"[" * 100_000), (MAGIC,), (MAGIC, b"", b"")):
            client.send_frames(*frames)
            assert client.receive().code is Refusal.MALFORMED
        client.send_frames(b"kp/9", b"{}")
        refused = client.receive()
        assert (refused.code, "install one version" in refused.message) == (Refusal.PROTOCOL, True)
        client.send(wire.Describe())
        assert client.receive() == wire.Described(workers=0)


def test_an_oversized_frame_is_cut_off_and_others_are_served(endpoint):
    with (
        serving(endpoint),
        Peer(endpoint, wire.TO_CLIENT) as good,
        Peer(endpoint, wire.TO_CLIENT) as bad,
    ):
        bad.send_frames(MAGIC, b" " * (wire.MOST_BYTES + 1))
        good.send(wire.Describe())
        assert isinstance(good.receive(), wire.Described)
        bad.socket.setsockopt(zmq.RCVTIMEO, 100)
        with pytest.raises(zmq.Again):
            bad.receive()


def test_an_outcome_for_a_client_that_left_stops_nothing(endpoint):
    with serving(endpoint), Peer(endpoint) as worker:
        worker.say_hello()
        with Peer(endpoint, wire.TO_CLIENT) as client:
            client.send(wire.Submit(job=make_job()))
            lease = worker.receive_until(wire.Lease)
        worker.send(wire.Done(token=lease.token, outcome=make_built()))
        assert worker.receive_until(wire.Ack).is_accepted
        worker.send(wire.Beat(seq=1))
        assert worker.receive_until(wire.Pong).seq == 1


def test_a_worker_that_is_gone_loses_its_job_when_its_lease_is_over(endpoint):
    with (
        serving(endpoint, replace(PLAN, beat_s=0.05, lease_s=0.3)),
        Peer(endpoint) as worker,
        Peer(endpoint, wire.TO_CLIENT) as client,
    ):
        worker.say_hello()
        client.send(wire.Submit(job=make_job()))
        first = worker.receive_until(wire.Lease)
        with Peer(endpoint) as heir:
            heir.socket.setsockopt(zmq.RCVTIMEO, 50)
            lease = None
            while lease is None:
                heir.send(
                    wire.Hello(
                        worker="w2", incarnation="1" * 16, environment=make_environment(), seq=0
                    )
                )
                try:
                    lease = heir.receive_until(wire.Lease)
                except zmq.Again:
                    continue
            assert lease.token > first.token


def test_a_broker_listens_on_loopback_only():
    with pytest.raises(PoolError, match="not loopback"):
        Broker("tcp://0.0.0.0:7766", PLAN)


def test_a_lease_for_a_worker_that_left_goes_to_the_next(endpoint):
    with (
        serving(endpoint) as broker,
        Peer(endpoint, wire.TO_CLIENT) as client,
        Peer(endpoint) as heir,
    ):
        with Peer(broker.endpoint) as worker:
            worker.say_hello()
        client.send(wire.Submit(job=make_job()))
        heir.say_hello(worker="w2", incarnation="1" * 16)
        lease = heir.receive_until(wire.Lease)
        heir.send(wire.Done(token=lease.token, outcome=make_built()))
        while not isinstance(message := client.receive(), wire.Result):
            pass
        assert message.outcome == make_built()


def test_a_message_that_grew_past_the_limit_is_not_sent_and_stops_nothing(endpoint):
    """Defaults that a stranger left out are written by the broker."""
    job = {**make_job().model_dump(mode="json", exclude_defaults=True), "kind": "build"}
    room = wire.MOST_BYTES - len(json.dumps({"kind": "submit", "job": job}))
    job["problem"]["reference"] += "x" * room
    body = json.dumps({"kind": "submit", "job": job}, separators=(",", ":")).encode()
    assert len(body) <= wire.MOST_BYTES
    with (
        serving(endpoint),
        Peer(endpoint) as worker,
        Peer(endpoint, wire.TO_CLIENT) as client,
    ):
        worker.say_hello()
        client.send_frames(MAGIC, body)
        parsed = seen(Inbox(wire.TO_BROKER).parse([MAGIC, body]))
        with pytest.raises(TooLarge):
            wire.encode(wire.Lease(token=1, job=parsed.job))
        assert isinstance(client.receive(), wire.Submitted)
        client.send(wire.Describe())
        while not isinstance(client.receive(), wire.Described):
            pass


NEXT = "import sys, pathlib; from gpu_runner.broker import next_epoch;"


def epochs_of_a_process(state, count=1):
    code = f"{NEXT} print(next_epoch(pathlib.Path(sys.argv[1])))"
    run = [sys.executable, "-c", code, str(state)]
    return [int(subprocess.run(run, check=True, capture_output=True).stdout) for _ in range(count)]


def test_epochs_grow_over_restarts(tmp_path):
    assert epochs_of_a_process(tmp_path, 2) == [1, 2]
    (tmp_path / "epoch").write_text("not a number")
    (damaged,) = epochs_of_a_process(tmp_path)
    assert damaged > 1_700_000_000


def test_one_broker_at_a_time_has_a_state_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_runner.broker._LOCK_PATIENCE_S", 0.05)
    assert next_epoch(tmp_path) == 1
    with pytest.raises(PoolError, match=f"in use by process {os.getpid()}"):
        next_epoch(tmp_path)


def test_an_epoch_beyond_its_bits_is_refused(tmp_path):
    (tmp_path / "epoch").write_text(str(2**31 - 1))
    with pytest.raises(PoolError, match="delete it when no worker is alive"):
        next_epoch(tmp_path)


def test_a_state_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PoolError, match="cannot keep the epoch"):
        next_epoch(tmp_path / "file" / "state")


def test_without_a_state_the_clock_serves():
    assert next_epoch(None) > 1_700_000_000
