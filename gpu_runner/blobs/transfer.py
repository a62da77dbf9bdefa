"""Sending and fetching one blob, step by step. No sockets, no clock: the caller has both.

Each keeps at most CREDIT requests on the way and goes by what the server says it has. Answers to
requests from before a `restart` are not listened to, so nothing is sent twice for long.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Callable
from typing import BinaryIO

from gpu_runner.blobs.messages import (
    CHUNK_BYTES,
    CREDIT,
    Answer,
    BlobError,
    Code,
    Get,
    Piece,
    Put,
    Refused,
    Request,
    Standing,
    Stat,
)

Sends = list[tuple[Request, bytes]]
Numbers = Callable[[], int]

_MOST_BEGINNINGS = 3
"""Times that a blob is begun anew because what had arrived was not right."""


def numbers() -> Numbers:
    """Return a source of request numbers; 0 is the answer to what could not be read."""
    return itertools.count(1).__next__


class Upload:
    """A blob on its way to the server."""

    def __init__(self, digest: str, size_bytes: int, source: BinaryIO, rids: Numbers) -> None:
        """Begin; nothing has been asked yet.

        Args:
            digest: of the content.
            size_bytes: of the content.
            source: can be read anywhere.
            rids: numbers no other request of this connection has.
        """
        self._digest = digest
        self._size_bytes = size_bytes
        self._source = source
        self._rids = rids
        self._waiting: set[int] = set()
        self._next: int | None = None
        """Offset of the next chunk to send; None: the server has not said where to go on."""
        self._arrived = 0
        self._beginnings = 0
        self.sent_bytes = 0
        self.is_done = False

    def restart(self) -> None:
        """Forget what is on the way and ask where to go on."""
        self._waiting.clear()
        self._next = None

    def requests(self) -> Sends:
        """Return what can be sent now."""
        if self.is_done:
            return []
        if self._next is None:
            return [] if self._waiting else [(Stat(rid=self._new(), digest=self._digest), b"")]
        sends: Sends = []
        while len(self._waiting) < CREDIT and self._next < self._size_bytes:
            self._source.seek(self._next)
            content = self._source.read(min(CHUNK_BYTES, self._size_bytes - self._next))
            if not content:
                raise BlobError(f"the file of blob {self._digest} has become shorter; send it anew")
            sends.append((self._put(self._next), content))
            self._next += len(content)
            self.sent_bytes += len(content)
        if not self._waiting:  # every byte is there already, or there is none: have it verified
            sends.append((self._put(self._size_bytes), b""))
        return sends

    def receive(self, answer: Answer) -> None:
        """Take in an answer.

        Raises:
            BlobError: the server refuses the blob.
        """
        if answer.rid not in self._waiting:
            return
        self._waiting.discard(answer.rid)
        if isinstance(answer, Refused):
            self._receive_refusal(answer)
        elif isinstance(answer, Standing):
            self.is_done = answer.is_complete
            if self._next is None or answer.offset < self._arrived:
                self.restart()
                self._next = answer.offset
            elif answer.offset == self._arrived and not answer.is_complete:
                self.restart()  # it did not take the chunk: another place is wanted
            self._arrived = answer.offset

    def _receive_refusal(self, refused: Refused) -> None:
        self._beginnings += 1
        if refused.code is not Code.CORRUPT or self._beginnings >= _MOST_BEGINNINGS:
            raise BlobError(f"blob {self._digest} is refused ({refused.code}): {refused.message}")
        self.restart()
        self._arrived = 0

    def _put(self, offset: int) -> Put:
        size_bytes = self._size_bytes
        return Put(rid=self._new(), digest=self._digest, size_bytes=size_bytes, offset=offset)

    def _new(self) -> int:
        """Return the number of a request whose answer is waited for."""
        rid = self._rids()
        self._waiting.add(rid)
        return rid


class Download:
    """A blob on its way here, into a file that may hold its beginning already."""

    def __init__(self, digest: str, target: BinaryIO, rids: Numbers) -> None:
        """Begin where the file ends.

        Args:
            digest: of the content.
            target: can be read and written; what it holds is taken for the blob's beginning.
            rids: numbers no other request of this connection has.
        """
        self._digest = digest
        self._target = target
        self._rids = rids
        self._waiting: deque[tuple[int, int]] = deque()
        """Request number and offset, oldest first."""
        self._size_bytes: int | None = None
        self._beginnings = 0
        self._hashed = hashlib.sha256()
        self._arrived = 0
        target.seek(0)
        while part := target.read(CHUNK_BYTES):
            self._hashed.update(part)
            self._arrived += len(part)
        self._next = self._arrived
        self.is_done = False

    def restart(self) -> None:
        """Forget what is on the way and ask for it again."""
        self._waiting.clear()
        self._next = self._arrived

    def requests(self) -> Sends:
        """Return what can be sent now."""
        sends: Sends = []
        credit = 1 if self._size_bytes is None else CREDIT
        while not self.is_done and len(self._waiting) < credit and self._wants_more():
            get = Get(rid=self._rids(), digest=self._digest, offset=self._next)
            self._waiting.append((get.rid, self._next))
            self._next += CHUNK_BYTES
            sends.append((get, b""))
        return sends

    def receive(self, answer: Answer, content: bytes) -> None:
        """Take in an answer.

        Raises:
            BlobError: the server does not have the blob, or what it sends is not the blob.
        """
        if not self._waiting or answer.rid not in {rid for rid, _ in self._waiting}:
            return
        if isinstance(answer, Refused):
            self._receive_refusal(answer)
            return
        if answer.rid != self._waiting[0][0] or not isinstance(answer, Piece):
            self.restart()  # an earlier one was lost
            return
        self._waiting.popleft()
        if answer.offset != self._arrived:
            self.restart()
            return
        self._size_bytes = answer.size_bytes
        self._target.seek(self._arrived)
        self._target.write(content)
        self._hashed.update(content)
        self._arrived += len(content)
        if self._arrived == answer.size_bytes:
            self._finish()
        elif not content or self._arrived > answer.size_bytes:
            self._begin_anew("its size is not what the server says")

    def _finish(self) -> None:
        if self._hashed.hexdigest() == self._digest:
            self.is_done = True
            self._waiting.clear()
            return
        self._begin_anew("what arrived is not what its digest says")

    def _receive_refusal(self, refused: Refused) -> None:
        if refused.code is Code.MALFORMED and self._arrived:
            self._begin_anew(refused.message)  # what was here is longer than the blob
            return
        raise BlobError(f"blob {self._digest} is refused ({refused.code}): {refused.message}")

    def _begin_anew(self, why: str) -> None:
        self._beginnings += 1
        if self._beginnings >= _MOST_BEGINNINGS:
            raise BlobError(f"blob {self._digest} cannot be fetched: {why}, each time")
        self._target.seek(0)
        self._target.truncate()
        self._hashed = hashlib.sha256()
        self._arrived, self._size_bytes = 0, None
        self.restart()

    def _wants_more(self) -> bool:
        return self._size_bytes is None or self._next < self._size_bytes
