"""Files of an archive, read one after another and never written to disk.

So no name can lead out of a folder and no link can be followed; what an archive unpacks to is
bounded as a whole and a member at a time.
"""

import bz2
import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self, cast

import zstandard

from knowledge_store.errors import SourceError

_TAR = (".tar", ".tar.zst", ".tar.gz", ".tgz", ".tar.bz2")
SUFFIXES = (*_TAR, ".zip")
MOST_BYTES = 8 * 1024**3
"""Unpacked, in all."""
MOST_RATIO = 400
"""Unpacked to packed; text of diffs packs 10 to 50 times."""
_FREE_BYTES = 256 * 1024**2
"""Unpacked bytes below which no ratio is held against an archive."""
_MOST_HEADER_BYTES = 1024**2
_MOST_WINDOW_BYTES = 2**27
"""Of zstd, which takes as much memory: what `--long` gives."""
_EXTENSIONS = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
"""Headers that describe the next one; tarfile reads them into memory at once."""

Want = Callable[[str], bool]


class Bomb(Exception):
    """The archive unpacks to more than it may."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive, or what stands for one that is not read."""

    name: str
    content: bytes | None
    """None where it was refused."""
    refused: str = ""
    """Why: a link, an odd name, too large."""


def is_archive(path: Path) -> bool:
    """Say whether a path is named like an archive that can be read."""
    return path.name.lower().endswith(SUFFIXES)


def members(path: Path, want: Want, most: int) -> Iterator[Member]:
    """Yield the files of an archive that are wanted, and whatever had to be refused.

    Args:
        path: a tar file, packed with zstd, gzip, bzip2 or not at all, or a zip file.
        want: says of a file's name whether it is read.
        most: bytes of one file.

    Raises:
        SourceError: it cannot be read to its end: damaged, or it unpacks to too much. What was
            yielded before stays good.
    """
    try:
        if path.name.lower().endswith(".zip"):
            yield from _zip_members(path, want, most)
        else:
            yield from _tar_members(path, want, most)
    except Bomb as error:
        raise SourceError(f"{path} {error}; the rest of it is not read") from error
    except (tarfile.TarError, zipfile.BadZipFile, zstandard.ZstdError, zlib.error) as error:
        raise SourceError(f"{path} is damaged or no archive: {error}") from error
    except (OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error


def _refusal(name: str, is_link: bool, size: int, most: int) -> str:  # noqa: FBT001 - a fact
    if is_link:
        return "links"
    parts = PurePosixPath(name).parts
    if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or "\\" in name:
        return "odd names"
    return "too large" if size > most else ""


class _Budget:
    """Counts what comes out of an archive."""

    def __init__(self, packed_bytes: int) -> None:
        self.most = min(MOST_BYTES, max(_FREE_BYTES, packed_bytes * MOST_RATIO))
        self.used = 0

    def take(self, count: int) -> None:
        """Count bytes."""
        self.used += count
        if self.used > self.most:
            raise Bomb(f"unpacks to more than {self.most // 1024**2} MiB")


class _Counted(io.RawIOBase):
    """A stream that counts what is read from it."""

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        super().__init__()
        self._stream = stream
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the stream goes."""
        content = self._stream.read(len(buffer))
        self._budget.take(len(content))
        buffer[: len(content)] = content
        return len(content)


class _Header(tarfile.TarInfo):
    """A header whose extensions are small."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header block."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENSIONS and header.size > _MOST_HEADER_BYTES:
            raise Bomb(f"has a header of {header.size} bytes")
        return header


def _tar_members(path: Path, want: Want, most: int) -> Iterator[Member]:
    budget = _Budget(path.stat().st_size)
    with path.open("rb") as file, _unpacked(path, file) as stream:
        # io.BufferedReader gives whole reads, which a raw stream need not.
        counted = io.BufferedReader(_Counted(stream, budget), 1 << 18)
        with tarfile.open(fileobj=counted, mode="r|", tarinfo=_Header, errors="replace") as tar:
            while (info := tar.next()) is not None:
                cast("Any", tar).members = []  # it would keep every header, of however many
                if info.isdir():
                    continue
                is_link = not info.isreg()
                if not is_link and not want(info.name):
                    continue
                refused = _refusal(info.name, is_link, info.size, most)
                if refused:
                    yield Member(info.name, None, refused)
                    continue
                reader = tar.extractfile(info)
                yield Member(info.name, reader.read(most) if reader else b"")


def _unpacked(path: Path, file: IO[bytes]) -> IO[bytes]:
    """Return the tar stream of a packed file; zstd is what tarfile does not know."""
    name = path.name.lower()
    if name.endswith(".zst"):
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW_BYTES)
        return cast("IO[bytes]", unpacker.stream_reader(file, read_across_frames=True))
    if name.endswith((".gz", ".tgz")):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if name.endswith(".bz2"):
        return cast("IO[bytes]", bz2.BZ2File(file))
    return file


def _zip_members(path: Path, want: Want, most: int) -> Iterator[Member]:
    budget = _Budget(path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            if not is_link and not want(info.filename):
                continue
            refused = _refusal(info.filename, is_link, info.file_size, most)
            if refused:
                yield Member(info.filename, None, refused)
                continue
            with archive.open(info) as reader:
                content = reader.read(most + 1)  # a header may lie about the size
            budget.take(len(content))
            if len(content) > most:
                yield Member(info.filename, None, "too large")
            else:
                yield Member(info.filename, content)
