"""Reading one part of the index: text that never changes, and what lies where in it.

A part is a folder of three files: `text` (raw diffs one after the other, each ending in a newline),
`blocks` (where its blocks of some kilobytes and its pulls begin) and `index` (SQLite: pulls, files,
and which block holds which three bytes). Nothing here is written. Loaded by one-shot searches.
"""

from __future__ import annotations

import _sqlite3
import mmap
import os
from bisect import bisect_right
from itertools import accumulate

from knowledge_store.exact.errors import IndexCorrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from sqlite3 import Connection

    Bounds = Sequence[int]

TEXT, BLOCKS, INDEX = "text", "blocks", "index"
_HEAD = 16
_GRAMS_A_QUERY = 500


class Pull:
    """A pull request as the index knows it."""

    __slots__ = (
        "first_line",
        "has_diff",
        "id",
        "key",
        "licence",
        "merged_at",
        "number",
        "place",
        "repo",
        "tags",
    )

    def __init__(self, row: tuple[int, str, str, int, str, str, str, int, int]) -> None:
        self.id, self.key, self.repo, self.number, self.merged_at, self.licence = row[:6]
        self.tags: frozenset[str] = frozenset(filter(None, row[6].split(",")))
        self.has_diff: bool = bool(row[7])
        self.first_line: int = row[8]
        """Lines of the part's text before it."""
        self.place = (self.repo, self.number)
        """Where answers have it in order; made once, for thousands are sorted."""


class File:
    """A file of a diff and where its lines lie in the part's text."""

    __slots__ = ("end", "first_line", "kind", "last_line", "licence", "path", "start")

    def __init__(self, row: tuple[str, str, str, int, int, int, int]) -> None:
        self.path, self.kind, self.licence, self.start, self.end = row[:5]
        self.first_line, self.last_line = row[5:]
        """Lines of the text before its first and before its last one."""


