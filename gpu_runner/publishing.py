"""Events as they happen: a PUB socket of the broker, and whoever listens to it.

Publishing is lossy by design: a slow listener misses events and nobody waits for it. Each event
has a number and a beacon tells the last one, so what was missed is known and can be asked for.
"""

import time
from collections.abc import Sequence

import zmq

from gpu_runner import wire
from gpu_runner.endpoint import check_endpoint, present_keys, require_keys
from gpu_runner.errors import PoolError
from gpu_runner.operations import Beacon, Event
from gpu_runner.security.keys import KeyPair, Keys
from gpu_runner.wire import MAGIC, Inbox, Malformed

_BEACON_S = 1.0
_BIND_PATIENCE_S = 1.0
_BIND_PAUSE_S = 0.02
_MOST_QUEUED = 2000
"""Events kept for a slow listener before it misses some."""


class Publisher:
    """Publishes events at one endpoint."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        epoch: int,
        pair: KeyPair | None = None,
    ) -> None:
        """Listen.

        Args:
            context: with a pair, its handshakes must be answered already.
            endpoint: where.
            epoch: of the broker.
            pair: what it proves itself by; listeners then have to be on the allow-list.

        Raises:
            PoolError: the endpoint is not allowed or cannot be bound.
        """
        self._context = context
        self._pair = pair
        self._epoch = epoch
        self._last_seq = 0
        self._next_beacon_s = 0.0
        check_endpoint(endpoint, has_keys=pair is not None)
        self._socket = self._bound(endpoint)
        bound = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self.endpoint = bound.rstrip(b"\0").decode()
        """Where it listens, with the port that was chosen."""

    def begin_anew(self) -> None:
        """Have every listener prove itself again: nobody asks about a connection that stands.

        They miss what is told meanwhile, find the gap, and ask for it.

        Raises:
            PoolError: somebody else has taken the endpoint.
        """
        self._socket.close()
        self._socket = self._bound(self.endpoint)

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

    def _bound(self, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.PUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, _MOST_QUEUED)
        require_keys(socket, self._pair)
        give_up_s = time.monotonic() + _BIND_PATIENCE_S
        while True:
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                # A closed socket gives its address back a moment later.
                if error.errno == zmq.EADDRINUSE and time.monotonic() < give_up_s:
                    time.sleep(_BIND_PAUSE_S)
                    continue
                socket.close()
                msg = f"cannot publish events at {endpoint!r}: {error}; is another broker there?"
                raise PoolError(msg) from error
            return socket


class Listener:
    """Hears what a publisher tells; connect it before asking for the past."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        keys: Keys | None = None,
    ) -> None:
        """Connect.

        Args:
            context: of the connection.
            endpoint: where events are published.
            keys: what it proves itself by, where the broker wants that.

        Raises:
            PoolError: the endpoint cannot be understood.
        """
        self._socket = context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        present_keys(self._socket, keys)
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
