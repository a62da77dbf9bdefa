"""The handshake: ZeroMQ asks here whether a key may come in, over ZAP (RFC 27).

The decision is a function without state. Its thread answers every request it can read; should it
die all the same, `ZAP_ENFORCE_DOMAIN` keeps everybody out until the broker has started it again.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import zmq

from gpu_runner.security.peers import AllowList

logger = logging.getLogger(__name__)

DOMAIN = b"kernelpilot"
ENDPOINT = "inproc://zeromq.zap.01"

_VERSION = b"1.0"
_FIELDS = 7
"""Version, request id, domain, address, routing id, mechanism, and one credential of CURVE."""
_KEY_BYTES = 32
_UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError)


def answer(request: Sequence[bytes], allowed: AllowList) -> list[bytes]:
    """Return the reply to one request; the user id of an admitted peer is its key.

    Only an enrolled, not revoked key over CURVE, asked for in our domain, is answered with 200. A
    key that nobody knows is answered with 300: its connection is closed and ZeroMQ tries again, so
    that it comes in once it is enrolled. What is answered with 400 never tries again by itself.
    """
    request_id = request[1] if len(request) > 1 else b""
    if len(request) != _FIELDS or request[0] != _VERSION:
        return _reply(request_id, b"400", b"not a request of this protocol")
    _, _, domain, _, _, mechanism, credential = request
    if domain != DOMAIN or mechanism != b"CURVE" or len(credential) != _KEY_BYTES:
        return _reply(request_id, b"400", b"only keys of this domain are admitted")
    key = credential.hex()
    if allowed.is_revoked(key):
        return _reply(request_id, b"400", b"this key is revoked")
    holder = allowed.admitted(key)
    if holder is None:
        return _reply(request_id, b"300", b"this key is not enrolled")
    return _reply(request_id, b"200", b"OK", holder.key.encode())


def _reply(request_id: bytes, code: bytes, text: bytes, user: bytes = b"") -> list[bytes]:
    return [_VERSION, request_id, code, text, user, b""]


class ZapThread:
    """Answers the handshakes of one context. Start it before a socket of the context is bound."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], allowed: Callable[[], AllowList]
    ) -> None:
        """Begin to answer.

        Args:
            context: whose sockets ask.
            allowed: gives the list as it is now; called in the thread.
        """
        self._context = context
        self._allowed = allowed
        self._stop, self._stopping = os.pipe()
        self.refused = 0
        self.restarts = 0
        self._start()

    @property
    def is_alive(self) -> bool:
        """Whether handshakes are answered; while they are not, nobody comes in."""
        return self._thread.is_alive()

    def tend(self) -> None:
        """Start the thread again if it has died."""
        if self.is_alive:
            return
        self.restarts += 1
        logger.error("the handshake's thread died and is started again count=%d", self.restarts)
        with suppress(zmq.ZMQError):  # the dead one's address is not free yet: at the next tick
            self._start()

    def close(self) -> None:
        """Stop answering: nobody comes in from here on."""
        os.write(self._stopping, b"x")
        self._thread.join()
        os.close(self._stop)
        os.close(self._stopping)

    def _start(self) -> None:
        socket = self._context.socket(zmq.REP)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            socket.bind(ENDPOINT)
        except zmq.ZMQError:
            socket.close()
            raise
        self._thread = threading.Thread(
            target=self._serve, args=(socket,), name="handshakes", daemon=True
        )
        self._thread.start()

    def _serve(self, socket: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._stop, zmq.POLLIN)
        with socket, suppress(zmq.ContextTerminated):
            while True:
                if self._stop in dict(poller.poll()):
                    return
                self._answer_one(socket)

    def _answer_one(self, socket: zmq.Socket[bytes]) -> None:
        request = socket.recv_multipart()
        try:
            reply = answer(request, self._allowed())
        except _UNREADABLE as error:
            logger.exception("a handshake could not be judged and is refused")
            reply = _reply(request[1] if len(request) > 1 else b"", b"500", _name(error))
        if reply[2] != b"200":
            self._note_refusal(request, reply)
        socket.send_multipart(reply)

    def _note_refusal(self, request: Sequence[bytes], reply: Sequence[bytes]) -> None:
        self.refused += 1
        if self.refused & (self.refused - 1):  # a flood fills no log
            return
        is_key = len(request) == _FIELDS and len(request[6]) == _KEY_BYTES
        logger.warning(
            "handshake refused count=%d address=%s key=%s: %s",
            self.refused,
            request[3].decode(errors="replace") if len(request) == _FIELDS else "",
            request[6].hex() if is_key else "none",
            reply[3].decode(),
        )


def _name(error: BaseException) -> bytes:
    return type(error).__name__.encode()
