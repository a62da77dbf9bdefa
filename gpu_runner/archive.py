"""The archive: one zip file that carries jobs to a machine without a network, or results back.

    manifest.json             what the archive is, and each member's size and sha256
    jobs/<job-id>.json        a job                              (an archive of jobs)
    outcomes/<job-id>.json    an outcome, as the spool has it    (an archive of results)
    environment.json          the machine that ran the jobs      (an archive of results)

Members are stored, not compressed, in order of name and without a date: the same content is the
same bytes everywhere, and no small archive unpacks into a large one. Nothing is written to a path
that an archive names. Knows bytes; what they mean is in `archive_content.py`.
"""

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from gpu_runner.errors import ArchiveError
from gpu_runner.message import Digest, Message
from gpu_runner.spool import write_file

MOST_BYTES = 1 << 30
"""Of one archive, and so of everything in it."""

_FORMAT = 1
_MANIFEST = "manifest.json"
_MOST_MANIFEST_BYTES = 16 << 20
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can name."""
_UNIX = 3
_NAME = r"^((jobs|outcomes)/[a-z0-9][a-z0-9._-]{0,127}|environment)\.json$"
_DAMAGES = (
    zipfile.BadZipFile,
    EOFError,
    IndexError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)
"""What `zipfile` raises for bytes that are no zip file of ours."""


class Contents(StrEnum):
    """What an archive carries."""

    JOBS = "jobs"
    RESULTS = "results"


class Member(Message):
    """One file of an archive."""

    name: Annotated[str, StringConstraints(pattern=_NAME)]
    size: int = Field(ge=0)
    sha256: Digest


class Manifest(Message):
    """What an archive says of itself."""

    kind: Literal["kernelpilot archive"] = "kernelpilot archive"
    format: Literal[1] = 1
    kernelpilot: str
    """Version of the program that wrote it."""
    contents: Contents
    origin: str
    """Name of the run or batch that the jobs are of; results carry their jobs' origin."""
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Unpacked:
    """A verified archive."""

    manifest: Manifest
    members: Mapping[str, bytes]
    """By name, in order of name."""


def program_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("kernelpilot")
    except PackageNotFoundError:
        return "0"


def pack(path: Path, contents: Contents, origin: str, members: Mapping[str, bytes]) -> int:
    """Write an archive in one step, on disk before this returns; return its bytes.

    Raises:
        ArchiveError: it would be too large, or cannot be written there; what was there stays.
    """
    ordered = dict(sorted(members.items()))
    manifest = Manifest(
        kernelpilot=program_version(),
        contents=contents,
        origin=origin,
        members=tuple(
            Member(name=name, size=len(content), sha256=_sha256(content))
            for name, content in ordered.items()
        ),
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        head = manifest.model_dump_json(indent=1).encode() + b"\n"
        for name, content in {_MANIFEST: head, **ordered}.items():
            file.writestr(_entry(name), content)
    size = buffer.tell()
    if size > MOST_BYTES:
        msg = f"{path} would have {size} bytes, at most {MOST_BYTES} can be read; carry fewer jobs"
        raise ArchiveError(msg)
    try:
        write_file(path, buffer.getvalue())
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}; name another place with -o"
        raise ArchiveError(msg) from error
    return size


def unpack(path: Path, contents: Contents) -> Unpacked:
    """Read an archive and verify every byte of it; nothing is written anywhere.

    Raises:
        ArchiveError: it cannot be read, is damaged, of a later version, or of the other contents.
    """
    content = _read(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            entries = {entry.filename: entry for entry in file.infolist()}
            manifest = _manifest(path, file, entries.get(_MANIFEST))
            if manifest.contents is not contents:
                raise _of_other_contents(path, manifest.contents)
            _refuse_odd_frame(path, file.infolist(), manifest, len(content))
            members = {
                member.name: _verified(path, member, file.read(member.name))
                for member in manifest.members
            }
    except _DAMAGES as error:
        raise _damaged(path, str(error) or type(error).__name__) from error
    return Unpacked(manifest, members)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system = _UNIX
    entry.external_attr = 0o600 << 16
    return entry


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise ArchiveError(msg) from error
    if len(content) > MOST_BYTES:
        msg = f"{path} has more than {MOST_BYTES} bytes; no archive of ours is so large"
        raise ArchiveError(msg)
    return content


def _manifest(path: Path, file: zipfile.ZipFile, entry: zipfile.ZipInfo | None) -> Manifest:
    if entry is None:
        msg = f"{path} is a zip file, but no archive of kernelpilot: it has no {_MANIFEST}"
        raise ArchiveError(msg)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > _MOST_MANIFEST_BYTES:
        raise _damaged(path, f"{_MANIFEST} is compressed or too large")
    content = file.read(entry)
    _refuse_newer(path, content)
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _damaged(path, f"{_MANIFEST} {place}: {first['msg']}") from error


def _refuse_newer(path: Path, content: bytes) -> None:
    try:
        written = json.loads(content)
        number, by = written["format"], written.get("kernelpilot", "?")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # no manifest at all: the parser says so in its own words
    if isinstance(number, int) and number > _FORMAT:
        msg = (
            f"{path} has format {number} (kernelpilot {by!s:.40}), this version "
            f"({program_version()}) reads up to {_FORMAT}; install that version here"
        )
        raise ArchiveError(msg)


def _refuse_odd_frame(
    path: Path, entries: list[zipfile.ZipInfo], manifest: Manifest, size: int
) -> None:
    """Refuse what `pack` never writes: other members, compressed ones, ones that overlap."""
    found = sorted(entry.filename for entry in entries)
    wanted = sorted([_MANIFEST, *(member.name for member in manifest.members)])
    if found != wanted:
        odd = sorted({*found} ^ {*wanted}) or found
        raise _damaged(path, f"{odd[0]!r:.80} is missing, twice there or not in the manifest")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _damaged(path, "it was compressed, as no archive of ours is")
    if sum(entry.file_size for entry in entries) > size:
        raise _damaged(path, "its members are larger than itself")


def _verified(path: Path, member: Member, content: bytes) -> bytes:
    if len(content) != member.size or _sha256(content) != member.sha256:
        raise _damaged(path, f"{member.name} is not what the manifest says")
    return content


def _of_other_contents(path: Path, contents: Contents) -> ArchiveError:
    command = {Contents.JOBS: "execute", Contents.RESULTS: "import"}[contents]
    return ArchiveError(
        f"{path} holds {contents.value}; they are for: kernelpilot-runner {command} {path}"
    )


def _damaged(path: Path, detail: str) -> ArchiveError:
    return ArchiveError(
        f"{path} is damaged or was cut short ({detail}); nothing was taken from it: "
        "copy it again from where it was written"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
