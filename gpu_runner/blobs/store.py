"""Blobs on disk: complete or partial, each named by its digest and whoever put it.

`whole/DIGEST.OWNER` is complete and verified; `partial/DIGEST.OWNER` is what has arrived of one. A
partial is its owner's: nobody can spoil what another sends. No sockets; one thread uses it.
"""

import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_runner.blobs.garbage import Entry, garbage
from gpu_runner.blobs.messages import (
    CHUNK_BYTES,
    Answer,
    Code,
    Get,
    Piece,
    Put,
    Refused,
    Standing,
    Stat,
)

logger = logging.getLogger(__name__)

_MOST_OPEN = 64
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class StorePlan:
    """What a store may hold, and for how long."""

    quota_bytes: int = 64 * 1024**3
    """Of one owner: complete blobs that it put first, and what it is sending."""
    most_bytes: int = 256 * 1024**3
    """Of all complete blobs; beyond it the ones unused for longest are collected."""
    ttl_s: float = 14 * 86_400.0
    """A blob that nobody put, fetched or kept for so long is collected."""
    partial_ttl_s: float = 86_400.0


@dataclass(slots=True)
class _Partial:
    """A blob that is arriving; its file is open."""

    descriptor: int
    offset: int
    hashed: Any = field(repr=False)


