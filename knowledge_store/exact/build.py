"""Writing one part of the index. What is written here is read by `part` and never changed.

The index of three bytes is SQLite's FTS5 with the trigram tokenizer, without content and without
positions: each row is a block, and what it finds is verified on the text. Bytes become characters
one to one, so any bytes can be indexed; case is folded, so one index serves both kinds of query.
"""

import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from knowledge_store.exact.manifest import Stamp, stamp_of, sync_folder
from knowledge_store.exact.part import BLOCKS, INDEX, TEXT

BLOCK_BYTES = 4096
_WIDEST = 1 << 20
_SAMPLING = 8
_SAMPLE_LEAST = 2048
_HASH_BYTES = 64 << 20
_TABLES = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA page_size = 4096;
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE pull(
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, repo TEXT NOT NULL, number INTEGER NOT NULL,
    merged_at TEXT NOT NULL, licence TEXT NOT NULL, tags TEXT NOT NULL, has_diff INTEGER NOT NULL,
    first_line INTEGER NOT NULL, digest TEXT NOT NULL);
CREATE TABLE file(
    pull INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, path TEXT NOT NULL,
    kind TEXT NOT NULL, licence TEXT NOT NULL, first_line INTEGER NOT NULL,
    last_line INTEGER NOT NULL, PRIMARY KEY(pull, start)) WITHOUT ROWID;
CREATE TABLE wide(block INTEGER PRIMARY KEY);
CREATE TABLE frequency(gram INTEGER PRIMARY KEY, blocks INTEGER NOT NULL);
CREATE VIRTUAL TABLE gram USING fts5(text, content='', detail=none, tokenize='trigram');
"""
_LOWER = np.frombuffer(bytes(range(256)).lower(), dtype=np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLines:
    """A file of a diff, by lines of the diff from 1, both included."""

    path: str
    kind: str
    licence: str
    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A pull request to be indexed."""

    key: str
    repo: str
    number: int
    merged_at: str
    licence: str
    tags: tuple[str, ...]
    has_diff: bool
    digest: str
    """Of everything that the index keeps of it."""
    files: tuple[FileLines, ...]


