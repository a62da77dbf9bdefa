"""Sending blobs to a server and fetching them, over lines and processes that come and go.

One connection, used by one thread. What was interrupted goes on where it stopped: the server knows
how much it has of an upload, the file beside the target how much has been fetched.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import zmq

from gpu_runner.blobs.messages import (
    CREDIT,
    MOST_FRAME_BYTES,
    MOST_KEPT,
    Answer,
    BlobError,
    Keep,
    Kept,
    Refused,
    Request,
    Standing,
    Stat,
    encode,
    parse_answer,
)
from gpu_runner.blobs.transfer import Download, Upload, numbers
from gpu_runner.endpoint import dealer
from gpu_runner.security.keys import load_keys

_READ_BYTES = 1024 * 1024
_MOST_RETRY_S = 10.0
_UPLOAD_RETRY_S = 1.0


def digest_of_file(path: Path) -> tuple[str, int]:
    """Return a file's sha256 and size in bytes.

    Raises:
        BlobError: it cannot be read.
    """
    hashed, size_bytes = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while part := file.read(_READ_BYTES):
                hashed.update(part)
                size_bytes += len(part)
    except OSError as error:
        raise BlobError(f"cannot read {path}: {error.strerror}") from error
    return hashed.hexdigest(), size_bytes


class BlobClient:
    """A connection to a blob server; `with BlobClient(endpoint) as blobs`."""

    def __init__(
        self,
        endpoint: str,
        *,
        keys: Path | None = None,
        patience_s: float = 120.0,
        retry_s: float = 5.0,
    ) -> None:
        """Connect.

        Args:
            endpoint: the blob server's (`server.blob_endpoint` of the broker's).
            keys: folder of this client's pair and the broker's public key, where it wants them.
            patience_s: without an answer for so long a call ends with an error.
            retry_s: without an answer for so long it asks again, then with growing pauses.

        Raises:
            PoolError: the endpoint cannot be understood, or the keys cannot be used.
        """
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._retry_s = retry_s
        proofs = load_keys(keys) if keys else None
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = dealer(
            self._context, endpoint, proofs, most_bytes=MOST_FRAME_BYTES, most_queued=2 * CREDIT
        )
        self._rids = numbers()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

    def put(self, path: Path) -> str:
        """Send a file, or the rest of it, and return its digest; if it is new there.

        Raises:
            BlobError: it is refused, cannot be read, or the server does not answer.
        """
        digest, size_bytes = digest_of_file(path)
        with path.open("rb") as source:
            upload = Upload(digest, size_bytes, source, self._rids)
            # Asking costs an upload nothing: the question waits behind what is on the line.
            retry_s = min(_UPLOAD_RETRY_S, self._retry_s)
            self._carry(upload, lambda answer, _: upload.receive(answer), retry_s)
        return digest

    def get(self, digest: str, path: Path) -> None:
        """Fetch a blob into a file, which is complete and verified or not there.

        What has arrived stays in `PATH.DIGEST.part` when this is interrupted.

        Raises:
            BlobError: it is not there, cannot be written, or the server does not answer.
        """
        part = path.with_name(f"{path.name}.{digest[:16]}.part")
        try:
            with _opened(part) as target:
                download = Download(digest, target, self._rids)
                self._carry(download, download.receive, self._retry_s)
                target.flush()
                os.fsync(target.fileno())
            part.replace(path)
        except OSError as error:
            raise BlobError(f"cannot write {path}: {error.strerror}") from error

    def has(self, digest: str) -> bool:
        """Whether the server has a blob, complete.

        Raises:
            BlobError: it does not answer, or refuses to.
        """
        answer = self._ask(Stat(rid=self._rids(), digest=digest))
        return isinstance(answer, Standing) and answer.is_complete

    def keep(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Say that blobs are in use, and return those that the server does not have.

        Raises:
            BlobError: it does not answer, or refuses to.
        """
        wanted = tuple(digests)
        missing: list[str] = []
        for begin in range(0, len(wanted), MOST_KEPT):
            part = wanted[begin : begin + MOST_KEPT]
            answer = self._ask(Keep(rid=self._rids(), digests=part))
            missing += answer.missing if isinstance(answer, Kept) else ()
        return tuple(missing)

    def _carry(
        self,
        transfer: Upload | Download,
        receive: Callable[[Answer, bytes], None],
        least_s: float,
    ) -> None:
        """Send what the transfer wants and give it the answers until it is done."""
        heard_s, retry_s = time.monotonic(), least_s
        waiting: list[tuple[Request, bytes]] = []
        while not transfer.is_done:
            waiting, received = self._exchange([*waiting, *transfer.requests()], retry_s)
            if received is not None:
                heard_s, retry_s = time.monotonic(), least_s
                receive(*received)
                continue
            if time.monotonic() - heard_s > self._patience_s:
                raise self._silent()
            transfer.restart()
            waiting, retry_s = [], min(2 * retry_s, _MOST_RETRY_S)

    def _ask(self, request: Request) -> Answer:
        """Return the answer to one request, which is repeated until it comes."""
        give_up_s, retry_s = time.monotonic() + self._patience_s, self._retry_s
        while True:
            _, received = self._exchange([(request, b"")], retry_s)
            if received is not None and received[0].rid == request.rid:
                if isinstance(received[0], Refused):
                    raise BlobError(f"refused ({received[0].code}): {received[0].message}")
                return received[0]
            if time.monotonic() > give_up_s:
                raise self._silent()
            retry_s = min(2 * retry_s, _MOST_RETRY_S)

    def _exchange(
        self, waiting: list[tuple[Request, bytes]], wait_s: float
    ) -> tuple[list[tuple[Request, bytes]], tuple[Answer, bytes] | None]:
        """Send in order what can be sent; return the rest, and the next answer if one comes.

        Raises:
            BlobError: the server could not read what was sent, or speaks another protocol.
        """
        give_up_s = time.monotonic() + min(wait_s, self._patience_s)
        while True:
            waiting = self._send_all(waiting)
            left_ms = int(max(0.0, give_up_s - time.monotonic()) * 1000) + 1
            ready = self._socket.poll(left_ms, zmq.POLLIN | (zmq.POLLOUT if waiting else 0))
            if ready & zmq.POLLIN:
                return waiting, self._received()
            if not ready:
                return waiting, None

    def _send_all(self, waiting: list[tuple[Request, bytes]]) -> list[tuple[Request, bytes]]:
        for done, (request, content) in enumerate(waiting):
            try:
                self._socket.send_multipart(encode(request, content), zmq.NOBLOCK)
            except zmq.Again:  # not connected, or its queue is full
                return waiting[done:]
        return []

    def _received(self) -> tuple[Answer, bytes]:
        parsed = parse_answer(self._socket.recv_multipart())
        if isinstance(parsed, str):
            raise BlobError(f"{self._endpoint} is no blob server of this version: {parsed}")
        if isinstance(parsed[0], Refused) and parsed[0].rid == 0:
            raise BlobError(f"the server cannot read what was sent: {parsed[0].message}")
        return parsed

    def _silent(self) -> BlobError:
        return BlobError(
            f"no blob server answered at {self._endpoint} for {self._patience_s:g} s; start the "
            "broker with --blobs DIR, and enrol this key where it wants keys"
        )


@contextmanager
def _opened(part: Path) -> Iterator[Any]:
    """Open a file for reading and writing, made when missing, kept when not."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+b") as file:
        yield file
