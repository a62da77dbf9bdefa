"""Diffs: from the raw bytes of a unified diff to its files and hunks, with their lines in it.

Hunks are consumed by the counts of their @@ line, so content that looks like a header stays what it
is. What does not parse costs the section it stands in and is said; nothing here raises on any
bytes, and memory stays a small multiple of the input. A test holds it against `unidiff`, which
gives up on the whole diff where one hunk is wrong and takes some hundred bytes for every line.

Lines end at a newline only: a carriage return, form feed or NUL belongs to its line, as for grep.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from knowledge_store.kinds import classify
from knowledge_store.licences import stated_licence
from knowledge_store.pulls import DiffFile, FileStatus, Hunk

_HUNK = re.compile(
    rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@(?: ?(.*))?", re.DOTALL
)
MOST_LINES = 1_000_000
"""That are read of one diff, ten times what the largest that people were seen to review has."""

_NOWHERE = "/dev/null"
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_PATH = 1024
_LONGEST_HEADING = 200


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a diff says."""

    lines: Sequence[bytes]
    """The diff itself."""
    files: tuple[DiffFile, ...]
    hunks: tuple[Hunk, ...]
    added: int
    removed: int
    problems: tuple[str, ...]
    """What did not parse, each with its line of the raw diff; at most 20."""
    odd_paths: int
    """Files whose path is absolute, climbs out of the repository or had control characters."""


@dataclass(slots=True)
class _Section:
    """A file of a diff while it is read."""

    first_line: int
    names: tuple[str, str] = ("", "")
    """From the `diff --git` line: used where no other line names the file."""
    old: str | None = None
    new: str | None = None
    status: FileStatus = "modified"
    is_named: bool = False
    """By `---` and `+++`; a second pair opens another file."""
    last_line: int = 0
    hunks: list[Hunk] = field(default_factory=list)


def raw_lines(diff: bytes) -> list[bytes]:
    """Return the lines of a diff as grep counts them: a last newline opens no further line.

    At most MOST_LINES of them; a list of all of a diff of short lines would take forty times its
    size.
    """
    lines = diff.split(b"\n", MOST_LINES)
    if len(lines) > MOST_LINES or not lines[-1]:
        lines.pop()
    return lines


def text_of(line: bytes) -> str:
    """Return a line as text; bytes that are not UTF-8 become U+FFFD."""
    return line.decode("utf-8", "replace")


def texts_of(lines: Sequence[bytes]) -> tuple[str, ...]:
    """Return lines as text, decoded at once: a newline ends whatever was no UTF-8."""
    return tuple(text_of(b"\n".join(lines)).split("\n")) if lines else ()


def parse(key: str, diff: bytes) -> Parsed:
    """Return the files and hunks of a diff.

    Args:
        key: of the pull request; what the files carry.
        diff: as it was ingested; mail headers and other text between files are passed over.
    """
    lines = raw_lines(diff)
    parser = _Parser(key, lines)
    if len(lines) == MOST_LINES and len(diff) > sum(map(len, lines)) + MOST_LINES:
        parser.problems.append(f"line {MOST_LINES}: what follows is not read")
    return parser.parsed()


