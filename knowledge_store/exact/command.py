"""`kernelpilot-grep`: one exact search in a process of its own, as fast as such a process starts.

The full command is `kernelpilot knowledge grep`. Nothing on the way from here to an answer may
import what is slow to load: no argparse, typer, pydantic or dataclasses, no json unless asked for.
"""

from __future__ import annotations

import os
import sys

from knowledge_store.errors import KnowledgeError
from knowledge_store.exact import manifest as manifests
from knowledge_store.exact.engine import Request, search
from knowledge_store.exact.errors import IndexCorrupt
from knowledge_store.exact.lines import shown
from knowledge_store.exact.part import Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knowledge_store.exact.engine import Group

_USAGE = """usage: kernelpilot-grep [options] PATTERN...

Lines of the diffs of a knowledge store that match any PATTERN, as owner/name#12:line:text.

  --store DIR      the store (default: {store})
  -e, --regex      patterns are regular expressions (Python's, over bytes)
  -w, --word       patterns are whole words
  -i, --ignore-case
  --all            lines that match every pattern
  --repo NAME      only this repository (again for more)
  --path GLOB      only files whose path matches (again for more)
  --kind KIND      only files of this kind (again for more)
  --tag TAG        only pulls with this tag (again for more)
  --since DAY, --until DAY   only pulls merged then, as 2025-01-31
  --limit N        most lines printed, shared by repositories and pulls (default: 200)
  --per-repo N     most lines printed of one repository
  --timeout S      seconds allowed (default: 10)
  --count          print only how many lines and pulls
  --json           print JSON
Exit status: 0 lines were found, 1 none, 2 the search failed.
"""
_VALUES = {
    "--store", "--repo", "--path", "--kind", "--tag", "--since", "--until", "--limit",
    "--per-repo", "--timeout",
}  # fmt: skip
_FLAGS = {
    "-e": "--regex", "-w": "--word", "-i": "--ignore-case", "-h": "--help",
}  # fmt: skip
_SWITCHES = {"--regex", "--word", "--ignore-case", "--all", "--count", "--json", "--help"}
_ATTEMPTS = 5
STORE = "knowledge"


class UsageError(Exception):
    """The command line is wrong; the message says how."""


class Arguments:
    """A command line."""

    def __init__(self, words: Sequence[str]) -> None:
        """Read one.

        Raises:
            UsageError: it is wrong.
        """
        self.patterns: list[str] = []
        self.values: dict[str, list[str]] = {}
        self.switches: set[str] = set()
        left = [*words]
        while left:
            word = left.pop(0)
            name, _, given = word.partition("=")
            if word == "--":
                self.patterns += left
                break
            if word in _FLAGS or word in _SWITCHES:
                self.switches.add(_FLAGS.get(word, word))
            elif name in _VALUES:
                if "=" not in word and not left:
                    raise UsageError(f"{name} wants a value")
                self.values.setdefault(name, []).append(given if "=" in word else left.pop(0))
            elif word.startswith("-") and len(word) > 1:
                raise UsageError(f"no option {word}; write `--` before a pattern that begins so")
            else:
                self.patterns.append(word)
        if not self.patterns and "--help" not in self.switches:
            raise UsageError("name a pattern")

    def last(self, name: str, default: str = "") -> str:
        """Return the last value of an option."""
        return self.values.get(name, [default])[-1]

    def number(self, name: str, default: float) -> float:
        """Return an option's value, above zero.

        Raises:
            UsageError: it is none.
        """
        try:
            number = float(self.last(name, str(default)))
        except ValueError as error:
            raise UsageError(f"{name} {self.last(name)} is no number") from error
        if not 0 < number < float("inf"):
            raise UsageError(f"{name} {self.last(name)} must be above zero")
        return number

    def whole(self, name: str, default: int) -> int:
        """Return an option's value, a whole number above zero.

        Raises:
            UsageError: it is none.
        """
        number = self.number(name, default)
        if number != int(number):
            raise UsageError(f"{name} {self.last(name)} is no whole number")
        return int(number)

    def day(self, name: str) -> str:
        """Return an option's value, a day or nothing.

        Raises:
            UsageError: it is none; days are compared as text, so another form would find wrongly.
        """
        day = self.last(name)
        parts = day.split("-")
        is_day = [*map(len, parts)] == [4, 2, 2] and day.isascii() and "".join(parts).isdigit()
        if day and not is_day:
            raise UsageError(f"{name} {day} is no day; write it as 2025-01-31")
        return day

    def request(self) -> Request:
        """Return what is asked.

        Raises:
            PatternError: a pattern is not of the dialect.
            UsageError: a value is wrong.
        """
        on = self.switches
        mode = "regex" if "--regex" in on else "word" if "--word" in on else "literal"
        request = Request(
            self.patterns,
            mode,
            is_all="--all" in on,
            ignore_case="--ignore-case" in on,
            timeout_s=self.number("--timeout", 10),
        )
        request.narrow(
            repos=self.values.get("--repo", ()),
            paths=self.values.get("--path", ()),
            since=self.day("--since"),
            until=self.day("--until"),
            kinds=self.values.get("--kind", ()),
            tags=self.values.get("--tag", ()),
        )
        return request


