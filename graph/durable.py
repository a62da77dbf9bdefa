"""Files that survive `kill -9`: whole-file replacement and append-only JSON lines.

Knows bytes and lines, not what they mean.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of an OSError that space, once there is some, puts right."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content so that a reader sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def append_line(path: Path, line: bytes) -> None:
    """Append one line and its newline, on disk when this returns; or nothing, where it raises.

    A part of a line that a full disk left would run into the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            _write_all(file, line + b"\n")
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise


def _write_all(file: RawIOBase, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def whole_lines(path: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the complete lines of a file from a byte offset; a line still being written is not one.

    A file that does not exist has no lines.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield line[:-1]
    except FileNotFoundError:
        return


def drop_torn_line(path: Path) -> bytes:
    """Cut off a last line that has no newline, as a killed writer leaves it; return what was cut.

    Only the one writer of the file may call this.
    """
    try:
        with path.open("r+b") as file:
            content = file.read()
            end = content.rfind(b"\n") + 1
            if end == len(content):
                return b""
            file.truncate(end)
            os.fsync(file.fileno())
            return content[end:]
    except FileNotFoundError:
        return b""
