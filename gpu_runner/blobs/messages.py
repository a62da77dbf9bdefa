"""What travels between a blob client and the blob server, and the one place that parses its bytes.

Frames: the magic, a JSON header, and with `blob.put` and `piece` the bytes. Every request carries a
number that its answer repeats; every request may be lost or repeated, for it names its offset.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter

from gpu_runner.errors import PoolError
from gpu_runner.message import Digest, Message

MAGIC = b"kp-blob/1"
CHUNK_BYTES = 256 * 1024
CREDIT = 8
"""Chunks on the way at a time: 2 MiB keep a line busy and its queue short."""
MOST_HEADER_BYTES = 64 * 1024
MOST_FRAME_BYTES = CHUNK_BYTES
MOST_KEPT = 512
_WITHOUT_BYTES = 2
_WITH_BYTES = 3
_MALFORMED = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)

Size = Annotated[int, Field(ge=0, lt=2**50)]
Rid = Annotated[int, Field(ge=0, lt=2**63)]


class BlobError(PoolError):
    """A blob cannot be sent or fetched; the message says why and what to do."""


class Code(StrEnum):
    """Why a request had no effect."""

    UNKNOWN = "unknown"
    """Nobody has put that blob, or it was collected."""
    QUOTA = "quota"
    UNSTORED = "unstored"
    """The server's disk is full or broken."""
    CORRUPT = "corrupt"
    """The bytes are not those of the digest; what was there of them is dropped."""
    MALFORMED = "malformed"
    FORBIDDEN = "forbidden"


class BlobMessage(Message):
    """Numbers are never guessed from text."""

    model_config = ConfigDict(strict=True)

    rid: Rid
    """Of the request; an answer repeats it."""


class Stat(BlobMessage):
    """How much of a blob is there?"""

    kind: Literal["blob.stat"] = "blob.stat"
    digest: Digest


class Put(BlobMessage):
    """Take these bytes of a blob; they follow as a frame."""

    kind: Literal["blob.put"] = "blob.put"
    digest: Digest
    size_bytes: Size
    """Of the whole blob."""
    offset: Size


class Get(BlobMessage):
    """Send at most a chunk from here on; one request is one credit."""

    kind: Literal["blob.get"] = "blob.get"
    digest: Digest
    offset: Size


class Keep(BlobMessage):
    """These blobs are in use: their time begins anew."""

    kind: Literal["blob.keep"] = "blob.keep"
    digests: tuple[Digest, ...] = Field(max_length=MOST_KEPT)


class Standing(BlobMessage):
    """So much of the blob is there."""

    kind: Literal["standing"] = "standing"
    digest: Digest
    offset: Size
    """Where to go on; the size when it is complete."""
    is_complete: bool


class Piece(BlobMessage):
    """Bytes of a blob; they follow as a frame."""

    kind: Literal["piece"] = "piece"
    digest: Digest
    offset: Size
    size_bytes: Size
    """Of the whole blob."""


class Kept(BlobMessage):
    """The time of those that are there began anew."""

    kind: Literal["kept"] = "kept"
    missing: tuple[Digest, ...]


class Refused(BlobMessage):
    """A request had no effect."""

    kind: Literal["refused"] = "refused"
    code: Code
    message: str


Request = Stat | Put | Get | Keep
Answer = Standing | Piece | Kept | Refused

REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
M = TypeVar("M", Request, Answer)

ANSWER: TypeAdapter[Answer] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def encode(message: Request | Answer, content: bytes = b"") -> list[bytes]:
    """Return the frames of a message."""
    frames = [MAGIC, message.model_dump_json().encode()]
    return [*frames, content] if isinstance(message, Put | Piece) else frames


def parse_request(frames: Sequence[bytes]) -> tuple[Request, bytes] | str:
    """Return a request and its bytes, or why there is none; raises nothing for any bytes."""
    return _parsed(REQUEST, frames)


def parse_answer(frames: Sequence[bytes]) -> tuple[Answer, bytes] | str:
    """Return an answer and its bytes, or why there is none; raises nothing for any bytes."""
    return _parsed(ANSWER, frames)


def _parsed(expected: TypeAdapter[M], frames: Sequence[bytes]) -> tuple[M, bytes] | str:
    if not frames or frames[0] != MAGIC:
        return "the sender speaks another protocol; install one version of kernelpilot on both"
    if len(frames) not in {_WITHOUT_BYTES, _WITH_BYTES} or len(frames[1]) > MOST_HEADER_BYTES:
        return "not a header and at most one frame of bytes"
    try:
        message = expected.validate_json(frames[1])
    except _MALFORMED as error:
        return f"the header is not valid ({type(error).__name__})"
    has_bytes = len(frames) == _WITH_BYTES
    if has_bytes != isinstance(message, Put | Piece):
        return f"{message.kind!r} and its frames do not belong together"
    content = frames[2] if has_bytes else b""
    if len(content) > CHUNK_BYTES:
        return f"{len(content)} bytes; a chunk has at most {CHUNK_BYTES}"
    return message, content