@dataclass(slots=True)
class PartWriter:
    """A part while it grows: first all texts, then the index over them."""

    folder: Path
    _text: BinaryIO = field(init=False)
    _starts: "array[int]" = field(init=False, default_factory=lambda: array("Q", [0]))
    _lines: "array[int]" = field(init=False, default_factory=lambda: array("I", [0]))
    _pulls: "array[int]" = field(init=False, default_factory=lambda: array("I"))
    _pull_starts: "array[int]" = field(init=False, default_factory=lambda: array("Q", [0]))
    _rows: list[tuple[object, ...]] = field(init=False, default_factory=list)
    _files: list[tuple[object, ...]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self._text = (self.folder / TEXT).open("wb")

    @property
    def size(self) -> int:
        """Return the bytes of text so far."""
        return self._pull_starts[-1]

    def add(self, entry: Entry, diff: bytes) -> None:
        """Append a pull request and its raw diff."""
        number = len(self._pull_starts) - 1
        first_line = self._lines[-1]
        text = diff if not diff or diff.endswith(b"\n") else diff + b"\n"
        self._text.write(text)
        for start, end in blocks_of(text):
            self._starts.append(self.size + end)
            self._lines.append(self._lines[-1] + text.count(b"\n", start, end))
            self._pulls.append(number)
        self._rows.append(
            (
                number,
                entry.key,
                entry.repo,
                entry.number,
                entry.merged_at,
                entry.licence,
                ",".join(entry.tags),
                entry.has_diff,
                first_line,
                entry.digest,
            )
        )
        for file, start, end in _placed(entry.files, text):
            self._files.append(
                (
                    number,
                    self.size + start,
                    self.size + end,
                    file.path,
                    file.kind,
                    file.licence,
                    first_line + file.first_line - 1,
                    first_line + file.last_line - 1,
                )
            )
        self._pull_starts.append(self.size + len(text))

    def index(self) -> None:
        """Write the index; SQLite works without the interpreter's lock, so two can at once."""
        _close_synced(self._text)
        with (self.folder / BLOCKS).open("wb") as file:
            file.write(array("Q", [len(self._pulls), len(self._pull_starts) - 1]))
            for column in (self._starts, self._pull_starts, self._lines, self._pulls):
                file.write(column)
            _close_synced(file)
        text = (
            np.memmap(self.folder / TEXT, dtype=np.uint8, mode="r")
            if self.size
            else np.zeros(0, dtype=np.uint8)
        )
        path = self.folder / INDEX
        with closing(sqlite3.connect(path, isolation_level=None)) as index:
            index.executescript(_TABLES)
            index.execute("INSERT INTO gram(gram, rank) VALUES ('hashsize', ?)", (_HASH_BYTES,))
            index.execute("BEGIN")
            index.executemany(f"INSERT INTO pull VALUES ({'?,' * 9}?)", self._rows)  # noqa: S608 - marks
            index.executemany("INSERT INTO file VALUES (?,?,?,?,?,?,?,?)", self._files)
            index.executemany("INSERT INTO wide VALUES (?)", self._wide())
            index.executemany("INSERT INTO gram(rowid, text) VALUES (?,?)", self._narrow(text))
            sampling = _SAMPLING if len(self._pulls) >= _SAMPLE_LEAST else 1
            index.execute("INSERT INTO meta VALUES ('sampling', ?)", (sampling,))
            index.executemany(
                "INSERT INTO frequency VALUES (?,?)", _frequencies(text, self._starts, sampling)
            )
            index.execute("COMMIT")
            index.execute("INSERT INTO gram(gram) VALUES ('optimize')")
            index.execute("VACUUM")

    def stamps(self) -> dict[str, Stamp]:
        """Return the stamps of the finished files, which are on disk then."""
        with (self.folder / INDEX).open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(str(self.folder))
        return {name: stamp_of(str(self.folder / name)) for name in (TEXT, BLOCKS, INDEX)}

    def _wide(self) -> Iterator[tuple[int]]:
        for block in range(len(self._pulls)):
            if self._starts[block + 1] - self._starts[block] > _WIDEST:
                yield (block,)

    def _narrow(
        self, text: "np.ndarray[tuple[int], np.dtype[np.uint8]]"
    ) -> Iterator[tuple[int, str]]:
        for block in range(len(self._pulls)):
            start, end = self._starts[block], self._starts[block + 1]
            if end - start <= _WIDEST:
                yield block, indexed(text[start:end].tobytes())


def indexed(text: bytes) -> str:
    """Return text as the index reads it: a character a byte, and none that would end it early."""
    return text.replace(b"\0", b"\1").decode("latin-1")


def blocks_of(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield the bounds of blocks: whole lines, as many as fit, or one that does not."""
    start = 0
    while start < len(text):
        end = start + BLOCK_BYTES
        if end < len(text):
            end = text.rfind(b"\n", start, end) + 1 or text.find(b"\n", end) + 1 or len(text)
        end = min(end, len(text))
        yield start, end
        start = end


def _placed(files: Iterable[FileLines], text: bytes) -> Iterator[tuple[FileLines, int, int]]:
    """Yield files with the offsets of their lines; those that are out of order are left out."""
    line, offset = 1, 0
    for file in sorted(files, key=lambda file: file.first_line):
        if file.first_line < line or file.last_line < file.first_line:
            continue
        start = offset = _skipped(text, offset, file.first_line - line)
        offset = _skipped(text, offset, file.last_line - file.first_line + 1)
        line = file.last_line + 1
        if start < offset:
            yield file, start, offset


def _skipped(text: bytes, offset: int, lines: int) -> int:
    for _ in range(lines):
        offset = text.find(b"\n", offset) + 1 or len(text)
    return offset


def _frequencies(
    text: "np.ndarray[tuple[int], np.dtype[np.uint8]]", starts: "array[int]", sampling: int
) -> Iterator[tuple[int, int]]:
    """Yield three bytes, lower-case, and how many sampled blocks hold them, if several."""
    seen = [np.zeros(0, dtype=np.uint32)]
    for block in range(0, len(starts) - 1, sampling):
        end = min(starts[block + 1], starts[block] + _WIDEST)
        folded = _LOWER[text[starts[block] : end]].astype(np.uint32)
        if len(folded) > 2:  # noqa: PLR2004 - three bytes
            seen.append(np.unique(folded[:-2] << 16 | folded[1:-1] << 8 | folded[2:]))
    grams, counts = np.unique(np.concatenate(seen), return_counts=True)
    common = counts > 1
    yield from zip(grams[common].tolist(), counts[common].tolist(), strict=True)


def _close_synced(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
