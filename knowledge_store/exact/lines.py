"""From hits to lines that are shown: which of many, and where in their files.

Loaded by one-shot searches.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from knowledge_store.exact.engine import Group
    from knowledge_store.exact.part import File, Part
    from knowledge_store.exact.scan import Text

SHOWN_BYTES = 4096
_REACH = 2048
_HEAD = 2048


class Line:
    """A hit as it is shown."""

    __slots__ = ("diff_line", "key", "licence", "new_line", "number", "path", "repo", "text")

    def __init__(self, group: Group, place: tuple[int, int, int], counter: NewLines | None) -> None:
        part, pull = group.part, group.pull
        begin, end, before = place
        file = counter.file_at(part, pull.id, before) if counter else None
        self.key = pull.key
        self.repo = pull.repo
        self.number = pull.number
        self.diff_line = before - pull.first_line + 1
        self.path = file.path if file else ""
        self.new_line = counter.at(part, file, begin, before) if counter and file else None
        self.text = part.text[begin : min(end, begin + SHOWN_BYTES)].decode(errors="replace")
        self.licence = (file.licence if file else "") or pull.licence


class NewLines:
    """Lines of files after their change; asked in order, it reads every hunk once."""

    __slots__ = ("_added", "_at", "_file", "_last", "_line")

    def __init__(self) -> None:
        self._file: File | None = None
        self._added = range(0)
        self._at = -1
        self._line = self._last = 0

    def file_at(self, part: Part, pull: int, before: int) -> File | None:
        """Return the file that a line belongs to; the one before is tried first."""
        file = self._file
        if file is not None and file.first_line <= before <= file.last_line:
            return file
        return part.file_at(pull, before)

    def at(self, part: Part, file: File, begin: int, before: int) -> int | None:
        """Return the line of the new file that begins at an offset; None where it is none of it.

        Args:
            part: holds the diff.
            file: that the line belongs to.
            begin: offset of the line.
            before: lines of the text before it.
        """
        if file is not self._file or begin < self._at:
            self._file, self._at = file, -1
            self._added = _added(part.text, file)
        if before in self._added:
            # Most long hunks are whole new files: their lines need no counting.
            return before - self._added.start + 1
        low = file.start if self._at < 0 else self._at
        # A header at the very beginning of the stretch has its newline right before it.
        hunk = _last_hunk(part.text, max(0, low - 1), begin)
        if hunk:
            end = hunk.find(b"\n")
            ranges = _ranges(hunk[:end])
            if ranges is None:
                return None
            _, self._line, self._last = ranges
            passed = hunk[end:]
        elif self._at < 0:
            return None
        else:
            passed = b"\n" + part.text[self._at : begin]
        self._line += passed.count(b"\n") - 1 - passed.count(b"\n-") - passed.count(b"\n\\")
        self._at = begin
        first = part.text[begin : begin + 1]
        return None if first in (b"-", b"\\", b"@") or self._line > self._last else self._line


def _added(text: Text, file: File) -> range:
    """Return the lines of the text that are a whole new file; none where the file was there."""
    head = text[file.start : min(file.end, file.start + _HEAD)]
    at = head.find(b"\n@@ -0,0 +1") + 1
    ranges = _ranges(head[at : head.find(b"\n", at)]) if at else None
    if ranges is None or not ranges[0] or ranges[1] != 1:
        return range(0)
    first = file.first_line + head.count(b"\n", 0, at) + 1
    return range(first, min(first + ranges[2], file.last_line + 1))


def _last_hunk(text: Text, low: int, high: int) -> bytes:
    """Return the last hunk that begins between two offsets, up to the second; empty for none."""
    reach = _REACH
    while True:
        # Bytes are searched many times faster than a map of a file.
        start = max(low, high - reach)
        stretch = text[start:high]
        found = stretch.rfind(b"\n@@ -")
        if found >= 0:
            return stretch[found + 1 :]
        if start == low:
            return b""
        reach *= 16


def _ranges(header: bytes) -> tuple[bool, int, int] | None:
    """Return what a header `@@ -1,2 +3,4 @@` announces.

    Returns:
        Whether no line is removed or kept, and the first and the last new line.
    """
    words = header.split(b" ", 4)
    if len(words) < 4 or not words[2].startswith(b"+") or words[3].rstrip() != b"@@":  # noqa: PLR2004 - `@@ -1 +1 @@`
        return None
    start, _, count = words[2][1:].partition(b",")
    if not start.isdigit() or not (count or b"1").isdigit():
        return None
    return words[1].endswith(b",0"), int(start), int(start) + int(count or b"1") - 1


def shown(
    groups: Sequence[Group], limit: int, per_repo: int | None = None, *, has_files: bool = True
) -> Iterator[Line]:
    """Yield the lines to show: all, or a share of each repository and pull, in order.

    Args:
        groups: in order of repository.
        limit: most lines.
        per_repo: most lines of a repository.
        has_files: say of each line what its file says: path, line and licence.
    """
    by_repo: dict[str, list[Group]] = {}
    for group in groups:
        by_repo.setdefault(group.pull.repo, []).append(group)
    sizes = [sum(len(group.hits) for group in own) for own in by_repo.values()]
    most = sizes if per_repo is None else [min(size, per_repo) for size in sizes]
    for own, share in zip(by_repo.values(), fair_shares(most, limit), strict=True):
        for group, count in zip(own, fair_shares([len(g.hits) for g in own], share), strict=True):
            if not count:
                continue
            counter = NewLines() if has_files else None
            for place in group.lines(count):
                yield Line(group, place, counter)


def fair_shares(wanted: Iterable[int], limit: int) -> list[int]:
    """Return how much each gets of a limited good, as evenly as what they want allows.

    The sum is the limit, or all that is wanted; of a rest the first ones get one each.
    """
    wants = [*wanted]
    shares = [0] * len(wants)
    left = limit
    open_ = [index for index, want in enumerate(wants) if want]
    while left and open_:
        each = left // len(open_)
        if each == 0:
            for index in open_[:left]:
                shares[index] += 1
            break
        for index in open_:
            gift = min(each, wants[index] - shares[index])
            shares[index] += gift
            left -= gift
        open_ = [index for index in open_ if shares[index] < wants[index]]
    return shares
