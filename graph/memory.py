"""The store of lessons beside the runs: append-only, shared by every run that ends or begins.

A run recalls once, when it begins, and keeps what it recalled, so that a resumed run hears the
same. What cannot be read is passed over and said: memory is never in the way of a run.
"""

import fcntl
import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from agents.lessons import Lesson, merged
from graph.durable import append_line, drop_torn_line, whole_lines

logger = logging.getLogger(__name__)

NAME = "lessons.jsonl"
OFF = "none"


def store_path(setting: str, run: Path) -> Path | None:
    """Return where lessons lie: as set, else beside the run directory; None: none are kept."""
    if setting == OFF:
        return None
    return Path(setting) if setting else run.resolve().parent / NAME


def read_lessons(path: Path) -> tuple[Lesson, ...]:
    """Return every lesson once; what is none, or cannot be read, is logged and passed over."""
    found = []
    try:
        lines = list(whole_lines(path))
    except OSError as error:
        logger.warning("lessons cannot be read path=%s: %s", path, error)
        lines = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Lesson.model_validate_json(line))
        except ValidationError:
            logger.warning("no lesson path=%s line=%d", path, number)
    return merged(found)


def teach(path: Path, lessons: Iterable[Lesson]) -> None:
    """Append what a run learnt; a store that cannot be written costs the run nothing."""
    try:
        append_lessons(path, lessons)
    except OSError as error:
        logger.warning("lessons cannot be kept path=%s: %s", path, error)


def append_lessons(path: Path, lessons: Iterable[Lesson]) -> int:
    """Append what is not there already, word for word; return how many lines were written.

    Runs may end at the same time: they take turns, and one that ends twice writes once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        drop_torn_line(path)
        known = set(whole_lines(path))
        new = [line for one in lessons if (line := one.model_dump_json().encode()) not in known]
        for line in new:
            append_line(path, line)
        return len(new)
