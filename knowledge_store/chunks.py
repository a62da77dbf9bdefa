"""Chunks: hunks cut into pieces that can be ranked, embedded and shown. Pure.

A chunk is a run of whole lines of the raw diff. A long hunk is cut before definitions and behind
blank lines; small neighbours of one file become one chunk, with the @@ line between them. So the
chunks of a file, joined, are its hunks, unless the file was bounded: generated files and tables
would otherwise outnumber what people wrote. Exact search reads raw diffs and is never bounded.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from knowledge_store.diffs import Parsed, text_of
from knowledge_store.pulls import Chunk, DiffFile, Hunk
from knowledge_store.tags import tags_of

VERSION = 1
"""Of what this module, the parser and the kinds make of a diff; a change re-derives stores."""

LONGEST_LINE = 1000
"""Characters of a line that a chunk shows; the raw diff keeps the rest."""
LICENCE_HEADER = "licence-header"

_CAP = 1500
_SMALL = 400
_MOST_OF_PULL = 600
_MOST_OF_FILE = 150
_MOST_OF_TABLE = 6
_MOST_OF_GENERATED = 4
_TABLE_LINES = 400
_TABLE_FRACTION = 0.12
_LONGEST_HEADING = 200
_ORDER = ("kernel", "library", "bench", "test", "config", "doc", "generated")

_DEFINITION = re.compile(
    r"[ +-]\s{0,40}(def|class|async def|struct|template|namespace|__global__|__device__|@"
    r"|(static|inline|constexpr|CUTE|CUTLASS|TORCH_LIBRARY|void|auto|extern)\b[^;]*$)"
)
_NAMED = re.compile(r"[ +-]\s{0,40}(def|class|async def|struct) \w")
_TYPED = re.compile(r"[ +-][^;=#(]{0,160}\w\s?\(")
_TYPES = ("__global__", "__device__", "void ", "auto ", "static ", "inline ")
_COMMENT = re.compile(r"[ +-]\s*($|#|//|/?\*|--|\.\.|\"\"\"|<!--)")
_LICENCE = re.compile(
    r"SPDX-License|Licensed under|Copyright|Redistribution and use|Permission is hereby"
)
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Chunked:
    """The chunks of a diff, and what they leave out."""

    chunks: tuple[Chunk, ...]
    bounded: tuple[int, ...]
    """Indices of files of which some chunks were left out."""
    clipped: int
    """Lines longer than a chunk shows."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of lines of one hunk, or of several where `last` is another one's."""

    hunk: Hunk
    start: int
    """Within the hunk's lines."""
    lines: tuple[str, ...]
    """Clipped; with the @@ lines between merged hunks."""
    size: int
    part: int
    parts: int
    is_header: bool
    end_line: int
    """Line of the raw diff behind the piece, from 1."""


def clipped(line: str) -> str:
    """Return a line as a chunk shows it."""
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + "…"


def passage(raw: Sequence[bytes], diff_line: int, length: int) -> str:
    """Return the text of a chunk again from the lines of its diff."""
    text = text_of(b"\n".join(raw[diff_line - 1 : diff_line - 1 + length]))
    return text if len(text) <= LONGEST_LINE else "\n".join(map(clipped, text.split("\n")))


def chunk(key: str, parsed: Parsed) -> Chunked:
    """Cut a parsed diff into chunks, in the order of the diff."""
    hunks: dict[int, list[Hunk]] = {}
    for hunk in parsed.hunks:
        hunks.setdefault(hunk.file, []).append(hunk)
    kept: dict[int, list[_Piece]] = {}
    bounded: list[int] = []
    left = _MOST_OF_PULL
    for file in sorted(parsed.files, key=lambda file: _ORDER.index(file.kind)):
        pieces = list(_merged(hunks.get(file.index, ()), parsed.lines))
        allowed = min(left, _bound(file, hunks.get(file.index, ())))
        if len(pieces) > allowed:
            bounded.append(file.index)
        kept[file.index] = pieces[:allowed]
        left -= len(kept[file.index])
    return Chunked(
        chunks=tuple(_chunks(key, parsed.files, kept)),
        bounded=tuple(sorted(bounded)),
        clipped=sum(len(line) > LONGEST_LINE for line in _long_lines(parsed)),
    )


def _long_lines(parsed: Parsed) -> Iterator[str]:
    """Yield the lines of those hunks that have a line to clip."""
    for hunk in parsed.hunks:
        if max(map(len, hunk.lines), default=0) > LONGEST_LINE:
            yield from hunk.lines


def _bound(file: DiffFile, hunks: Sequence[Hunk]) -> int:
    if file.kind == "generated" or file.status == "deleted":
        return _MOST_OF_GENERATED
    return _MOST_OF_TABLE if _is_table(hunks) else _MOST_OF_FILE


def _is_table(hunks: Sequence[Hunk]) -> bool:
    """Say whether most lines differ in their digits only."""
    if sum(len(hunk.lines) for hunk in hunks) <= _TABLE_LINES:
        return False
    sample = [line for hunk in hunks for line in hunk.lines[:4000]][:4000]
    distinct = {_DIGITS.sub("0", line[:LONGEST_LINE]) for line in sample}
    return len(distinct) < _TABLE_FRACTION * len(sample)


