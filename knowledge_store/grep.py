"""Exact search over local folders of text: every hit, in path and line order, nothing ranked.

Reads files as they are at the time of the call; keeps nothing. Files that are not UTF-8 text or are
larger than a limit are passed over and counted, so that a caller can say how complete an answer is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from knowledge_store.records import Passage

_MOST_BYTES = 4 * 1024 * 1024
TEXT_SUFFIXES = frozenset(
    {".md", ".txt", ".yaml", ".py", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".j2"}
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a search found and how much it looked at."""

    passages: tuple[Passage, ...]
    hits: int
    """All matching lines, also those beyond the limit."""
    files: int
    """Files read."""
    passed_over: int
    """Files of the right suffix that could not be read as text."""


def grep(
    pattern: str,
    folder: Path,
    *,
    source: str = "",
    context: int = 0,
    limit: int = 50,
    ignore_case: bool = False,
) -> Answer:
    """Search every text file below a folder for a regular expression, line by line.

    Args:
        pattern: Python regular expression; never crosses a line.
        folder: searched recursively; links out of it are not followed.
        source: label that the passages carry.
        context: lines shown before and after a hit; hits whose lines touch become one passage.
        limit: most passages returned.
        ignore_case: match letters of either case.

    Raises:
        ValueError: the pattern is not a regular expression, or the folder does not exist.
    """
    try:
        expression = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is not a regular expression: {error}") from error
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; name one that holds text files")
    passages: list[Passage] = []
    hits = files = passed_over = 0
    for path in _text_files(folder):
        lines = _lines(path)
        if lines is None:
            passed_over += 1
            continue
        files += 1
        found = [number for number, line in enumerate(lines, 1) if expression.search(line)]
        hits += len(found)
        for first, last in _merged(found, context, len(lines)):
            if len(passages) < limit:
                name = path.relative_to(folder).as_posix()
                text = "\n".join(lines[first - 1 : last])
                passages.append(
                    Passage(path=name, source=source, first_line=first, last_line=last, text=text)
                )
    return Answer(passages=tuple(passages), hits=hits, files=files, passed_over=passed_over)


def _text_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in TEXT_SUFFIXES and path.is_file() and not path.is_symlink():
            yield path


def _lines(path: Path) -> list[str] | None:
    """Return a file's lines, split at newlines only; None where it is not text or too large."""
    if path.stat().st_size > _MOST_BYTES:
        return None
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text.removesuffix("\n").split("\n") if text else []


def _merged(hits: list[int], context: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield the line ranges around hits, merged where they touch."""
    current: tuple[int, int] | None = None
    for hit in hits:
        first, last = max(1, hit - context), min(length, hit + context)
        if current is not None and first <= current[1] + 1 and context:
            current = (current[0], last)
            continue
        if current is not None:
            yield current
        current = (first, last)
    if current is not None:
        yield current