class _Parser:
    """One pass over the lines; `at` is the next line, from 0."""

    def __init__(self, key: str, lines: Sequence[bytes]) -> None:
        self.key = key
        self.lines = lines
        self.at = 0
        self.sections: list[_Section] = []
        self.problems: list[str] = []
        self.added = 0
        self.removed = 0
        self.odd_paths = 0

    def parsed(self) -> Parsed:
        """Read everything."""
        while self.at < len(self.lines):
            self._step()
        if self.lines and not self.sections:
            self.problems.append("line 1: no file of a diff in all of it")
        files = tuple(self._file(index, section) for index, section in enumerate(self.sections))
        return Parsed(
            lines=self.lines,
            files=files,
            hunks=tuple(hunk for section in self.sections for hunk in section.hunks),
            added=self.added,
            removed=self.removed,
            problems=tuple(self.problems[:20]),
            odd_paths=self.odd_paths,
        )

    def _step(self) -> None:
        line = self.lines[self.at]
        if line.startswith(b"diff --git "):
            self._open(_git_names(line))
        elif line.startswith((b"diff --cc ", b"diff --combined ")):
            self._problem("a combined diff of a merge; its hunks are not read")
            name = _path(line.split(b" ", 2)[2])
            self._open((name, name))
        elif line.startswith(b"--- ") and self._follows(b"+++ "):
            self._names()
            return
        elif line.startswith(b"@@ -"):
            self._hunk(line)
            return
        elif self.sections:
            self._header(self.sections[-1], line)
        self.at += 1

    def _follows(self, start: bytes) -> bool:
        return self.at + 1 < len(self.lines) and self.lines[self.at + 1].startswith(start)

    def _open(self, names: tuple[str, str]) -> None:
        self.sections.append(_Section(self.at + 1, names, last_line=self.at + 1))

    def _names(self) -> None:
        """Read `---` and `+++`; they open a file themselves where no `diff --git` did."""
        if not self.sections or self.sections[-1].is_named or self.sections[-1].hunks:
            self._open(("", ""))
        section = self.sections[-1]
        section.is_named = True
        section.old = _path(self.lines[self.at][4:])
        section.new = _path(self.lines[self.at + 1][4:])
        if section.old == _NOWHERE:
            section.status = "added"
        elif section.new == _NOWHERE:
            section.status = "deleted"
        self.at += 2
        section.last_line = self.at

    def _header(self, section: _Section, line: bytes) -> None:
        """Take in a line between `diff --git` and the first hunk."""
        if section.hunks:
            return
        if line.startswith(b"new file mode"):
            section.status = "added"
        elif line.startswith(b"deleted file mode"):
            section.status = "deleted"
        elif line.startswith((b"rename from ", b"copy from ")):
            section.old = "a/" + _path(line.split(b" ", 2)[2])
            section.status = "renamed" if line.startswith(b"rename") else "added"
        elif line.startswith((b"rename to ", b"copy to ")):
            section.new = "b/" + _path(line.split(b" ", 2)[2])
        elif line.startswith((b"Binary files ", b"GIT binary patch")):
            section.status = "binary"
        elif not line.startswith((b"index ", b"old mode", b"new mode", b"similarity", b"dissim")):
            return
        section.last_line = self.at + 1

    def _hunk(self, line: bytes) -> None:
        found = _HUNK.match(line)
        if found is None or not self.sections:
            self._problem("a hunk without a file" if found else "an @@ line that gives no counts")
            self.at += 1
            return
        section = self.sections[-1]
        old_start, old_count, new_start, new_count = (
            1 if group is None else int(group) for group in found.groups()[:4]
        )
        first = self.at
        self.at += 1
        is_whole = self._body(old_count, new_count)
        if not is_whole:
            self._problem(f"the hunk at line {first + 1} ends before its counts do")
        elif self._runs_on():
            self._problem(f"the hunk at line {first + 1} goes on beyond its counts")
        section.last_line = self.at
        section.hunks.append(
            Hunk(
                file=len(self.sections) - 1,
                heading=text_of((found[5] or b"")[: 4 * _LONGEST_HEADING]).strip()[
                    :_LONGEST_HEADING
                ],
                diff_line=first + 1,
                old_start=old_start,
                old_count=old_count,
                new_start=new_start,
                new_count=new_count,
                lines=texts_of(self.lines[first + 1 : self.at]),
            )
        )

    def _body(self, old: int, new: int) -> bool:
        """Move behind a hunk's lines; False where they end before the counts are met."""
        lines = self.lines
        while (old > 0 or new > 0) and self.at < len(lines):
            mark = lines[self.at][:1]
            if mark == b"+" and new > 0:
                new -= 1
                self.added += 1
            elif mark == b"-" and old > 0:
                old -= 1
                self.removed += 1
            elif mark in {b" ", b"", b"\r"} and old > 0 and new > 0:  # some tools strip the space
                old -= 1
                new -= 1
            elif mark != b"\\":
                return False
            self.at += 1
        while self.at < len(lines) and lines[self.at].startswith(b"\\"):
            self.at += 1
        return old == new == 0

    def _runs_on(self) -> bool:
        """Say whether the line behind a complete hunk looks like one more of it.

        `-- ` alone is where a mail ends, and `--- ` opens the next file.
        """
        if self.at == len(self.lines):
            return False
        line = self.lines[self.at]
        return line[:1] in {b"+", b"-", b" "} and not line.startswith((b"-- ", b"--- ", b"--\r"))

    def _problem(self, text: str) -> None:
        self.problems.append(f"line {self.at + 1}: {text}")

    def _file(self, index: int, section: _Section) -> DiffFile:
        old = _stripped(section.old, "a/") if section.old is not None else section.names[0]
        new = _stripped(section.new, "b/") if section.new is not None else section.names[1]
        path = old if new == _NOWHERE or not new else new
        path, is_odd = _contained(path)
        self.odd_paths += is_odd
        head = _new_text(section.hunks[:1])
        return DiffFile(
            key=self.key,
            index=index,
            path=path,
            old_path="" if section.status == "added" else _contained(old or path)[0],
            status=section.status,
            kind=classify(path, head),
            licence=stated_licence(head),
            first_line=section.first_line,
            last_line=section.last_line,
        )


