"""The rules that a store keeps, each checked on what is there; a violation names rule and place.

Nothing is repaired here: indices are made anew by an update, the truth by another ingestion.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from knowledge_store import source_map
from knowledge_store.errors import KnowledgeError, StoreError
from knowledge_store.exact import Exact, ExactQuery
from knowledge_store.lexical import Lexical
from knowledge_store.operations import ABSENT
from knowledge_store.places import StorePlaces
from knowledge_store.pulls import UNKNOWN_LICENCE, Chunk, DiffFile, PullRequest
from knowledge_store.sources.catalogue import shipped_catalogue
from knowledge_store.tags import group_of
from knowledge_store.truth import Truth

_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*( (AND|OR|WITH) [A-Za-z0-9(][A-Za-z0-9.+()-]*)*")
_PULL_URL = re.compile(r"https?://[\w.-]+/(?P<repo>[\w.-]+/[\w.-]+)/pull/(?P<number>\d+)/?")
_FIRST_DAY = "2005-01-01"
_LARGEST_DIFF = 128 * 1024 * 1024
_LONGEST_TITLE = 1000


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that is broken somewhere."""

    rule: str
    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Held:
    """All that the truth holds of one pull request."""

    pull: PullRequest
    diff: bytes
    files: tuple[DiffFile, ...]
    chunks: tuple[Chunk, ...]


Said = Iterator[tuple[str, str]]
"""Rule and what breaks it."""


def violations(store: Path, *, today: str = "") -> Iterator[Violation]:
    """Yield every violation in a store.

    Args:
        store: its folder.
        today: a day that no merge may be after; this one where it is empty.

    Raises:
        StoreError: there is no store.
    """
    today = today or datetime.now(UTC).date().isoformat()
    with Truth(store, read_only=True) as truth:
        for line in truth.verify():
            yield Violation("truth", str(truth.path), line)
        yield from _of_pulls(truth, today)
        yield from _of_tombstones(truth)
        yield from _of_indices(store, truth)
    yield from _of_configs()


def of_pull(held: Held, today: str) -> Said:
    """Yield what breaks a rule in one pull request."""
    for check in (_fields, _dates, _address, _licence, _diff_state):
        yield from check(held, today)
    yield from _file_ranges(held)
    yield from _chunk_places(held)


def _fields(held: Held, _today: str) -> Said:
    pull = held.pull
    if not pull.title.strip():
        yield "title", "it has no title"
    elif len(pull.title) > _LONGEST_TITLE or "\n" in pull.title:
        yield "title", "its title is not one line of at most 1000 characters"
    if pull.origin in {"bundle", "github"} and not pull.url:
        yield "url", f"it came from {pull.origin} and has no URL"


def _dates(held: Held, today: str) -> Said:
    pull = held.pull
    if pull.merged_at and not _FIRST_DAY <= pull.merged_at <= today:
        yield "date", f"merged on {pull.merged_at}, outside {_FIRST_DAY} to {today}"
    # A bundle may lack either: some forges merge by a bot, which closes the pull request instead.
    if pull.origin == "git" and not (pull.merged_at and pull.merge_commit):
        yield "merge", "it came from a clone without its merge commit and date"


def _address(held: Held, _today: str) -> Said:
    pull = held.pull
    found = _PULL_URL.fullmatch(pull.url) if "/pull/" in pull.url else None
    named = found and f"{found['repo']}#{found['number'].lstrip('0')}".lower()
    if named and named != pull.key.lower():
        yield "url", f"{pull.url} is another pull request's"


def _licence(held: Held, _today: str) -> Said:
    licence = held.pull.licence
    if licence != UNKNOWN_LICENCE and not _LICENCE.fullmatch(licence):
        yield "licence", f"{licence!r} is no SPDX expression and not `unknown`"


def _diff_state(held: Held, _today: str) -> Said:
    pull = held.pull
    if (pull.diff_state == "present") != bool(pull.diff_sha256):
        yield (
            "digest",
            f"its diff is {pull.diff_state} and its digest {pull.diff_sha256 or 'empty'}",
        )
    if pull.diff_state != "present" and (held.files or held.chunks):
        yield "derived", "it has no diff, but files or chunks of one"
    if len(held.diff) > _LARGEST_DIFF:
        yield "size", f"its diff has {len(held.diff)} bytes, more than {_LARGEST_DIFF}"