class Part:
    """An open part; every offset is one of its text."""

    __slots__ = (
        "_block",
        "_files",
        "_index",
        "_pull_lines",
        "_pulls",
        "block_lines",
        "block_pulls",
        "block_starts",
        "descriptor",
        "folder",
        "pull_starts",
        "sampling",
        "text",
        "wide",
    )

    def __init__(self, folder: str) -> None:
        """Open a part.

        Raises:
            IndexCorrupt: a file of it cannot be what was written.
            FileNotFoundError: it was replaced meanwhile; read the manifest again.
        """
        self.folder = folder
        self.descriptor = os.open(os.path.join(folder, TEXT), os.O_RDONLY | os.O_CLOEXEC)
        self.text = _mapped(self.descriptor)
        try:
            self._open(folder)
        except BaseException:
            os.close(self.descriptor)
            raise

    def _open(self, folder: str) -> None:
        blocks_file = os.open(os.path.join(folder, BLOCKS), os.O_RDONLY | os.O_CLOEXEC)
        try:
            numbers = memoryview(_mapped(blocks_file))
        finally:
            os.close(blocks_file)
        try:
            blocks, pulls = numbers[:_HEAD].cast("Q")
            parts = (8 * (blocks + 1), 8 * (pulls + 1), 4 * (blocks + 1), 4 * blocks)
            if len(numbers) != _HEAD + sum(parts):
                raise IndexCorrupt(_damaged(folder, "its blocks are cut off"))
        except (ValueError, TypeError) as error:
            raise IndexCorrupt(_damaged(folder, "its blocks cannot be read")) from error
        ends = [*accumulate(parts, initial=_HEAD)]
        self.block_starts: Bounds = numbers[ends[0] : ends[1]].cast("Q")
        self.pull_starts: Bounds = numbers[ends[1] : ends[2]].cast("Q").tolist()
        self.block_lines: Bounds = numbers[ends[2] : ends[3]].cast("I")
        """Lines of the text before each block."""
        self.block_pulls: Bounds = numbers[ends[3] : ends[4]].cast("I")
        self._block = (0, 0, b"")  # the last one that was looked into: hits are neighbours
        self._pulls: dict[int, Pull] = {}
        self._pull_lines: list[int] = []
        self._files: dict[int, list[File]] = {}
        index = os.path.join(folder, INDEX)
        os.stat(index)
        try:
            self._index: Connection = _sqlite3.connect(
                f"file:{_quoted(index)}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            self._index.execute("PRAGMA mmap_size = 1073741824")
        except _sqlite3.DatabaseError as error:
            raise IndexCorrupt(_damaged(folder, str(error))) from error
        self.sampling = int(self._rows("SELECT value FROM meta WHERE name = 'sampling'")[0][0])
        """Of so many blocks one was looked at to count how common three bytes are."""
        self.wide = [row[0] for row in self._rows("SELECT block FROM wide ORDER BY block")]
        """Blocks of a single line too long to be indexed; each is a candidate of every query."""

    def close(self) -> None:
        """Close the files; the text stays mapped for whoever still holds it."""
        self._index.close()
        os.close(self.descriptor)

    @property
    def size(self) -> int:
        """Return the bytes of the text."""
        return len(self.text)

    def candidates(self, match: str, most: int) -> list[int]:
        """Return blocks that an expression of the index finds, in order; at most so many."""
        found = self._rows(f"SELECT rowid FROM gram WHERE gram MATCH ? LIMIT {most}", match)  # noqa: S608 - a number
        blocks = [row[0] for row in found]
        return sorted({*blocks, *self.wide}) if self.wide else blocks

    def frequencies(self, grams: Iterable[int]) -> dict[int, int]:
        """Return in about how many blocks each three bytes stand; rare ones are left out."""
        wanted = [*grams]
        known: dict[int, int] = {}
        for at in range(0, len(wanted), _GRAMS_A_QUERY):
            some = ",".join(map(str, wanted[at : at + _GRAMS_A_QUERY]))
            query = f"SELECT gram, blocks FROM frequency WHERE gram IN ({some})"  # noqa: S608 - numbers
            known.update((row[0], row[1] * self.sampling) for row in self._rows(query))
        return known

    def pull(self, number: int) -> Pull:
        """Return a pull by its position."""
        pull = self._pulls.get(number)
        if pull is None:
            self._load(f"WHERE id = {number}")
            pull = self._pulls[number]
        return pull

    def pulls(self) -> list[Pull]:
        """Return all pulls in the order of their text."""
        count = len(self.pull_starts) - 1
        if len(self._pulls) < count:
            self._load("")
        return [self._pulls[number] for number in range(count)]

    def _load(self, condition: str) -> None:
        columns = "id, key, repo, number, merged_at, licence, tags, has_diff, first_line"
        for row in self._rows(f"SELECT {columns} FROM pull {condition}"):  # noqa: S608 - from here only
            self._pulls[row[0]] = Pull(row)

    def digests(self) -> dict[str, tuple[int, str]]:
        """Return the position and the digest of every pull, by its key."""
        return {row[0]: (row[1], row[2]) for row in self._rows("SELECT key, id, digest FROM pull")}

    def file_at(self, pull: int, line: int) -> File | None:
        """Return the file of a diff that a line belongs to; None where it belongs to none.

        Args:
            pull: its position.
            line: lines of the text before it.
        """
        files = self._files.get(pull)
        if files is None:
            columns = "path, kind, licence, start, end, first_line, last_line"
            query = f"SELECT {columns} FROM file WHERE pull = ? ORDER BY start"  # noqa: S608 - ours
            files = self._files[pull] = [File(row) for row in self._rows(query, pull)]
        at = bisect_right(files, line, key=_first_line) - 1
        return files[at] if at >= 0 and line <= files[at].last_line else None

    def pull_lines(self) -> Sequence[int]:
        """Return how many lines lie before each pull, in order."""
        if not self._pull_lines:
            self._pull_lines = [pull.first_line for pull in self.pulls()]
            self._pull_lines.append(self.block_lines[len(self.block_lines) - 1])
        return self._pull_lines

    def offset_of(self, line: int) -> int:
        """Return where the line begins that so many lines lie before."""
        return self.line(line)[0]

    def line(self, before: int) -> tuple[int, int, int]:
        """Return the same as `line_at` of the line that so many lines lie before."""
        at = bisect_right(self.block_lines, before) - 1
        start, end = self.block_starts[at], self.block_starts[at + 1]
        count = before - self.block_lines[at]
        rows = self.text[start:end].split(b"\n", count + 1)
        begin = start + sum(map(len, rows[:count])) + count
        return begin, begin + len(rows[count]), before

    def line_at(self, offset: int) -> tuple[int, int, int]:
        """Return where the line at an offset begins and ends, and how many lines lie before it."""
        starts = self.block_starts
        at, start, text = self._block
        if not start <= offset < start + len(text):
            at = bisect_right(starts, offset) - 1
            start = starts[at]
            text = self.text[start : starts[at + 1]]
            self._block = (at, start, text)
        begin = text.rfind(b"\n", 0, offset - start) + 1
        end = text.find(b"\n", offset - start)
        return start + begin, start + end, self.block_lines[at] + text.count(b"\n", 0, begin)

    def _rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        try:
            return self._index.execute(query, arguments).fetchall()
        except _sqlite3.DatabaseError as error:
            raise IndexCorrupt(_damaged(self.folder, str(error))) from error


if TYPE_CHECKING:
    from typing import Any


def _first_line(file: File) -> int:
    return file.first_line


def _damaged(folder: str, why: str) -> str:
    return f"{folder} is damaged: {why}; run `kernelpilot knowledge update` to build it again"


def _quoted(path: str) -> str:
    """Return a path as SQLite's URIs write it."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _mapped(descriptor: int) -> mmap.mmap | bytes:
    if os.fstat(descriptor).st_size == 0:
        return b""
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