def _new_text(hunks: Sequence[Hunk]) -> str:
    """Return the first lines of the file as it is after the change, where a hunk shows them."""
    if not hunks or max(hunks[0].new_start, hunks[0].old_start) > 1:
        return ""
    return "\n".join(line[1:400] for line in hunks[0].lines[:40])


def _stripped(path: str, prefix: str) -> str:
    return path if path == _NOWHERE else path.removeprefix(prefix)


def _contained(path: str) -> tuple[str, bool]:
    """Return a path that is safe to store and print, and whether it is one no repository holds."""
    clean = _UNSAFE.sub("\ufffd", path)[:_LONGEST_PATH]
    is_odd = clean != path or path.startswith(("/", "~")) or ".." in re.split(r"[/\\]", path)
    return clean or "\ufffd", is_odd or not clean


def _path(field_: bytes) -> str:
    """Return a path as `---`, `+++` and renames write it: perhaps quoted, a time behind a tab."""
    if field_.startswith(b'"'):
        return _unquoted(field_)[0]
    return text_of(field_.split(b"\t", 1)[0].rstrip(b"\r"))


_ESCAPES = {
    ord("a"): 7,
    ord("b"): 8,
    ord("t"): 9,
    ord("n"): 10,
    ord("v"): 11,
    ord("f"): 12,
    ord("r"): 13,
}


def _unquoted(field_: bytes) -> tuple[str, bytes]:
    """Return the text of a C string as git quotes paths, and the bytes behind it."""
    out = bytearray()
    at = 1
    while at < len(field_) and field_[at] != ord('"'):
        if field_[at] != ord("\\"):
            out.append(field_[at])
            at += 1
            continue
        octal = re.compile(rb"[0-3][0-7]{2}").match(field_, at + 1)
        if octal:
            out.append(int(octal[0], 8))
            at += 4
        else:
            mark = field_[at + 1] if at + 1 < len(field_) else ord("\\")
            out.append(_ESCAPES.get(mark, mark))
            at += 2
    return text_of(bytes(out)), field_[at + 1 :]


def _git_names(line: bytes) -> tuple[str, str]:
    """Return old and new path of a `diff --git` line, as far as it is unambiguous."""
    rest = line[len(b"diff --git ") :].rstrip(b"\r")
    if rest.startswith(b'"'):
        old, behind = _unquoted(rest)
        return _stripped(old, "a/"), _stripped(_path(behind.lstrip(b" ")), "b/")
    for old_bytes, new_bytes in _splits(rest):
        new = _unquoted(new_bytes)[0] if new_bytes.startswith(b'"') else text_of(new_bytes)
        old = text_of(old_bytes)
        if _stripped(old, "a/") == _stripped(new, "b/"):
            return _stripped(old, "a/"), _stripped(new, "b/")
    old_bytes, _, new_bytes = rest.partition(b" b/")
    return _stripped(text_of(old_bytes), "a/"), text_of(new_bytes)


def _splits(rest: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the one split at which both halves of an unrenamed pair are equally long."""
    middle = len(rest) // 2
    if len(rest) % 2 and rest[middle : middle + 1] == b" ":
        yield rest[:middle], rest[middle + 1 :]
    quote = rest.find(b' "')
    if quote > 0:
        yield rest[:quote], rest[quote + 1 :]