def _file_ranges(held: Held) -> Said:
    lines = held.diff.count(b"\n") + (not held.diff.endswith(b"\n"))
    before = 0
    for place, file in enumerate(held.files):
        if file.index != place:
            yield "files", f"file {place} says that it is number {file.index}"
        if not before < file.first_line <= file.last_line <= lines:
            yield "files", f"{file.path}: lines {file.first_line}-{file.last_line} of {lines}"
        before = file.last_line


def _chunk_places(held: Held) -> Said:
    rows = held.diff.split(b"\n")
    paths = {file.path for file in held.files}
    for chunk in held.chunks:
        name = chunk.chunk_id
        if not name.startswith(f"{held.pull.key}:"):
            yield "chunk id", f"{name} does not begin with its key"
        if chunk.path not in paths:
            yield "reference", f"{name}: no file {chunk.path!r} in its diff"
        first = chunk.text.partition("\n")[0]
        at = chunk.diff_line - 1
        raw = rows[at].decode("utf-8", "replace").rstrip("\r") if 0 <= at < len(rows) else None
        if raw is None or not raw.startswith(first.rstrip("\r…")[:200]):
            yield "chunk", f"{name}: line {chunk.diff_line} of the diff is not where it begins"
        odd = [tag for tag in chunk.tags if not is_tag(tag)]
        if odd:
            yield "tags", f"{name}: {', '.join(odd)} not in the vocabulary"


def is_tag(tag: str) -> bool:
    """Tell whether a tag is in the vocabulary, or given by a file's suffix."""
    return bool(group_of(tag)) or tag in {"cuda", "ptx", "hip", "licence-header"}


def _of_pulls(truth: Truth, today: str) -> Iterator[Violation]:
    for key in truth.keys():  # noqa: SIM118 - not a mapping
        try:
            pull = truth.pull(key)
            if pull is None:
                yield Violation("truth", key, "it is listed, and has no record")
                continue
            if pull.key != key:
                yield Violation("identity", key, f"its record is of {pull.key}")
            held = Held(pull, truth.diff(key), truth.files(key), truth.chunks(key))
        except (StoreError, ValueError) as error:
            yield Violation("truth", key, str(error))
            continue
        for rule, what in of_pull(held, today):
            yield Violation(rule, key, what)


def _of_tombstones(truth: Truth) -> Iterator[Violation]:
    for one in truth.tombstones():
        if truth.pull(one.key) is not None:
            yield Violation("tombstone", one.key, "it was taken out and is still there")
        if not one.reason.strip():
            yield Violation("tombstone", one.key, "it was taken out without a reason")
    for row in truth.decisions():
        if not row.reason.strip():
            yield Violation("ledger", row.key, f"{row.decision} without a reason")
    for key in truth.outdated():
        yield Violation("derived", key, "an older version cut its chunks; run an update")


def _of_indices(store: Path, truth: Truth) -> Iterator[Violation]:
    places = StorePlaces(store)

    def words() -> str:
        found = Lexical(places.lexical)
        if found.revision != truth.revision:
            return f"it holds revision {found.revision} of {truth.revision}; run an update"
        counts = truth.counts()
        if (found.cards, found.chunks) != (counts.pulls, counts.chunks):
            return f"it holds {found.cards} cards and {found.chunks} chunks, not those of the truth"
        return ""

    def exact() -> str:
        with Exact(store) as index:
            answer = index.search(ExactQuery(patterns=(ABSENT,), limit=1))
        diffs = truth.counts().diffs
        return "" if answer.searched_pulls == diffs else f"{answer.searched_pulls} of {diffs} diffs"

    checks: tuple[tuple[str, Callable[[], str]], ...] = (("words", words), ("exact", exact))
    for name, check in checks:
        try:
            what = check()
        except KnowledgeError as error:
            what = str(error)
        if what:
            yield Violation("index", name, what)


def _of_configs() -> Iterator[Violation]:
    for name, read in (
        ("source list", shipped_catalogue),
        ("source map", source_map.read_registry),
    ):
        try:
            read()
        except KnowledgeError as error:
            yield Violation("configuration", name, str(error))
