"""Judging lines in this process: find a literal that a hit must hold, then try the line around it.

Loaded by one-shot searches and by the judging process.
"""

from __future__ import annotations

import time

from knowledge_store.exact.dialect import WORD
from knowledge_store.exact.errors import SearchTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterable, Sequence

    from knowledge_store.exact.dialect import Matcher

    Finder = Callable[[bytes], Iterable[int]]
    Text = mmap.mmap | bytes

_RUN_BYTES = 1 << 18


class TooWideError(Exception):
    """A line is too wide for backtracking to be safe here."""


def late(timeout_s: float) -> SearchTimeout:
    """Return the error of a search whose time is over."""
    return SearchTimeout(
        f"not every line was judged within {timeout_s:.3g} s: add a literal of three bytes or more "
        "to the pattern, avoid repeats inside of repeats, or allow more time"
    )


def runs(
    blocks: Iterable[int], starts: Sequence[int], pulls: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Return neighbouring blocks of a pull as one: begin, end and pull."""
    found: list[tuple[int, int, int]] = []
    begin, end, owner = 0, -1, -1
    for block in blocks:
        start, pull = starts[block], pulls[block]
        if start == end and pull == owner and start - begin < _RUN_BYTES:
            end = starts[block + 1]
            continue
        if end >= 0:
            found.append((begin, end, owner))
        begin, end, owner = start, starts[block + 1], pull
    if end >= 0:
        found.append((begin, end, owner))
    return found


def scan(
    text: Text,
    ranges: Iterable[tuple[int, int, int]],
    finder: Finder,
    deadline: float,
    timeout_s: float,
) -> list[int]:
    """Return an offset in every matching line of some ranges of whole lines, in order.

    Raises:
        SearchTimeout: the deadline passed.
        TooWideError: see `finder_of`.
    """
    hits: list[int] = []
    for begin, end, _ in ranges:
        found = finder(text[begin:end])
        hits += [begin + at for at in found]
        if time.monotonic() > deadline:
            raise late(timeout_s)
    return hits


def is_anchored(matchers: Sequence[Matcher], *, is_all: bool) -> bool:
    """Say whether lines can be found by a literal, so that few are judged one by one."""
    has_literal = [bool(matcher.clauses) for matcher in matchers]
    return any(has_literal) if is_all else all(has_literal)


def finder_of(matchers: Sequence[Matcher], *, is_all: bool, is_bounded: bool = True) -> Finder:
    """Return the function from text of whole lines to an offset in each that matches, in order.

    Args:
        matchers: what to look for.
        is_all: a line must match all of them, not any.
        is_bounded: it raises TooWideError where a line is too wide for a pattern's backtracking.
    """
    if not is_anchored(matchers, is_all=is_all):
        return _every_line(
            _all_of(matchers, is_bounded) if is_all else _any_of(matchers, is_bounded)
        )
    if is_all:
        first = max((m for m in matchers if m.clauses), key=lambda m: min(map(len, m.clauses[0])))
        return _lines_with(first, _all_of(matchers, is_bounded))
    finders = [_finder(matcher, is_bounded) for matcher in matchers]
    if len(finders) == 1:
        return finders[0]
    return lambda text: _merged(text, finders)


def _finder(matcher: Matcher, is_bounded: bool) -> Finder:  # noqa: FBT001 - passed on
    if matcher.literal is None:
        return _lines_with(matcher, _all_of([matcher], is_bounded))
    find = _lines_of_word if matcher.is_word else _lines_of_literal
    return find(matcher.literal, folds=matcher.folds)


def _lines_of_literal(literal: bytes, *, folds: bool) -> Finder:
    def find(text: bytes) -> list[int]:
        if folds:
            text = text.lower()
        found: list[int] = []
        at = text.find(literal)
        while at >= 0:
            found.append(at)
            at = text.find(b"\n", at)
            if at < 0:
                break
            at = text.find(literal, at)
        return found

    return find


def _lines_of_word(literal: bytes, *, folds: bool) -> Finder:
    def find(text: bytes) -> list[int]:
        if folds:
            text = text.lower()
        found: list[int] = []
        at = text.find(literal)
        while at >= 0:
            after = text[at + len(literal) : at + len(literal) + 1]
            if (at and text[at - 1] in WORD) or (after and after[0] in WORD):
                at = text.find(literal, at + 1)
                continue
            found.append(at)
            at = text.find(b"\n", at)
            if at < 0:
                break
            at = text.find(literal, at)
        return found

    return find


def _lines_with(matcher: Matcher, test: Callable[[bytes], bool]) -> Finder:
    """Return the finder of lines that hold a literal of a pattern's best clause and pass a test."""
    anchors, folds = matcher.clauses[0], matcher.folds

    def find(text: bytes) -> list[int]:
        searched = text.lower() if folds else text
        lines: dict[int, int] = {}
        for anchor in anchors:
            at = searched.find(anchor)
            while at >= 0:
                begin, end = searched.rfind(b"\n", 0, at) + 1, searched.find(b"\n", at)
                if end < 0:
                    end = len(searched)
                lines[begin] = end
                at = searched.find(anchor, end)
        return [begin for begin in sorted(lines) if test(text[begin : lines[begin]])]

    return find


def _every_line(test: Callable[[bytes], bool]) -> Finder:
    def find(text: bytes) -> list[int]:
        found: list[int] = []
        at = 0
        for line in text.removesuffix(b"\n").split(b"\n") if text else []:
            if test(line):
                found.append(at)
            at += len(line) + 1
        return found

    return find


def _merged(text: bytes, finders: Sequence[Finder]) -> list[int]:
    lines = {text.rfind(b"\n", 0, at) + 1 for finder in finders for at in finder(text)}
    return sorted(lines)


def _all_of(matchers: Sequence[Matcher], is_bounded: bool) -> Callable[[bytes], bool]:  # noqa: FBT001 - private
    if len(matchers) == 1:
        return _test_of(matchers[0], is_bounded)
    tests = [_test_of(matcher, is_bounded) for matcher in matchers]
    return lambda line: all(test(line) for test in tests)


def _any_of(matchers: Sequence[Matcher], is_bounded: bool) -> Callable[[bytes], bool]:  # noqa: FBT001 - private
    tests = [_test_of(matcher, is_bounded) for matcher in matchers]
    return lambda line: any(test(line) for test in tests)


def _test_of(matcher: Matcher, is_bounded: bool) -> Callable[[bytes], bool]:  # noqa: FBT001 - private
    expression = matcher.expression
    if expression is None:
        return matcher.test
    search, most = expression.search, matcher.most_width

    def test(line: bytes) -> bool:
        if is_bounded and len(line) > most:
            raise TooWideError
        return search(line) is not None

    return test
