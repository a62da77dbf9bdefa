"""Events as they happen: a PUB socket of the broker, and whoever listens to it.

Publishing is lossy by design: a slow listener misses events and nobody waits for it. Each event
has a number and a beacon tells the last one, so what was missed is known and can be asked for.
"""

import time
from collections.abc import Sequence

import zmq

from gpu_runner import wire
from gpu_runner.endpoint import check_endpoint
from gpu_runner.errors import PoolError
from gpu_runner.operations import Beacon, Event
from gpu_runner.wire import MAGIC, Inbox, Malformed

_BEACON_S = 1.0
_MOST_QUEUED = 2000
"""Events kept for a slow listener before it misses some."""


class Publisher:
    """Publishes events at one endpoint."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, epoch: int) -> None:
        """Listen.

        Raises:
            PoolError: the endpoint is not allowed or cannot be bound.
        """
        self._epoch = epoch
        self._last_seq = 0
        self._next_beacon_s = 0.0
        check_endpoint(endpoint)
        self._socket = context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, _MOST_QUEUED)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            msg = f"cannot publish events at {endpoint!r}: {error}; is another broker there?"
            raise PoolError(msg) from error
        bound = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self.endpoint = bound.rstrip(b"\0").decode()
        """Where it listens, with the port that was chosen."""

    def publish(self, events: Sequence[Event]) -> None:
        """Tell events that are kept, in order."""
        for event in events:
            self._last_seq = event.seq
            self._socket.send_multipart(wire.encode(event))

    def tick(self, now_s: float, last_seq: int) -> None:
        """Tell from time to time how far the events have come."""
        if now_s >= self._next_beacon_s:
            self._next_beacon_s = now_s + _BEACON_S
            beacon = Beacon(epoch=self._epoch, last_seq=max(last_seq, self._last_seq))
            self._socket.send_multipart(wire.encode(beacon))

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


class Listener:
    """Hears what a publisher tells; connect it before asking for the past."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        """Connect.

        Raises:
            PoolError: the endpoint cannot be understood.
        """
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SUBSCRIBE, MAGIC)
        self._inbox = Inbox(wire.TO_OBSERVER)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            msg = f"cannot listen to events at {endpoint!r}: {error}"
            raise PoolError(msg) from error

    def heard(self, patience_s: float) -> Event | Beacon | None:
        """Return the next message; None where there is none for so long."""
        give_up_s = time.monotonic() + patience_s
        while (left_s := give_up_s - time.monotonic()) > 0:
            if self._socket.poll(int(left_s * 1000) + 1):
                message = self._inbox.parse(self._socket.recv_multipart())
                if not isinstance(message, Malformed):
                    return message
        return None

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
