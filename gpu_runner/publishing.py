"""Events as they happen: a PUB socket of the broker, and whoever listens to it.

Publishing is lossy by design: a slow listener misses events and nobody waits for it. Each event
has a number and a beacon tells the last one, so what was missed is known and can be asked for.
"""

import logging
import time
from collections.abc import Sequence
from secrets import token_hex

import zmq

from gpu_runner import wire
from gpu_runner.endpoint import check_endpoint, present_keys, require_keys
from gpu_runner.errors import PoolError
from gpu_runner.operations import Beacon, Event
from gpu_runner.security.keys import KeyPair, Keys
from gpu_runner.wire import MAGIC, Inbox, Malformed

logger = logging.getLogger(__name__)

_BEACON_S = 1.0
_LEAVE_MS = 5
"""A tick waits so long for an address to become free; it takes a tenth of that."""
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
        self._failures = 0
        self._leaving: Leaving | None = None
        self._socket: zmq.Socket[bytes] | None = self._bound(endpoint)
        bound = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self.endpoint = bound.rstrip(b"\0").decode()
        """Where it listens, with the port that was chosen."""

    def begin_anew(self) -> None:
        """Have every listener prove itself again: nobody asks about a connection that stands.

        Returns at once; `tick` listens again when the address is free. Listeners miss what is
        told until then, find the gap, and ask for it.
        """
        if self._socket is not None:
            self._leaving = Leaving(self._socket, self.endpoint)
            self._socket = None

    def publish(self, events: Sequence[Event]) -> None:
        """Tell events that are kept, in order."""
        for event in events:
            self._last_seq = event.seq
            if self._socket is not None:
                self._socket.send_multipart(wire.encode(event))

    def tick(self, now_s: float, last_seq: int) -> None:
        """Tell from time to time how far the events have come."""
        if self._socket is None:
            self._listen_again()
        if self._socket is not None and now_s >= self._next_beacon_s:
            self._next_beacon_s = now_s + _BEACON_S
            beacon = Beacon(epoch=self._epoch, last_seq=max(last_seq, self._last_seq))
            self._socket.send_multipart(wire.encode(beacon))

    def close(self) -> None:
        """Stop listening."""
        if self._leaving is not None:
            self._leaving.close()
        if self._socket is not None:
            self._socket.close()

    def _listen_again(self) -> None:
        if self._leaving is not None:
            if not self._leaving.is_over(_LEAVE_MS):
                return
            self._leaving.close()
            self._leaving = None
        try:
            self._socket = self._bound(self.endpoint)
        except PoolError as error:  # the broker serves on: listeners can ask for the events
            self._failures += 1
            if self._failures & (self._failures - 1) == 0:  # one line a tick would fill the log
                logger.warning("events are not published count=%d: %s", self._failures, error)
            return
        self._failures = 0

    def _bound(self, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.PUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, _MOST_QUEUED)
        require_keys(socket, self._pair)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close()
            msg = f"cannot publish events at {endpoint!r}: {error}; is another broker there?"
            raise PoolError(msg) from error
        return socket


class Leaving:
    """A bound socket that gives its address back, which ZeroMQ does in its own thread and time.

    Of a Unix socket the file is removed then: bound anew before that, the new file would be the
    one that goes, and nobody could connect any more.
    """

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Stop listening at the endpoint; connections that stand are cut by `close`."""
        self._socket = socket
        # By default it is named after a descriptor, whose number the next socket may have.
        self._monitor = socket.get_monitor_socket(
            zmq.EVENT_CLOSED | zmq.EVENT_CLOSE_FAILED, f"inproc://leaving-{token_hex(8)}"
        )
        socket.unbind(endpoint)

    def is_over(self, patience_ms: int) -> bool:
        """Whether the address is free, after waiting for so long at most."""
        return self._monitor.poll(patience_ms) != 0

    def close(self) -> None:
        """Cut the connections."""
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()


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
