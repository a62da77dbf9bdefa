"""Exact search over a folder of source: a snapshot or a clone. Nothing is indexed.

The dialect is that of the index, judged by ripgrep where it has an equal of the patterns and by a
process that can be killed where it has not. Every file is searched, hidden and ignored ones too,
but for what git keeps in `.git`; links are not followed.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from knowledge_store.errors import SourceError
from knowledge_store.exact import judge, ripgrep
from knowledge_store.exact.dialect import Matcher
from knowledge_store.exact.errors import PatternError
from knowledge_store.exact.lines import SHOWN_BYTES, fair_shares
from knowledge_store.exact.nouns import ExactQuery
from knowledge_store.exact.scan import late

_LEFT_OUT = ".git"
_OPTIONS = (
    "--no-config",
    "--text",
    "--encoding=none",
    "--no-unicode",
    "--color=never",
    "--no-heading",
    "--with-filename",
    "--null",
    "--line-number",
    "--hidden",
    "--no-ignore",
    f"--glob=!{_LEFT_OUT}",
    "--regex-size-limit=200M",
    "--dfa-size-limit=200M",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHit:
    """A matching line of a file."""

    path: str
    """Relative to the folder."""
    line: int
    text: str
    """Decoded with replacement; the first 4,096 bytes of longer lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeAnswer:
    """The hits in a folder, and how many there are in all."""

    hits: tuple[TreeHit, ...]
    """In order of path and line; where there are more than the limit, files share it evenly."""
    total_hits: int
    total_files: int
    """That hold a hit."""
    is_truncated: bool
    seconds: float
    engine: str


def search_tree(folder: Path, query: ExactQuery) -> TreeAnswer:
    """Find every line of every file below a folder that a query asks for.

    Args:
        folder: searched as it is now.
        query: its filters of pull requests must be empty; `paths` are globs over relative paths.

    Raises:
        SourceError: the folder is not there.
        PatternError: a pattern is not of the dialect, or a filter means nothing for files.
        SearchTimeout: not every line was judged in time.
        EngineError: a program that judges failed.
    """
    start = time.perf_counter()
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder; clone or unpack the source first")
    filters = (query.repos, query.since, query.until, query.kinds, query.tags, query.per_repo)
    if any(filters):
        raise PatternError("files of a folder have no repository, date, kind or tag to filter by")
    specs = [(pattern, query.mode, query.ignore_case) for pattern in query.patterns]
    matchers = [Matcher(text, mode, ignore_case=folds) for text, mode, folds in specs]
    is_all = query.combine == "all" and len(matchers) > 1
    engine, found = "ripgrep", None
    if not is_all:
        found = _by_ripgrep(folder, matchers, query.timeout_s)
    if found is None:
        engine, found = "process", _by_process(folder, specs, query.timeout_s, is_all=is_all)
    chosen = {
        path: lines
        for path, lines in sorted(found.items())
        if not query.paths or any(fnmatch(path, glob) for glob in query.paths)
    }
    shares = fair_shares([len(lines) for lines in chosen.values()], query.limit)
    hits = tuple(
        TreeHit(path=path, line=line, text=text)
        for (path, lines), share in zip(chosen.items(), shares, strict=True)
        for line, text in lines[:share]
    )
    total = sum(map(len, chosen.values()))
    return TreeAnswer(
        hits=hits,
        total_hits=total,
        total_files=len(chosen),
        is_truncated=total > len(hits),
        seconds=time.perf_counter() - start,
        engine=engine,
    )


_Lines = dict[str, list[tuple[int, str]]]


def _by_ripgrep(folder: Path, matchers: Sequence[Matcher], timeout_s: float) -> _Lines | None:
    program, pattern = ripgrep.program(), ripgrep.pattern_of(matchers)
    if program is None or pattern is None:
        return None
    command = [program, *_OPTIONS, f"--regexp={pattern}", "--", "."]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise late(timeout_s) from error
    except OSError:
        return None
    if done.returncode not in (0, 1):
        return None
    return _parsed(done.stdout)


def _parsed(printed: bytes) -> _Lines:
    """Return the lines that were printed as `path NUL number : text`; a path may hold newlines."""
    found: _Lines = {}
    at = 0
    while at < len(printed):
        path_end = printed.index(b"\0", at)
        number_end = printed.index(b":", path_end)
        end = printed.index(b"\n", number_end)
        name = os.fsdecode(printed[at:path_end].removeprefix(b"./"))
        number = int(printed[path_end + 1 : number_end])
        found.setdefault(name, []).append((number, _shown(printed[number_end + 1 : end])))
        at = end + 1
    return found


def _by_process(
    folder: Path, specs: Sequence[judge.Spec], timeout_s: float, *, is_all: bool
) -> _Lines:
    deadline = time.monotonic() + timeout_s
    found: _Lines = {}
    for paths in _batches(folder):
        descriptors = [os.open(folder / path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
        try:
            files = [
                (descriptor, [(0, os.fstat(descriptor).st_size, 0)]) for descriptor in descriptors
            ]
            left = deadline - time.monotonic()
            if left <= 0:
                raise late(timeout_s)
            offsets = judge.search(specs, files, left, is_all=is_all)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        for path, hits in zip(paths, offsets, strict=True):
            if hits:
                found[path] = [*_numbered((folder / path).read_bytes(), hits)]
    return found


def _batches(folder: Path) -> Iterator[list[str]]:
    """Yield the relative paths of files that hold anything, a bounded number at a time."""
    batch: list[str] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != _LEFT_OUT)
        for name in sorted(name for name in names if name != _LEFT_OUT):
            path = Path(root, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_size:
                batch.append(path.relative_to(folder).as_posix())
        while len(batch) >= _FILES_AT_ONCE:
            yield batch[:_FILES_AT_ONCE]
            batch = batch[_FILES_AT_ONCE:]
    if batch:
        yield batch


_FILES_AT_ONCE = 200


def _numbered(text: bytes, offsets: Sequence[int]) -> Iterator[tuple[int, str]]:
    line, at = 1, 0
    for offset in offsets:
        line += text.count(b"\n", at, offset)
        at = offset
        begin = text.rfind(b"\n", 0, offset) + 1
        end = text.find(b"\n", offset)
        yield line, _shown(text[begin : end if end >= 0 else len(text)])


def _shown(text: bytes) -> str:
    return text[:SHOWN_BYTES].decode(errors="replace")
