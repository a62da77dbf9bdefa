"""Trying the handshake of an endpoint: is a broker there, is it ours, and are we on its list?"""

import time
from enum import StrEnum

import zmq
from zmq.utils.monitor import parse_monitor_message

from gpu_runner.endpoint import dealer
from gpu_runner.security.keys import Keys


class Answer(StrEnum):
    """What came of a handshake."""

    ADMITTED = "admitted"
    REVOKED = "revoked"
    """The broker is the one whose key we have; ours was struck from its list."""
    REFUSED = "refused"
    """Closed without a word: our key is not on the list, or the broker has another key."""
    NOBODY = "nobody"
    """Nothing answers at the address."""


_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_DISCONNECTED
)
_ADDRESS = "inproc://knock"


def knock(endpoint: str, keys: Keys | None, *, patience_s: float = 5.0) -> Answer:
    """Connect, wait for the end of one handshake, and leave.

    Raises:
        PoolError: the endpoint cannot be understood.
    """
    with zmq.Context() as context, dealer(context, endpoint, keys) as socket:
        socket.monitor(_ADDRESS, _EVENTS)
        with context.socket(zmq.PAIR) as events:
            events.connect(_ADDRESS)
            answer = _answer(events, time.monotonic() + patience_s)
            socket.disable_monitor()
    return answer


def _answer(events: zmq.Socket[bytes], give_up_s: float) -> Answer:
    answer = Answer.NOBODY
    while (left_s := give_up_s - time.monotonic()) > 0:
        if not events.poll(int(left_s * 1000) + 1):
            break
        event = parse_monitor_message(events.recv_multipart())["event"]
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return Answer.ADMITTED
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return Answer.REVOKED
        if event != zmq.EVENT_CONNECTED:
            return Answer.REFUSED
        answer = Answer.REFUSED  # connected, and not a word of a handshake
    return answer
