"""A broker that wants keys, in a thread, and folders of keys for those who speak to it."""

import contextlib
import os
import threading
import time

import zmq

from gpu_runner import wire
from gpu_runner.broker import Broker
from gpu_runner.endpoint import dealer
from gpu_runner.security.keys import load_keys, make_pair, note_broker
from gpu_runner.security.peer_file import change_peers
from gpu_runner.security.peers import Holder, Role
from tests.gpu_runner.bus_threads import PLAN, Peer

LOOPBACK = "tcp://127.0.0.1:*"


class Yard:
    """The folder of a broker's keys, and folders of others beside it."""

    def __init__(self, folder):
        self.folder = folder
        self.broker = folder / "broker"
        self.public = make_pair(self.broker)[0].public

    def keys(self, name):
        """The folder of somebody's keys, made when missing; not enrolled."""
        folder = self.folder / name
        make_pair(folder)
        note_broker(folder, self.public)
        return folder

    def enrolled(self, name, role=Role.CLIENT):
        folder = self.keys(name)
        key = make_pair(folder)[0].public
        change_peers(self.broker, lambda a: a.enrolled(Holder(key=key, role=role, name=name)))
        return folder

    def revoke(self, who):
        change_peers(self.broker, lambda allowed: allowed.revoking(who)[0])


@contextlib.contextmanager
def serving(yard, endpoint=LOOPBACK, plan=PLAN, **changes):
    """A broker with the yard's keys that serves until the block ends."""
    readable, writable = os.pipe()
    broker = Broker(endpoint, plan, keys=yard.broker, **changes)
    thread = threading.Thread(target=broker.serve, args=(readable,))
    thread.start()
    try:
        yield broker
    finally:
        os.write(writable, b"x")
        thread.join()
        os.close(readable)
        os.close(writable)


class KeyedPeer(Peer):
    """One DEALER with keys."""

    def __init__(self, endpoint, folder, adapter=wire.TO_CLIENT, patience_ms=10_000):
        self.context = zmq.Context()
        self.socket = dealer(self.context, endpoint, load_keys(folder))
        self.socket.setsockopt(zmq.RCVTIMEO, patience_ms)
        self.socket.setsockopt(zmq.SNDTIMEO, patience_ms)
        self.inbox = wire.Inbox(adapter)

    def is_heard(self, message=None):
        """Whether anything comes back of a message within the patience."""
        try:
            self.send(message or wire.Describe())
            self.receive()
        except zmq.Again:
            return False
        return True


def until(is_true, *, patience_s=10.0):
    """Wait for a condition; a test that waits in vain fails here."""
    give_up_s = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.01)
