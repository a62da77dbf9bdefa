"""A real broker in a thread and a peer that speaks the wire, for tests of one side of the bus."""

import contextlib
import os
import threading

import zmq

from gpu_runner import wire
from gpu_runner.broker import Broker
from gpu_runner.endpoint import dealer
from gpu_runner.pool import PoolPlan
from tests.builders import make_environment

PLAN = PoolPlan(epoch=1, beat_s=0.2, lease_s=5.0, settle_s=0.0)


@contextlib.contextmanager
def serving(endpoint, plan=PLAN, keeper=None, **changes):
    """A broker that serves until the block ends."""
    readable, writable = os.pipe()
    broker = Broker(endpoint, plan, keeper=keeper, **changes)
    thread = threading.Thread(target=broker.serve, args=(readable,))
    thread.start()
    try:
        yield broker
    finally:
        os.write(writable, b"x")
        thread.join()
        os.close(readable)
        os.close(writable)


class Peer:
    """One DEALER, blocking, with a limit."""

    def __init__(self, endpoint, adapter=wire.TO_WORKER):
        self.context = zmq.Context()
        self.socket = dealer(self.context, endpoint)
        self.socket.setsockopt(zmq.RCVTIMEO, 10_000)
        self.socket.setsockopt(zmq.SNDTIMEO, 10_000)
        self.inbox = wire.Inbox(adapter)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close(linger=0)
        self.context.term()

    def send(self, message):
        self.socket.send_multipart(wire.encode(message))

    def send_frames(self, *frames):
        self.socket.send_multipart(frames)

    def receive(self):
        return self.inbox.parse(self.socket.recv_multipart())

    def receive_until(self, kind):
        while not isinstance(message := self.receive(), kind):
            pass
        return message

    def say_hello(self, **changes):
        values = {
            "worker": "w1",
            "incarnation": "0" * 16,
            "environment": make_environment(),
            "seq": 0,
        }
        self.send(wire.Hello(**{**values, **changes}))
        return self.receive_until(wire.Welcome)
