"""Endpoints and sockets of the job bus: which addresses are allowed, which options are set.

Owns the options of ZeroMQ; the loops that use the sockets are in `broker.py`, `worker.py` and
`client.py`.
"""

import ipaddress
import resource
from typing import Any

import zmq

from gpu_runner.errors import PoolError
from gpu_runner.security.keys import KeyPair, Keys
from gpu_runner.security.zap import DOMAIN
from gpu_runner.wire import MOST_BYTES

_SUN_PATH = 107
"""Bytes of a Unix socket's path, Linux."""
_QUEUED = 1000
_PING_MS = 2000
_PING_TTL_MS = 8000
_RECONNECT_MS = 20
_MOST_RECONNECT_MS = 250
_SEAL_BYTES = 64
"""What encryption adds to a frame, and some."""
_HANDSHAKE_MS = 3000
"""A connection that has not proved itself by then is closed; the default is ten times as long."""


def check_endpoint(endpoint: str, *, has_keys: bool = False) -> str:
    """Return the endpoint if a broker may listen there.

    Args:
        endpoint: where to listen.
        has_keys: whether peers have to prove an enrolled key.

    Raises:
        PoolError: it is neither ipc nor tcp, its path is too long, or it is not loopback while
            peers are not authenticated, so that whoever reaches the port could run code.
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
    if not (has_keys or _is_loopback(host)):
        msg = (
            f"endpoint {endpoint!r} is not loopback and peers are not authenticated; "
            "give it keys (`kernelpilot-runner keys new`, then --keys DIR), "
            "or use ipc:// or tcp://127.0.0.1 and reach it through an ssh tunnel"
        )
        raise PoolError(msg)
    return endpoint


def router(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    pair: KeyPair | None = None,
    *,
    most_bytes: int = MOST_BYTES,
    most_queued: int = _QUEUED,
) -> zmq.Socket[bytes]:
    """Return a bound ROUTER that tells of unknown peers instead of dropping in silence.

    Args:
        context: with a pair, its handshakes must be answered already (`security/zap.py`).
        endpoint: where to listen.
        pair: what it proves itself by; peers then have to be on the allow-list.
        most_bytes: largest frame.
        most_queued: messages of one peer that wait in either direction.

    Raises:
        PoolError: the endpoint is not allowed or cannot be bound.
    """
    check_endpoint(endpoint, has_keys=pair is not None)
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    require_keys(socket, pair)
    _set_common(socket, endpoint, most_bytes + (_SEAL_BYTES if pair else 0), most_queued)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        msg = f"cannot listen at {endpoint!r}: {error}; is another broker there?"
        raise PoolError(msg) from error
    return socket


def dealer(
    context: zmq.Context[Any],
    endpoint: str,
    keys: Keys | None = None,
    *,
    most_bytes: int = MOST_BYTES,
    most_queued: int = _QUEUED,
) -> Any:
    """Return a DEALER of the context's kind that connects, and connects again, by itself.

    It queues for an established connection only: while the broker is away a send fails at once
    instead of piling up messages that would be stale when they arrive.

    Args:
        context: of which it is.
        endpoint: the broker's.
        keys: what it proves itself by, and what the broker must prove.
        most_bytes: largest frame.
        most_queued: messages that wait in either direction.

    Raises:
        PoolError: the endpoint cannot be understood.
    """
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _MOST_RECONNECT_MS)
    present_keys(socket, keys)
    _set_common(socket, endpoint, most_bytes + (_SEAL_BYTES if keys else 0), most_queued)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        msg = f"cannot connect to {endpoint!r}: {error}; expected ipc://PATH or tcp://HOST:PORT"
        raise PoolError(msg) from error
    return socket


def require_keys(socket: zmq.Socket[bytes], pair: KeyPair | None) -> None:
    """Let a socket that will listen prove itself and ask its peers for enrolled keys.

    Args:
        socket: of a context whose handshakes are answered; not bound yet.
        pair: its own; None: it asks for nothing, which is right on loopback only.
    """
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    if pair is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        # Without it a server whose list cannot be asked lets everybody in.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def present_keys(socket: Any, keys: Keys | None) -> None:
    """Let a socket that will connect prove itself and check whom it reaches; None: neither."""
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.broker)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.pair.public_bytes)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.pair.secret)


def allow_many_connections() -> None:
    """Let this process hold as many descriptors as the system allows it.

    Strangers who connect and say nothing hold one each until their handshake is overdue.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _set_common(
    socket: zmq.Socket[bytes], endpoint: str, most_bytes: int, most_queued: int
) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, most_queued)
    socket.setsockopt(zmq.RCVHWM, most_queued)
    socket.setsockopt(zmq.MAXMSGSIZE, most_bytes)
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
