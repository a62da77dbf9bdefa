"""Answering a request over the open parts: who judges which lines, and what passes the filters.

A part whose index leaves few blocks is judged in this process. Where much of it would have to be
read ripgrep is faster, and where its engine has no equal of a pattern a process that can be killed
judges. Loaded by one-shot searches.
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_left, bisect_right
from itertools import pairwise

from knowledge_store.exact import grams, ripgrep
from knowledge_store.exact.dialect import Matcher
from knowledge_store.exact.scan import TooWideError, finder_of, is_anchored, late, runs, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from knowledge_store.exact.part import File, Part, Pull
    from knowledge_store.exact.scan import Finder

    Open = tuple[Part, frozenset[int]]
    """A part, and the positions of its pulls that are no longer of the index."""

# Of a part's blocks, how many are judged here before ripgrep is as fast; measured by `make
# bench-knowledge`. Fixed text is found here without a test of each line; ripgrep takes twice as
# long where case is ignored. A small part is always judged here: a process takes longer to start.
_SHARE = 0.06
_SHARE_OF_LITERALS = 0.10
_FOLDED = 1.6
_ALWAYS_BLOCKS = 400
_MANY = 4096


class Request:
    """What is asked, read once."""

    __slots__ = ("_globs", "engines", "is_all", "kinds", "matchers", "repos", "since", "specs",
                 "tags", "timeout_s", "until")  # fmt: skip

    def __init__(
        self,
        patterns: Iterable[str],
        mode: str = "literal",
        *,
        is_all: bool = False,
        ignore_case: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        """Read the patterns.

        Raises:
            PatternError: one of them is not of the dialect.
        """
        self.specs = [(pattern, mode, ignore_case) for pattern in dict.fromkeys(patterns)]
        self.matchers = [Matcher(text, mode, ignore_case=folds) for text, mode, folds in self.specs]
        self.is_all = is_all and len(self.matchers) > 1
        self.timeout_s = timeout_s
        self.repos: frozenset[str] = frozenset()
        self.kinds: frozenset[str] = frozenset()
        self.tags: frozenset[str] = frozenset()
        self.since = ""
        self.until = ""
        self._globs: re.Pattern[str] | None = None

    def narrow(
        self,
        *,
        repos: Iterable[str] = (),
        paths: Collection[str] = (),
        since: str = "",
        until: str = "",
        kinds: Iterable[str] = (),
        tags: Iterable[str] = (),
    ) -> None:
        """Set the filters; see `ExactQuery`."""
        self.repos = frozenset(repo.lower() for repo in repos)
        self.kinds = frozenset(kinds)
        self.tags = frozenset(tag.lower() for tag in tags)
        self.since, self.until = since, until
        if paths:
            import fnmatch  # noqa: PLC0415 - only filtered searches need them
            import re  # noqa: PLC0415 - literals need none

            self._globs = re.compile("|".join(map(fnmatch.translate, paths)))

    def wants(self, pull: Pull) -> bool:
        """Say whether a pull passes the filters."""
        if self.repos:
            repo = pull.repo.lower()
            if repo not in self.repos and repo.rpartition("/")[2] not in self.repos:
                return False
        if (self.since or self.until) and not pull.merged_at:
            return False
        if self.since and pull.merged_at < self.since:
            return False
        if self.until and pull.merged_at > self.until:
            return False
        return self.tags <= pull.tags

    @property
    def chooses_pulls(self) -> bool:
        """Say whether some pulls may not pass."""
        return bool(self.repos or self.since or self.until or self.tags)

    @property
    def chooses_files(self) -> bool:
        """Say whether some files of a pull may not pass."""
        return bool(self.kinds) or self._globs is not None

    def wants_file(self, file: File | None) -> bool:
        """Say whether a file passes the filters."""
        if file is None or (self.kinds and file.kind not in self.kinds):
            return False
        return self._globs is None or self._globs.match(file.path) is not None


class Group:
    """The hits of one pull in order."""

    __slots__ = ("_are_lines", "hits", "part", "pull")

    def __init__(self, part: Part, pull: Pull, hits: Sequence[int], *, are_lines: bool) -> None:
        self.part = part
        self.pull = pull
        self.hits = hits
        self._are_lines = are_lines

    def lines(self, most: int) -> Iterable[tuple[int, int, int]]:
        """Return of each of the first lines where it begins and ends and how many lie before."""
        find = self.part.line if self._are_lines else self.part.line_at
        return map(find, self.hits[:most])


def search(parts: Sequence[Open], request: Request) -> tuple[list[Group], str]:
    """Return the hits of every pull in order of repository and number, and what judged last.

    Raises:
        SearchTimeout: not every line was judged in time.
        EngineError: a program that judges failed.
        IndexCorrupt: a part cannot be read.
    """
    deadline = time.monotonic() + request.timeout_s
    groups: list[Group] = []
    heavy: list[Open] = []
    engine = "index"
    for part, dead in parts:
        hits = _by_index(part, dead, request, deadline)
        if hits is None:
            heavy.append((part, dead))
        else:
            groups += _grouped((part, dead), hits, request, are_lines=False)
    if heavy:
        engine, found = _by_program([part for part, _ in heavy], request, deadline)
        are_lines = engine == "ripgrep"
        for own, lines in zip(heavy, found, strict=True):
            groups += _grouped(own, lines, request, are_lines=are_lines)
    groups.sort(key=_place)
    return groups, engine


def _place(group: Group) -> tuple[str, int]:
    return group.pull.place


def _by_index(
    part: Part, dead: frozenset[int], request: Request, deadline: float
) -> list[int] | None:
    """Return the hits of a part; None where another engine should judge it."""
    matchers, is_all = request.matchers, request.is_all
    blocks: Sequence[int] = range(len(part.block_pulls))
    match = grams.query(part, matchers, is_all=is_all)
    most = max(_ALWAYS_BLOCKS, int(len(blocks) * _share(matchers)))
    if match is not None:
        blocks = part.candidates(match, most + 1)
    if len(blocks) > most or not (is_anchored(matchers, is_all=is_all) or len(blocks) < most):
        return None
    if dead or request.chooses_pulls:
        wanted = {
            number
            for number in {part.block_pulls[block] for block in blocks}
            if number not in dead and request.wants(part.pull(number))
        }
        blocks = [block for block in blocks if part.block_pulls[block] in wanted]
    ranges = runs(blocks, part.block_starts, part.block_pulls)
    try:
        finder = finder_of(matchers, is_all=is_all)
        return scan(part.text, ranges, finder, deadline, request.timeout_s)
    except TooWideError:
        return None


def _share(matchers: Sequence[Matcher]) -> float:
    """Return the share of a part that is judged here as fast as by ripgrep."""
    is_fixed = all(matcher.literal is not None for matcher in matchers)
    share = _SHARE_OF_LITERALS if is_fixed else _SHARE
    return share * _FOLDED if all(matcher.folds for matcher in matchers) else share


def _by_program(
    parts: Sequence[Part], request: Request, deadline: float
) -> tuple[str, Sequence[Sequence[int]]]:
    """Return the engine's name and the hits of each part: ripgrep's are lines, others offsets."""
    found = _by_ripgrep(parts, request, deadline)
    if found is not None:
        return "ripgrep", found
    from knowledge_store.exact import judge  # noqa: PLC0415 - few searches come here

    files = []
    for part in parts:
        match = grams.query(part, request.matchers, is_all=request.is_all)
        count = len(part.block_pulls)
        blocks = part.candidates(match, count) if match is not None else range(count)
        files.append((part.descriptor, runs(blocks, part.block_starts, part.block_pulls)))
    left = _left(deadline, request.timeout_s)
    return "process", judge.search(request.specs, files, left, is_all=request.is_all)


def _by_ripgrep(
    parts: Sequence[Part], request: Request, deadline: float
) -> Sequence[Sequence[int]] | None:
    matchers = request.matchers
    files = [part.descriptor for part in parts]
    left = _left(deadline, request.timeout_s)
    if not request.is_all:
        return ripgrep.search(files, matchers, left)
    # It cannot ask for lines that match two patterns: it finds those of one, we try the others.
    known = [matcher for matcher in matchers if matcher.ripgrep is not None]
    if not known:
        return None
    first = max(known, key=lambda m: min(map(len, m.clauses[0])) if m.clauses else 0)
    found = ripgrep.search(files, [first], left)
    if found is None:
        return None
    test = finder_of([matcher for matcher in matchers if matcher is not first], is_all=True)
    try:
        return [
            _passing(part, lines, test, deadline, request.timeout_s)
            for part, lines in zip(parts, found, strict=True)
        ]
    except TooWideError:
        return None


def _passing(
    part: Part, lines: Iterable[int], finder: Finder, deadline: float, timeout_s: float
) -> list[int]:
    """Return those of some lines that a finder finds something in."""
    passing: list[int] = []
    for line in lines:
        begin, end, _ = part.line(line)
        if finder(part.text[begin : end + 1]):
            passing.append(line)
        if time.monotonic() > deadline:
            raise late(timeout_s)
    return passing


def _left(deadline: float, timeout_s: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise late(timeout_s)
    return left


def _grouped(
    opened: Open, hits: Sequence[int], request: Request, *, are_lines: bool
) -> Iterator[Group]:
    """Yield the hits of each pull that passes the filters."""
    part, dead = opened
    starts = part.pull_lines() if are_lines else part.pull_starts
    is_narrow, chooses_files = request.chooses_pulls, request.chooses_files
    pull_at = part.pulls().__getitem__ if len(hits) >= _MANY else part.pull
    for number, begin, end in _cut(hits, starts):
        if number in dead:
            continue
        pull = pull_at(number)
        if is_narrow and not request.wants(pull):
            continue
        own = hits[begin:end]
        if chooses_files:
            own = [hit for hit in own if _is_in_wanted_file(part, number, hit, request, are_lines)]
        if own:
            yield Group(part, pull, own, are_lines=are_lines)


def _is_in_wanted_file(
    part: Part,
    number: int,
    hit: int,
    request: Request,
    are_lines: bool,  # noqa: FBT001 - called for every hit
) -> bool:
    line = hit if are_lines else part.line_at(hit)[2]
    return request.wants_file(part.file_at(number, line))


def _cut(hits: Sequence[int], starts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield each stretch between neighbouring starts that has hits: its number and their bounds."""
    if len(hits) >= _MANY and "numpy" in sys.modules:
        import numpy as np  # noqa: PLC0415 - loaded already

        bounds = np.searchsorted(np.asarray(hits), np.asarray(starts)).tolist()
        for number, (begin, end) in enumerate(pairwise(bounds)):
            if begin < end:
                yield number, begin, end
        return
    at, number = 0, 0
    while at < len(hits):
        number = bisect_right(starts, hits[at], number) - 1
        after = bisect_left(hits, starts[number + 1], at)
        yield number, at, after
        at = after
