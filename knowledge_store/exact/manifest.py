"""Which parts make up the index: one small file, replaced as a whole.

Readers see the parts of the old manifest or of the new one, and parts never change; so a reader
needs no lock and a killed writer leaves nothing but folders that no manifest names. The manifest
ends in its own checksum and holds that of every file. Loaded by one-shot searches.
"""

from __future__ import annotations

import os
import zlib

from knowledge_store.exact.errors import IndexCorrupt, IndexMissing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME = "MANIFEST"
_VERSION = "exact 2"
_PIECE = 1 << 20


class Stamp:
    """What a file was when it was written."""

    __slots__ = ("checksum", "mtime_ns", "size")

    def __init__(self, size: int, mtime_ns: int, checksum: int) -> None:
        self.size = size
        self.mtime_ns = mtime_ns
        self.checksum = checksum


class Listed:
    """A part as the manifest lists it."""

    __slots__ = ("dead", "name", "stamps")

    def __init__(self, name: str, stamps: Mapping[str, Stamp], dead: Iterable[int] = ()) -> None:
        self.name = name
        self.stamps = stamps
        self.dead = frozenset(dead)
        """Positions of pulls that were changed or dropped since."""


class Manifest:
    """The parts of the index and the revision of the truth that they hold."""

    __slots__ = ("parts", "revision")

    def __init__(self, revision: int, parts: Iterable[Listed]) -> None:
        self.revision = revision
        self.parts = tuple(parts)


def read(folder: str) -> Manifest:
    """Read the manifest of an index.

    Raises:
        IndexMissing: there is none.
        IndexCorrupt: it is not what was written, or of another version.
    """
    path = os.path.join(folder, NAME)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IndexMissing(
            f"nothing is indexed in {folder}; run `kernelpilot knowledge build`"
        ) from error
    try:
        raw = b"".join(iter(lambda: os.read(descriptor, _PIECE), b""))
    finally:
        os.close(descriptor)
    body, _, checksum = raw.rstrip(b"\n").rpartition(b"\n")
    try:
        return _parsed(body, int(checksum, 16))
    except (ValueError, IndexError) as error:
        raise IndexCorrupt(
            f"{path} is damaged: {error}; run `kernelpilot knowledge update` to build it again"
        ) from error


def _parsed(body: bytes, checksum: int) -> Manifest:
    if checksum != zlib.crc32(body):
        raise ValueError("its checksum differs")
    lines = body.decode().split("\n")
    if lines[0] != _VERSION:
        raise ValueError(f"it is of version {lines[0]!r}, this program reads {_VERSION!r}")
    parts: list[Listed] = []
    for line in lines[2:]:
        words = line.split(" ")
        stamps = {}
        for at in range(1, 13, 4):
            size, mtime_ns, checksum = map(int, words[at + 1 : at + 4])
            stamps[words[at]] = Stamp(size, mtime_ns, checksum)
        parts.append(Listed(words[0], stamps, map(int, words[13:])))
    return Manifest(int(lines[1]), parts)


def write(folder: str, manifest: Manifest) -> None:
    """Put a manifest in the place of the one before; it is on disk when this returns."""
    lines = [_VERSION, str(manifest.revision)]
    for part in manifest.parts:
        words: list[object] = [part.name]
        for name, stamp in part.stamps.items():
            words += [name, stamp.size, stamp.mtime_ns, stamp.checksum]
        lines.append(" ".join(map(str, [*words, *sorted(part.dead)])))
    body = "\n".join(lines).encode()
    path = os.path.join(folder, NAME)
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, body + f"\n{zlib.crc32(body):08x}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(f"{path}.new", path)
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Put the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stamp_of(path: str) -> Stamp:
    """Return the stamp of a file as it is now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        checksum = 0
        while piece := os.read(descriptor, _PIECE):
            checksum = zlib.crc32(piece, checksum)
        status = os.fstat(descriptor)
        return Stamp(status.st_size, status.st_mtime_ns, checksum)
    finally:
        os.close(descriptor)


def check(folder: str, part: Listed, *, fully: bool = False) -> bool:
    """Compare the files of a part with their stamps; read them where the time of one differs.

    A file of another time that is the same, such as a copy, gets a new stamp in memory.

    Returns:
        Whether there was one, so that whoever may write can keep the new stamp.

    Raises:
        IndexCorrupt: a file is not what was written.
        FileNotFoundError: a file is gone, with its part or alone.
    """
    has_new_stamp = False
    for name, stamp in part.stamps.items():
        path = os.path.join(folder, part.name, name)
        status = os.stat(path)
        if status.st_size == stamp.size and status.st_mtime_ns == stamp.mtime_ns and not fully:
            continue
        now = stamp_of(path) if status.st_size == stamp.size else None
        if now is None or now.checksum != stamp.checksum:
            raise IndexCorrupt(
                f"{path} is damaged: it is not what was written; "
                "run `kernelpilot knowledge update` to build it again"
            )
        has_new_stamp |= stamp.mtime_ns != status.st_mtime_ns
        stamp.mtime_ns = status.st_mtime_ns
    return has_new_stamp