def run(words: Sequence[str]) -> int:
    """Search as a command line says; return the exit status."""
    store = os.environ.get("KERNELPILOT_KNOWLEDGE", STORE)
    try:
        arguments = Arguments(words)
        if "--help" in arguments.switches:
            sys.stdout.write(_USAGE.format(store=store))
            return 0
        return _answer(arguments, os.path.join(arguments.last("--store", store), "exact"))
    except UsageError as error:
        sys.stderr.write(f"kernelpilot-grep: {error} (--help lists the options)\n")
    except KnowledgeError as error:
        sys.stderr.write(f"kernelpilot-grep: {error}\n")
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing is left to be flushed to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # Without this a store that cannot be read would exit as if nothing were found.
        sys.stderr.write(f"kernelpilot-grep: {error}\n")
    return 2


def _answer(arguments: Arguments, folder: str) -> int:
    request = arguments.request()
    limit, per_repo = arguments.whole("--limit", 200), arguments.values.get("--per-repo")
    groups, engine = search(_opened(folder), request)
    total = sum(len(group.hits) for group in groups)
    if "--count" in arguments.switches:
        sys.stdout.write(f"{total} lines in {len(groups)} pulls\n")
        return 0 if total else 1
    most = arguments.whole("--per-repo", 1) if per_repo else None
    if "--json" in arguments.switches:
        _print_json(groups, limit, most, engine)
    else:
        printed = 0
        for line in shown(groups, limit, most, has_files=False):
            sys.stdout.write(f"{line.key}:{line.diff_line}:{line.text}\n")
            printed += 1
        if printed < total:
            remedy = f"--limit {total}" + (" without --per-repo" if most else "")
            sys.stderr.write(f"{total} lines in {len(groups)} pulls; {remedy} shows all\n")
    sys.stdout.flush()
    return 0 if total else 1


def _print_json(groups: Sequence[Group], limit: int, per_repo: int | None, engine: str) -> None:
    import json  # noqa: PLC0415 - only when it is asked for

    hits = [
        {
            "key": line.key,
            "repo": line.repo,
            "pr": line.number,
            "diff_line": line.diff_line,
            "path": line.path,
            "new_line": line.new_line,
            "text": line.text,
            "licence": line.licence,
        }
        for line in shown(groups, limit, per_repo)
    ]
    total = sum(len(group.hits) for group in groups)
    answer = {
        "hits": hits,
        "total_hits": total,
        "total_pulls": len(groups),
        "is_truncated": total > len(hits),
        "engine": engine,
    }
    sys.stdout.write(json.dumps(answer) + "\n")


def _opened(folder: str) -> list[tuple[Part, frozenset[int]]]:
    """Return the parts of an index.

    Raises:
        IndexMissing: nothing is indexed.
        IndexCorrupt: a file is damaged or gone.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return [*_parts(folder)]
        except FileNotFoundError as error:
            # An update replaced a part after the manifest was read: read it again.
            if attempt == _ATTEMPTS - 1:
                raise IndexCorrupt(
                    f"{error.filename} is gone; run `kernelpilot knowledge update`"
                ) from error
    raise AssertionError("unreachable: the last attempt returns or raises")


def _parts(folder: str) -> Iterator[tuple[Part, frozenset[int]]]:
    for listed in manifests.read(folder).parts:
        manifests.check(folder, listed)
        yield Part(os.path.join(folder, listed.name)), listed.dead
