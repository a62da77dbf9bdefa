"""A publisher that begins anew: listeners come back, whoever holds its address meanwhile."""

import socket
import time
from pathlib import Path

import pytest
import zmq

from gpu_runner.operations import Beacon, Change, Event
from gpu_runner.publishing import Listener, Publisher

TIMES = 10


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


@pytest.fixture(params=["tcp", "ipc"])
def endpoint(request, tmp_path):
    return "tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{tmp_path}/events"


def make_event(seq):
    return Event(seq=seq, epoch=1, at_s=0.0, change=Change.SUBMITTED, job_id=f"job-{seq}")


def beacon_of(publisher, listener, last_seq, patience_s=10.0):
    """Tick until the listener has heard a beacon that names an event."""
    give_up_s = time.monotonic() + patience_s
    now_s = give_up_s
    while time.monotonic() < give_up_s:
        now_s += 10.0
        publisher.tick(now_s, last_seq)
        heard = listener.heard(0.02)
        if isinstance(heard, Beacon) and heard.last_seq == last_seq:
            return heard
    return None


def test_listeners_come_back_every_time_it_begins_anew(context, endpoint):
    """On ipc the old socket removes a file; it may never be the new one's."""
    publisher = Publisher(context, endpoint, 1)
    listener = Listener(context, publisher.endpoint)
    place = publisher.endpoint
    for last_seq in range(1, TIMES):
        publisher.begin_anew()
        publisher.begin_anew()  # the list changed twice
        assert beacon_of(publisher, listener, last_seq), f"deaf after {last_seq} times"
        assert publisher.endpoint == place
        if place.startswith("ipc"):
            assert Path(place.removeprefix("ipc://")).exists()
    listener.close()
    publisher.close()


def test_what_is_told_meanwhile_is_a_gap_that_the_beacon_shows(context, endpoint):
    publisher = Publisher(context, endpoint, 1)
    listener = Listener(context, publisher.endpoint)
    assert beacon_of(publisher, listener, 1)
    publisher.begin_anew()
    publisher.publish([make_event(2)])
    heard = beacon_of(publisher, listener, 2)
    assert heard == Beacon(epoch=1, last_seq=2), "the event itself was told to nobody"
    publisher.publish([make_event(3)])
    assert listener.heard(10.0) == make_event(3)
    listener.close()
    publisher.close()


def test_an_address_that_somebody_took_costs_events_and_not_the_broker(context, caplog):
    publisher = Publisher(context, "tcp://127.0.0.1:*", 1)
    listener = Listener(context, publisher.endpoint)
    port = int(publisher.endpoint.rpartition(":")[2])
    publisher.begin_anew()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        take(thief, port)
        for now_s in (10.0, 20.0, 30.0):
            publisher.tick(now_s, 0)
            publisher.publish([make_event(1)])
    said = [r.message for r in caplog.records if "events are not published" in r.message]
    assert 1 <= len(said) <= 2, "the first failures are told, not each"
    assert "is another broker there?" in said[0]
    assert beacon_of(publisher, listener, 1), "it listens again when the thief is gone"
    listener.close()
    publisher.close()


def take(thief, port, patience_s=5.0):
    """Listen at a port as soon as it is free."""
    give_up_s = time.monotonic() + patience_s
    while True:
        try:
            thief.bind(("127.0.0.1", port))
            thief.listen()
        except OSError:
            assert time.monotonic() < give_up_s, "the address was not given back"
            time.sleep(0.01)
        else:
            return


def test_it_can_be_closed_while_it_begins_anew(context, endpoint):
    publisher = Publisher(context, endpoint, 1)
    publisher.begin_anew()
    publisher.close()
    again = Publisher(context, publisher.endpoint, 1) if endpoint.startswith("ipc") else None
    if again is not None:
        again.close()