def _merged(hunks: Sequence[Hunk], raw: Sequence[bytes]) -> Iterator[_Piece]:
    """Yield the pieces of a file's hunks; small whole hunks join the one before."""
    held: _Piece | None = None
    for hunk in hunks:
        for piece in _pieces(hunk):
            if held is not None and _may_join(held, piece):
                held = _joined(held, piece, clipped(text_of(raw[hunk.diff_line - 1])))
                continue
            if held is not None:
                yield held
            held = piece
    if held is not None:
        yield held


def _may_join(held: _Piece, piece: _Piece) -> bool:
    return (
        held.parts == piece.parts == 1
        and min(held.size, piece.size) < _SMALL
        and held.size + piece.size <= _CAP
        and held.end_line == piece.hunk.diff_line
    )


def _joined(held: _Piece, piece: _Piece, between: str) -> _Piece:
    return _Piece(
        hunk=held.hunk,
        start=held.start,
        lines=(*held.lines, between, *piece.lines),
        size=held.size + len(between) + piece.size,
        part=0,
        parts=1,
        is_header=False,
        end_line=piece.end_line,
    )


def _pieces(hunk: Hunk) -> Iterator[_Piece]:
    lines = hunk.lines
    if max(map(len, lines), default=0) > LONGEST_LINE:
        lines = tuple(map(clipped, lines))
    header = _header_length(hunk, lines)
    ends = [header] if header else []
    ends.extend(_cuts(lines, header))
    start = 0
    for part, end in enumerate(ends):
        body = lines[start:end]
        yield _Piece(
            hunk=hunk,
            start=start,
            lines=body,
            size=sum(map(len, body)) + len(body),
            part=part,
            parts=len(ends),
            is_header=end == header,
            end_line=hunk.diff_line + 1 + end,
        )
        start = end


def _header_length(hunk: Hunk, lines: tuple[str, ...]) -> int:
    """Return how many first lines of a whole new or deleted file only state its licence."""
    if min(hunk.old_count, hunk.new_count) or max(hunk.old_start, hunk.new_start) > 1:
        return 0
    length = next(
        (at for at, line in enumerate(lines[:80]) if not _COMMENT.match(line)), min(80, len(lines))
    )
    return length if _LICENCE.search("\n".join(lines[:length])) else 0


def _cuts(lines: tuple[str, ...], start: int) -> Iterator[int]:
    """Yield the ends of the pieces that lines from `start` on are cut into."""
    size = 0
    best = start
    best_score = -1
    at = start
    while at < len(lines):
        length = len(lines[at]) + 1
        if size + length > _CAP and at > start:
            end = best if best > start else at
            yield end
            start = at = end
            size, best, best_score = 0, start, -1
            continue
        if at > start and size > _CAP * 0.5 and (score := _score(lines, at)) >= best_score:
            best, best_score = at, score
        size += length
        at += 1
    if start < len(lines):
        yield len(lines)


def _score(lines: tuple[str, ...], at: int) -> int:
    """Return how good a cut before a line is."""
    if _DEFINITION.match(lines[at]):
        return 3 if not lines[at - 1][1:].strip() else 2
    return 1 if not lines[at - 1][1:].strip() else 0


def _chunks(key: str, files: Sequence[DiffFile], kept: dict[int, list[_Piece]]) -> Iterator[Chunk]:
    seen: dict[str, int] = {}
    for file in files:
        walk = _Walk()
        for piece in kept[file.index]:
            walk.to(piece)
            heading = walk.heading
            text = "\n".join(piece.lines)
            digest = _digest(file.path, heading, text)
            times = seen.get(digest, 0)
            seen[digest] = times + 1
            marks = [line[:1] for line in piece.lines]
            yield Chunk(
                chunk_id=f"{key}:{digest}" + (f".{times}" if times else ""),
                key=key,
                path=file.path,
                heading=heading,
                diff_line=piece.hunk.diff_line + 1 + piece.start,
                new_start=0 if file.status == "deleted" else walk.new_line,
                text=text,
                added=marks.count("+"),
                removed=marks.count("-"),
                part=piece.part,
                parts=piece.parts,
                tags=(LICENCE_HEADER,) if piece.is_header else tags_of(text, file.path),
            )


class _Walk:
    """Where the pieces of a file begin, which come in order."""

    def __init__(self) -> None:
        self.hunk: Hunk | None = None
        self.at = 0
        self.new_line = 0
        """Of the new file."""
        self.heading = ""
        """The last definition above in the hunk, or what git says before any."""

    def to(self, piece: _Piece) -> None:
        """Go to the first line of a piece."""
        if self.hunk is not piece.hunk:
            self.hunk, self.at = piece.hunk, 0
            self.new_line, self.heading = piece.hunk.new_start, piece.hunk.heading
        for line in piece.hunk.lines[self.at : piece.start]:
            self.new_line += line[:1] not in {"-", "\\"}
            if _names(line):
                self.heading = line[1:_LONGEST_HEADING].strip()
        self.at = piece.start


def _names(line: str) -> bool:
    """Say whether a line begins a definition; most lines are told by a look for a few words."""
    if "(" in line and any(word in line for word in _TYPES):
        return _TYPED.match(line) is not None
    return _NAMED.match(line) is not None


def _digest(*parts: str) -> str:
    joined = "\0".join(parts).encode("utf-8", "replace")
    return hashlib.blake2b(joined, digest_size=8).hexdigest()
