"""Whoever listens to events is on the list, and not any longer once the key is revoked."""

import threading
from itertools import islice

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from gpu_runner import wire
from gpu_runner.console import Console
from gpu_runner.keeping import StoreKeeper
from gpu_runner.operations import Event
from gpu_runner.publishing import Listener
from gpu_runner.security.keys import load_keys
from gpu_runner.security.peers import Role
from tests.gpu_runner.executors import make_job, seen
from tests.gpu_runner.security.secured import KeyedPeer, Yard, serving

JOBS = 60
REVOKED_AFTER = 20
PATIENCE_MS = 10_000


@pytest.fixture(params=["tcp", "ipc"])
def published(request, tmp_path):
    return "tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{tmp_path}/events"


class Watched:
    """A listener whose connection is watched."""

    def __init__(self, context, endpoint, folder):
        self.listener = Listener(context, endpoint, load_keys(folder))
        self.monitor = self.listener._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    def heard(self, patience_s):
        return self.listener.heard(patience_s)

    def await_cut(self):
        assert self.monitor.poll(PATIENCE_MS), "the connection was not cut"
        assert recv_monitor_message(self.monitor)["event"] == zmq.EVENT_DISCONNECTED

    def close(self):
        self.listener._socket.disable_monitor()
        self.monitor.close()
        self.listener.close()


def submit(client, first, last):
    for number in range(first, last):
        client.send(wire.Submit(job=make_job(f"job-{number}")))
        assert isinstance(client.receive(), wire.Submitted)


def test_a_revoked_listener_hears_nothing_more_and_the_others_miss_nothing(tmp_path, published):
    yard = Yard(tmp_path / "keys")
    kept, gone = yard.enrolled("kept", Role.OPERATOR), yard.enrolled("gone", Role.OPERATOR)
    mine = yard.enrolled("mine")
    told: list[Event] = []
    keeper = StoreKeeper(tmp_path, 1)
    with serving(yard, keeper=keeper, events=published) as broker, zmq.Context() as context:
        with Console(broker.endpoint, keys=kept) as console:
            events = console.survey().events
            source = console.follow(0, events)
            follower = threading.Thread(
                target=lambda: told.extend(seen(list(islice(source, JOBS))))
            )
            revoked = Watched(context, events, gone)
            with KeyedPeer(broker.endpoint, mine) as client:
                follower.start()
                submit(client, 0, REVOKED_AFTER)
                assert revoked.heard(10.0) is not None, "it was let in while it was enrolled"
                yard.revoke("gone")
                # What is told while the publisher begins anew is the gap that is filled.
                submit(client, REVOKED_AFTER, 2 * REVOKED_AFTER)
                revoked.await_cut()
                while revoked.heard(0.01) is not None:  # had arrived before
                    pass
                submit(client, 2 * REVOKED_AFTER, JOBS)
                assert revoked.heard(1.0) is None
            follower.join(timeout=30.0)
            assert not follower.is_alive(), f"only {len(told)} of {JOBS} events came"
        revoked.close()
    assert [event.seq for event in told] == list(range(1, JOBS + 1))
    assert [event.job_id for event in told] == [f"job-{number}" for number in range(JOBS)]
