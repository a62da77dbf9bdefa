"""Endpoints and sockets of the job bus: which addresses are allowed, which options are set.

Owns the options of ZeroMQ; the loops that use the sockets are in `broker.py`, `worker.py` and
`client.py`.
"""

import ipaddress
from typing import Any

import zmq

from gpu_runner.errors import PoolError
from gpu_runner.wire import MOST_BYTES

_SUN_PATH = 107
"""Bytes of a Unix socket's path, Linux."""
_PING_MS = 2000
_PING_TTL_MS = 8000
_RECONNECT_MS = 20
_MOST_RECONNECT_MS = 250


def check_endpoint(endpoint: str) -> str:
    """Return the endpoint if a broker may listen there.

    Raises:
        PoolError: it is neither ipc nor tcp, its path is too long, or it is not loopback. Peers
            are not authenticated, so whoever reaches the port could run code.
    """
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and rest:
        if len(rest.encode()) > _SUN_PATH:
            msg = f"socket path {rest!r} is longer than {_SUN_PATH} bytes; set TMPDIR=/tmp"
            raise PoolError(msg)
        return endpoint
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not (port.isdigit() or port == "*"):
        msg = f"endpoint {endpoint!r} is neither ipc://PATH nor tcp://127.0.0.1:PORT"
        raise PoolError(msg)
    if not _is_loopback(host):
        msg = (
            f"endpoint {endpoint!r} is not loopback and peers are not authenticated; "
            "use ipc:// or tcp://127.0.0.1 and reach it through an ssh tunnel"
        )
        raise PoolError(msg)
    return endpoint


def router(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """Return a bound ROUTER that tells of unknown peers instead of dropping in silence.

    Raises:
        PoolError: the endpoint is not allowed or cannot be bound.
    """
    check_endpoint(endpoint)
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    _set_common(socket, endpoint)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        msg = f"cannot listen at {endpoint!r}: {error}; is another broker there?"
        raise PoolError(msg) from error
    return socket


def dealer(context: zmq.Context[Any], endpoint: str) -> Any:
    """Return a DEALER of the context's kind that connects, and connects again, by itself.

    It queues for an established connection only: while the broker is away a send fails at once
    instead of piling up messages that would be stale when they arrive.

    Raises:
        PoolError: the endpoint cannot be understood.
    """
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _MOST_RECONNECT_MS)
    _set_common(socket, endpoint)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        msg = f"cannot connect to {endpoint!r}: {error}; expected ipc://PATH or tcp://HOST:PORT"
        raise PoolError(msg) from error
    return socket


def _set_common(socket: zmq.Socket[bytes], endpoint: str) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MOST_BYTES)
    if endpoint.startswith("tcp"):
        # A vanished host is noticed; on ipc the kernel tells, and pings would wake a machine
        # that measures.
        socket.setsockopt(zmq.HEARTBEAT_IVL, _PING_MS)
        socket.setsockopt(zmq.HEARTBEAT_TTL, _PING_TTL_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _PING_TTL_MS)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