class Store:
    """The files of one server."""

    def __init__(self, folder: Path, plan: StorePlan) -> None:
        """Look at what is there.

        Raises:
            OSError: the folder cannot be made or read.
        """
        self._plan = plan
        self._whole = folder / "whole"
        self._partials = folder / "partial"
        for place in (self._whole, self._partials):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._open: OrderedDict[str, _Partial] = OrderedDict()
        self._announced: dict[str, int] = {}
        """Sizes of partials that their owners have named since we started."""
        self._held: dict[str, tuple[str, int]] = {}
        """Of complete blobs, by digest: owner and size."""
        for path in self._whole.iterdir():
            digest, _, owner = path.name.partition(".")
            if owner:
                self._held[digest] = (owner, path.stat().st_size)

    def close(self) -> None:
        """Close every file; what has arrived stays."""
        while self._open:
            os.close(self._open.popitem()[1].descriptor)

    def stat(self, asked: Stat, owner: str) -> Answer:
        """Say how much of a blob there is; of a partial one, of this owner's."""
        return self._standing(asked.rid, asked.digest, owner)

    def put(self, asked: Put, owner: str, content: bytes) -> Answer:
        """Take bytes; the answer says where to go on.

        Bytes for another place than that are not taken, so a repeated or lost chunk does no harm.
        """
        name = f"{asked.digest}.{owner}"
        end = asked.offset + len(content)
        if end > asked.size_bytes or (not content and asked.offset != asked.size_bytes):
            return _refused(asked.rid, Code.MALFORMED, "bytes beyond the size, or none at all")
        if asked.digest in self._held:
            return self._standing(asked.rid, asked.digest, owner)
        if self._announced.get(name) != asked.size_bytes:
            self._announced[name] = asked.size_bytes
            if self._used_bytes(owner) > self._plan.quota_bytes:
                del self._announced[name]
                said = f"{owner!r} may hold {self._plan.quota_bytes} bytes and this would exceed it"
                return _refused(asked.rid, Code.QUOTA, said)
        try:
            return self._take(asked, name, content)
        except OSError as error:
            self._close_partial(name)
            logger.error("bytes cannot be kept: %s", error)  # noqa: TRY400 - the text says it all
            return _refused(
                asked.rid, Code.UNSTORED, f"the server cannot keep it: {error.strerror}"
            )

    def get(self, asked: Get) -> tuple[Answer, bytes]:
        """Return bytes of a complete blob, at most a chunk."""
        owner, size_bytes = self._held.get(asked.digest, ("", 0))
        if not owner:
            return _unknown(asked.rid, asked.digest), b""
        if asked.offset > size_bytes:
            said = f"the blob has {size_bytes} bytes"
            return _refused(asked.rid, Code.MALFORMED, said), b""
        path = self._whole / f"{asked.digest}.{owner}"
        try:
            with path.open("rb") as file:
                content = os.pread(file.fileno(), CHUNK_BYTES, asked.offset)
            if asked.offset == 0:
                os.utime(path)
        except OSError as error:
            logger.error("a blob cannot be read: %s", error)  # noqa: TRY400 - the text says it all
            return _unknown(asked.rid, asked.digest), b""
        piece = Piece(
            rid=asked.rid, digest=asked.digest, offset=asked.offset, size_bytes=size_bytes
        )
        return piece, content

    def keep(self, digests: Collection[str]) -> tuple[str, ...]:
        """Let the time of these blobs begin anew; return those that are not there."""
        for digest in digests:
            if digest in self._held:
                os.utime(self._whole / f"{digest}.{self._held[digest][0]}")
        return tuple(digest for digest in digests if digest not in self._held)

    def collect(self, *, now_s: float, live: Collection[str] = ()) -> tuple[str, ...]:
        """Remove what `garbage` names, and partials that nobody goes on with; return digests.

        Args:
            now_s: wall clock.
            live: digests that must stay.
        """
        entries = [
            Entry(digest=digest, size_bytes=size, used_s=self._path(digest).stat().st_mtime)
            for digest, (_, size) in self._held.items()
        ]
        plan = self._plan
        doomed = garbage(
            entries, live=live, now_s=now_s, ttl_s=plan.ttl_s, most_bytes=plan.most_bytes
        )
        for entry in doomed:
            self._path(entry.digest).unlink()
            del self._held[entry.digest]
        for path in self._partials.iterdir():
            if now_s - path.stat().st_mtime > plan.partial_ttl_s:
                self._drop_partial(path.name)
        return tuple(entry.digest for entry in doomed)

    def _take(self, asked: Put, name: str, content: bytes) -> Answer:
        partial = self._partial(name)
        if asked.offset != partial.offset:
            if partial.offset > asked.size_bytes:
                return self._corrupt(asked, name)
            return self._standing(asked.rid, asked.digest, _owner(name))
        view = memoryview(content)
        while view:
            written = os.pwrite(partial.descriptor, view, partial.offset)
            partial.hashed.update(view[:written])
            partial.offset += written
            view = view[written:]
        if partial.offset < asked.size_bytes:
            return _standing(asked.rid, asked.digest, partial.offset)
        if partial.hashed.hexdigest() != asked.digest:
            return self._corrupt(asked, name)
        self._finish(asked, name, partial)
        return _standing(asked.rid, asked.digest, asked.size_bytes, is_complete=True)

    def _finish(self, asked: Put, name: str, partial: _Partial) -> None:
        os.fsync(partial.descriptor)
        (self._partials / name).rename(self._whole / name)
        folder = os.open(self._whole, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._close_partial(name)
        self._announced.pop(name, None)
        self._held[asked.digest] = (_owner(name), asked.size_bytes)

    def _corrupt(self, asked: Put, name: str) -> Answer:
        self._drop_partial(name)
        said = f"what arrived is not {asked.digest}; send it again from its beginning"
        return _refused(asked.rid, Code.CORRUPT, said)

    def _standing(self, rid: int, digest: str, owner: str) -> Standing:
        if digest in self._held:
            return _standing(rid, digest, self._held[digest][1], is_complete=True)
        name = f"{digest}.{owner}"
        if name in self._open:
            return _standing(rid, digest, self._open[name].offset)
        try:
            return _standing(rid, digest, (self._partials / name).stat().st_size)
        except OSError:
            return _standing(rid, digest, 0)

    def _partial(self, name: str) -> _Partial:
        """Return an open partial; of one from before a restart every byte is hashed again."""
        known = self._open.get(name)
        if known is not None:
            self._open.move_to_end(name)
            return known
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._partials / name, flags, 0o600)
        hashed, offset = hashlib.sha256(), 0
        try:
            while part := os.pread(descriptor, _READ_BYTES, offset):
                hashed.update(part)
                offset += len(part)
        except OSError:
            os.close(descriptor)
            raise
        partial = self._open[name] = _Partial(descriptor, offset, hashed)
        if len(self._open) > _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1].descriptor)
        return partial

    def _close_partial(self, name: str) -> None:
        partial = self._open.pop(name, None)
        if partial is not None:
            os.close(partial.descriptor)

    def _drop_partial(self, name: str) -> None:
        self._close_partial(name)
        self._announced.pop(name, None)
        (self._partials / name).unlink(missing_ok=True)

    def _used_bytes(self, owner: str) -> int:
        """What an owner holds and has announced; of older partials, what is on disk."""
        held = sum(size for who, size in self._held.values() if who == owner)
        announced = sum(size for name, size in self._announced.items() if _owner(name) == owner)
        older = sum(
            path.stat().st_size
            for path in self._partials.iterdir()
            if _owner(path.name) == owner and path.name not in self._announced
        )
        return held + announced + older

    def _path(self, digest: str) -> Path:
        return self._whole / f"{digest}.{self._held[digest][0]}"


def _owner(name: str) -> str:
    return name.partition(".")[2]


def _standing(rid: int, digest: str, offset: int, *, is_complete: bool = False) -> Standing:
    return Standing(rid=rid, digest=digest, offset=offset, is_complete=is_complete)


def _refused(rid: int, code: Code, message: str) -> Refused:
    return Refused(rid=rid, code=code, message=message)


def _unknown(rid: int, digest: str) -> Refused:
    said = f"blob {digest} is not there: nobody has put it, or it was collected"
    return _refused(rid, Code.UNKNOWN, said)
