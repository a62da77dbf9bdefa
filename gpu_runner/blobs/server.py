"""The blob server: one ROUTER around a Store, in a thread and a ZeroMQ context of its own.

Nothing of it shares a socket, an I/O thread or a queue with the job bus, so that an upload delays
no heartbeat.
"""

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from gpu_runner.blobs.messages import (
    CREDIT,
    MOST_FRAME_BYTES,
    Answer,
    Code,
    Get,
    Keep,
    Kept,
    Put,
    Refused,
    Request,
    Stat,
    encode,
    parse_request,
)
from gpu_runner.blobs.store import Store, StorePlan
from gpu_runner.endpoint import router
from gpu_runner.errors import PoolError
from gpu_runner.security.gate import Gate, open_gate
from gpu_runner.security.limits import Allowance

logger = logging.getLogger(__name__)

_MOST_A_TURN = 64
_TICK_S = 1.0
_COLLECT_S = 300.0
_QUEUED = 2 * CREDIT
_ALLOWANCE = Allowance(
    messages_per_s=20_000.0,
    burst_messages=40_000.0,
    bytes_per_s=4.0 * 1024**3,
    burst_bytes=8.0 * 1024**3,
)
_PORT = re.compile(r"(?P<host>tcp://.+):(?P<port>\d+)")


def blob_endpoint(endpoint: str) -> str:
    """Return where the blobs of a broker are: the next port, or a socket file beside its own.

    Raises:
        PoolError: the broker's endpoint has no port of its own.
    """
    if endpoint.startswith("ipc://"):
        return f"{endpoint}.blobs"
    match = _PORT.fullmatch(endpoint)
    if match is None:
        raise PoolError(f"blobs need a broker's endpoint with a port, and {endpoint!r} has none")
    return f"{match['host']}:{int(match['port']) + 1}"


class BlobServer:
    """Serves one folder of blobs until it is told to stop."""

    def __init__(
        self, endpoint: str, folder: Path, plan: StorePlan | None = None, keys: Path | None = None
    ) -> None:
        """Listen.

        Args:
            endpoint: where.
            folder: of the blobs.
            plan: what it may hold.
            keys: of the broker, whose list of peers is this one's too.

        Raises:
            PoolError: the endpoint is not allowed or taken, or folder or keys cannot be used.
        """
        try:
            self._store = Store(folder, plan or StorePlan())
        except OSError as error:
            raise PoolError(f"cannot keep blobs in {folder}: {error}") from error
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        gate: Gate | None = None
        try:
            gate = open_gate(self._context, keys, _ALLOWANCE)
            self._gate = gate
            self._socket = router(
                self._context,
                endpoint,
                gate.pair,
                most_bytes=MOST_FRAME_BYTES,
                most_queued=_QUEUED,
            )
        except PoolError:
            if gate is not None:
                gate.close()
            self._context.term()
            raise

    @property
    def endpoint(self) -> str:
        """Where it listens, with the port that was chosen for `tcp://127.0.0.1:*`."""
        bound = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        return bound.rstrip(b"\0").decode()

    def serve(self, stop: int) -> None:
        """Serve until the descriptor `stop` is readable; close the socket then."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(stop, zmq.POLLIN)
        logger.info("blobs are served endpoint=%s", self.endpoint)
        tick_s = collect_s = time.monotonic()
        try:
            while True:
                left_s = max(0.0, tick_s - time.monotonic())
                ready = dict(poller.poll(int(left_s * 1000) + 1))
                if stop in ready:
                    return
                if self._socket in ready:
                    self._receive_waiting()
                if time.monotonic() >= tick_s:
                    self._gate.tick()
                    tick_s = time.monotonic() + _TICK_S
                if time.monotonic() >= collect_s:
                    self._collect()
                    collect_s = time.monotonic() + _COLLECT_S
        finally:
            self._socket.close()
            self._gate.close()
            self._context.term()
            self._store.close()

    def _collect(self) -> None:
        try:
            collected = self._store.collect(now_s=time.time())
        except OSError as error:
            logger.error("blobs cannot be collected: %s", error)  # noqa: TRY400 - the text says it all
            return
        if collected:
            logger.info("blobs collected count=%d", len(collected))

    def _receive_waiting(self) -> None:
        for _ in range(_MOST_A_TURN):
            try:
                received = self._gate.receive(self._socket)
            except zmq.Again:
                return
            if received is not None:
                self._answer(received[0], received[1:])

    def _answer(self, peer: bytes, frames: list[bytes]) -> None:
        parsed = parse_request(frames)
        if isinstance(parsed, str):
            self._send(peer, Refused(rid=0, code=Code.MALFORMED, message=parsed))
            return
        request, content = parsed
        if why := self._gate.objection(peer, request.kind, None):
            self._send(peer, Refused(rid=request.rid, code=Code.FORBIDDEN, message=why))
            return
        self._send(peer, *self._done(request, content, self._gate.name_of(peer)))

    def _done(self, request: Request, content: bytes, owner: str) -> tuple[Answer, bytes]:
        match request:
            case Stat():
                return self._store.stat(request, owner), b""
            case Put():
                return self._store.put(request, owner, content), b""
            case Get():
                return self._store.get(request)
            case Keep():
                missing = self._store.keep(request.digests)
                return Kept(rid=request.rid, missing=missing), b""

    def _send(self, peer: bytes, answer: Answer, content: bytes = b"") -> None:
        """Send without waiting; who is gone, or reads too slowly, asks again."""
        if not self._gate.reaches(peer):
            return
        try:
            self._socket.send_multipart([peer, *encode(answer, content)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in {zmq.EHOSTUNREACH, zmq.EAGAIN}:
                raise
            logger.debug("not delivered kind=%s: %s", answer.kind, error)


@contextmanager
def blobs_beside(
    endpoint: str, folder: Path | None, keys: Path | None = None, plan: StorePlan | None = None
) -> Iterator[None]:
    """Serve the blobs of a broker in a thread while the block runs; nothing without a folder.

    Should the thread end before, the process is told to end too: whoever keeps it alive starts it
    again, with everything that has arrived.

    Raises:
        PoolError: see `BlobServer`.
    """
    if folder is None:
        yield
        return
    server = BlobServer(blob_endpoint(endpoint), folder, plan, keys)
    stop, stopping = os.pipe()
    is_wanted = threading.Event()
    is_wanted.set()

    def serve() -> None:
        try:
            server.serve(stop)
        finally:
            if is_wanted.is_set():
                logger.critical("blobs are not served any more; the broker ends")
                os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=serve, name="blobs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_wanted.clear()
        os.write(stopping, b"x")
        thread.join()
        os.close(stop)
        os.close(stopping)
