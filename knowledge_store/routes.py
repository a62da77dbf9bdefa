"""The log of every query of a run, and what may be claimed because of it.

"Searched everything" and "nobody did this before" are claims about a search: they hold only where a
complete search of that subject is in the log. An idea is borrowed from a diff that was opened.
"""

import fcntl
import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from knowledge_store.errors import KnowledgeError, StoreError
from knowledge_store.findings import SearchAnswer, SearchFilter
from knowledge_store.pages import Page

LoggedRoute = Literal["lines", "meaning", "page", "source", "web"]
_OPENED = frozenset({"page"})


class Unfounded(KnowledgeError):
    """A claim has no entry in the log that bears it out; the message says which search would."""


class RouteEntry(BaseModel):
    """One query."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: str
    """UTC, ISO 8601."""
    route: LoggedRoute
    query: str
    scope: dict[str, str | tuple[str, ...]] = {}
    """The filter; empty where everything was searched."""
    is_complete: bool = False
    """Every match in the scope was counted."""
    pulls: int = 0
    lines: int = 0
    searched: int = 0
    """Pull requests, or repositories, in the scope."""
    keys: tuple[str, ...] = ()
    """Found, or opened."""
    without_diff: tuple[str, ...] = ()
    """Keys in the scope that could not be searched: the store does not have their diffs."""
    has_diff: bool = False
    """The diff itself was opened."""
    licences: dict[str, str] = {}
    """Of the keys."""


class RouteLog:
    """An append-only file of one run; several processes may write it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: RouteEntry) -> None:
        """Write an entry; it is on disk when this returns.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write(entry.model_dump_json().encode() + b"\n")
        except OSError as error:
            raise StoreError(
                f"the route log {self.path} cannot be written: {error.strerror}; name a file"
            ) from error

    def _write(self, line: bytes) -> None:
        # One write of one line: appends of two processes never mix. The lock is for the mending.
        number = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            _mend(number)
            os.write(number, line)
            os.fsync(number)
        finally:
            os.close(number)

    def entries(self) -> tuple[RouteEntry, ...]:
        """Return every entry, oldest first; a last line that was cut off by a crash is left out.

        Raises:
            StoreError: an earlier line is damaged.
        """
        if not self.path.is_file():
            return ()
        rows = self.path.read_bytes().split(b"\n")
        found: list[RouteEntry] = []
        for number, row in enumerate(rows, start=1):
            if not row:
                continue
            try:
                found.append(RouteEntry.model_validate_json(row))
            except ValidationError as error:
                if number == len(rows):
                    break
                raise StoreError(f"{self.path}, line {number}, is damaged; move it away") from error
        return tuple(found)


def _mend(number: int) -> None:
    """End a last line that a crash left without its end, or remove it where it is not whole.

    The next entry would continue that line, and both would be lost with all the others.
    """
    size = os.fstat(number).st_size
    if not size or os.pread(number, 1, size - 1) == b"\n":
        return
    content = os.pread(number, size, 0)
    begin = content.rfind(b"\n") + 1
    try:
        RouteEntry.model_validate_json(content[begin:])
    except ValidationError:
        os.ftruncate(number, begin)
    else:
        os.write(number, b"\n")


def of_search(answer: SearchAnswer, only: SearchFilter) -> RouteEntry:
    """Return the entry of a search."""
    scope = {name: value for name, value in only.model_dump().items() if value}
    return RouteEntry(
        at=_now(),
        route="meaning" if answer.route == "meaning" else "lines",
        query=answer.query,
        scope=scope,
        is_complete=answer.is_complete,
        without_diff=answer.without_diff,
        pulls=answer.total_pulls,
        lines=answer.total_lines,
        searched=answer.searched_pulls,
        keys=tuple(one.key for one in answer.found),
        licences={one.key: one.licence for one in answer.found},
    )


def of_page(page: Page) -> RouteEntry:
    """Return the entry of a page that was opened."""
    return RouteEntry(
        at=_now(),
        route="page",
        query=page.slug,
        is_complete=bool(page.diff) or page.pull.diff_state != "present",
        pulls=1,
        searched=1,
        keys=(page.key,),
        has_diff=bool(page.diff),
        licences={page.key: page.pull.licence},
    )


def of_fetch(route: Literal["source", "web"], query: str, keys: Iterable[str]) -> RouteEntry:
    """Return the entry of a search in cloned sources, or of a page of the web."""
    named = tuple(keys)
    return RouteEntry(at=_now(), route=route, query=query, keys=named, searched=len(named))


def require_complete(entries: Iterable[RouteEntry], subject: str) -> RouteEntry:
    """Return the complete search that lets a run say it looked everywhere for a subject.

    What it could not search, `without_diff`, belongs into whatever is said.

    Raises:
        Unfounded: no search of all pull requests for exactly that subject is logged as complete.
    """
    wanted = subject.strip().strip('"`').lower()
    narrow = False
    for entry in entries:
        if entry.route == "lines" and entry.query.strip().strip('"`').lower() == wanted:
            if entry.is_complete and not entry.scope:
                return entry
            narrow = True
    why = "the searches for it were filtered or cut off" if narrow else "no search for it is logged"
    raise Unfounded(
        f"nobody may say that everything was searched for {subject!r}: {why}; run "
        f"`kernelpilot knowledge grep {json.dumps(subject)}` without a filter"
    )


def require_opened(entries: Iterable[RouteEntry], key: str) -> RouteEntry:
    """Return the entry that lets a run say it borrowed an idea from a pull request.

    Raises:
        Unfounded: its diff was never opened.
    """
    for entry in entries:
        if entry.route in _OPENED and key in entry.keys and entry.has_diff:
            return entry
    raise Unfounded(
        f"nothing may be borrowed from {key}: its diff was not opened; run "
        f"`kernelpilot knowledge show {key}`"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
