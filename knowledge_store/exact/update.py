"""Bringing the index to what the truth holds.

New parts are written beside the old ones and then named by a new manifest, so a search sees what
was before or what is after, and a killed update leaves what was before. Small parts are merged into
new ones as they gather; nothing is changed in place.
"""

import hashlib
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from knowledge_store import locks
from knowledge_store.errors import StoreError
from knowledge_store.exact import manifest as manifests
from knowledge_store.exact.build import Entry, FileLines, PartWriter
from knowledge_store.exact.errors import IndexCorrupt, IndexMissing
from knowledge_store.exact.manifest import Listed, Manifest
from knowledge_store.exact.part import TEXT, Part
from knowledge_store.progress import Progress, Tell
from knowledge_store.pulls import PullRequest
from knowledge_store.truth import Truth

logger = logging.getLogger(__name__)

_LOCK = "writer.lock"
_PART = "part-"
_PULLS_A_WRITER = 200
_WRITERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an update did."""

    indexed: int
    """Pull requests whose text was written: changed ones and those of merged parts."""
    removed: int
    rebuilt: tuple[str, ...]
    """What was damaged and has been built again from the truth."""
    pulls: int
    parts: int
    text_bytes: int
    index_bytes: int
    """Beside the text."""
    revision: int
    """Of the truth."""
    seconds: float

    @property
    def is_changed(self) -> bool:
        """Say whether searches may answer differently now."""
        return bool(self.indexed or self.removed or self.rebuilt)


@dataclass(slots=True)
class _Kept:
    """A part that can be read, and which of its pulls are of the index."""

    listed: Listed
    live: dict[str, tuple[int, str]]
    """Position and digest of each."""
    pulls: int
    """All that were written, live or not."""
    has_new_stamp: bool
    """It was copied or touched since it was written, and is the same."""

    @property
    def is_sparse(self) -> bool:
        return not self.live or len(self.live) < self.pulls * 3 // 4

    def retire(self, keys: AbstractSet[str]) -> None:
        """Take pulls out that are written anew or not at all."""
        dying = keys & self.live.keys()
        numbers = {self.live.pop(key)[0] for key in dying}
        self.listed = Listed(self.listed.name, self.listed.stamps, self.listed.dead | numbers)


@dataclass(slots=True)
class _Change:
    """What an update has to do."""

    keys: list[str]
    """To be written."""
    gone: AbstractSet[str]
    parts: list[Listed]
    """That stay."""


def update(folder: Path, truth: Truth, tell: Tell) -> Report:
    """Bring an index to what the truth holds; see `Exact.update`."""
    start = time.perf_counter()
    with _writing(folder), locks.exclusive(folder / _LOCK):
        # Read first: what changes in the truth from here on is found by the next update.
        revision = truth.revision
        seen, kept, rebuilt = _readable(folder)
        wanted = {pull.key: _digest(pull) for pull in truth.pulls()}
        # Facts beside the digest, such as the kinds of files, change with a revision only.
        touched = frozenset(truth.keys(seen if seen <= revision else 0))
        change = _change(kept, wanted, touched)
        parts = change.parts
        is_stamped = any(part.has_new_stamp for part in kept)
        is_merged = len(parts) < len(kept)
        is_changed = bool(change.keys or change.gone or rebuilt or is_stamped or is_merged)
        if is_changed or seen != revision or not _is_there(folder):
            parts = parts + _written(folder, truth, change.keys, wanted, tell)
            manifests.write(str(folder), Manifest(revision, parts))
        _tidy(folder, parts)
    report = Report(
        indexed=len(change.keys),
        removed=len(change.gone),
        rebuilt=tuple(rebuilt),
        pulls=len(wanted),
        parts=len(parts),
        text_bytes=sum(part.stamps[TEXT].size for part in parts),
        index_bytes=sum(
            stamp.size for part in parts for name, stamp in part.stamps.items() if name != TEXT
        ),
        revision=revision,
        seconds=time.perf_counter() - start,
    )
    said = "exact index updated indexed=%d removed=%d parts=%d"
    logger.info(said, report.indexed, report.removed, report.parts)
    return report


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in our words what the disk or SQLite could not do."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"{folder} cannot be written: {error}; what was indexed before is still searched"
        ) from error


def _readable(folder: Path) -> tuple[int, list[_Kept], list[str]]:
    """Return the revision of the index, its parts that are sound, and what is not."""
    try:
        whole = manifests.read(str(folder))
    except IndexMissing:
        return 0, [], []
    except IndexCorrupt as error:
        return 0, [], [str(error)]
    kept, damaged = [], []
    for listed in whole.parts:
        try:
            has_new_stamp = manifests.check(str(folder), listed)
            kept.append(_kept(folder, listed, has_new_stamp=has_new_stamp))
        except (IndexCorrupt, FileNotFoundError) as error:
            damaged.append(f"{listed.name}: {error}")
    return whole.revision, kept, damaged


def _kept(folder: Path, listed: Listed, *, has_new_stamp: bool) -> _Kept:
    part = Part(str(folder / listed.name))
    try:
        digests = part.digests()
    finally:
        part.close()
    live = {key: value for key, value in digests.items() if value[0] not in listed.dead}
    return _Kept(listed=listed, live=live, pulls=len(digests), has_new_stamp=has_new_stamp)


def _change(kept: Sequence[_Kept], wanted: Mapping[str, str], touched: AbstractSet[str]) -> _Change:
    live = {key: digest for part in kept for key, (_, digest) in part.live.items()}
    stale = {key for key in wanted if key in touched or live.get(key) != wanted[key]}
    gone = live.keys() - wanted.keys()
    for part in kept:
        part.retire(stale | gone)
    merged = _to_merge(kept, len(stale))
    return _Change(
        keys=sorted(stale.union(*(part.live for part in merged))),
        gone=gone,
        parts=[part.listed for part in kept if part not in merged],
    )


def _to_merge(kept: Iterable[_Kept], written: int) -> list[_Kept]:
    """Return the parts to write anew: sparse ones, and small ones beside what is written anyway.

    Each part that stays has more than twice the pulls written after it, so there are few of them.
    """
    merged = []
    for part in sorted(kept, key=lambda part: len(part.live)):
        if part.is_sparse or (written and len(part.live) <= 2 * written):
            merged.append(part)
            written += len(part.live)
    return merged


def _written(
    folder: Path, truth: Truth, keys: Sequence[str], digests: Mapping[str, str], tell: Tell
) -> list[Listed]:
    """Write new parts that hold some pull requests."""
    if not keys:
        return []
    number = 1 + max((_number(path) for path in folder.glob(f"{_PART}*")), default=0)
    count = _WRITERS if len(keys) > _PULLS_A_WRITER else 1
    writers = [PartWriter(folder / f"{_PART}{number + at:06d}") for at in range(count)]
    for done, key in enumerate(keys, start=1):
        entry = _entry(truth, key, digests[key])
        if entry is not None:
            min(writers, key=lambda writer: writer.size).add(entry, truth.diff(key))
        tell(Progress(stage="exact", done=done, total=len(keys), item=key))
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(PartWriter.index, writers))
    return [Listed(writer.folder.name, writer.stamps()) for writer in writers]


def _entry(truth: Truth, key: str, digest: str) -> Entry | None:
    """Return what is indexed of a pull request; None where it was dropped meanwhile."""
    pull = truth.pull(key)
    if pull is None:
        return None
    return Entry(
        key=key,
        repo=pull.repo,
        number=pull.number,
        merged_at=pull.merged_at,
        licence=pull.licence,
        tags=tuple(sorted({tag for chunk in truth.chunks(key) for tag in chunk.tags})),
        has_diff=pull.diff_state == "present",
        digest=digest,
        files=tuple(
            FileLines(
                path=file.path,
                kind=file.kind,
                licence=file.licence,
                first_line=file.first_line,
                last_line=file.last_line,
            )
            for file in truth.files(key)
        ),
    )


def _digest(pull: PullRequest) -> str:
    facts = (pull.merged_at, pull.licence, pull.diff_state, pull.diff_sha256)
    return hashlib.blake2b("\0".join(facts).encode(), digest_size=16).hexdigest()


def _is_there(folder: Path) -> bool:
    return (folder / manifests.NAME).exists()


def _number(path: Path) -> int:
    number = path.name.removeprefix(_PART)
    return int(number) if number.isdigit() else 0


def _tidy(folder: Path, parts: Iterable[Listed]) -> None:
    """Remove what no manifest names: parts that were replaced, or that a killed update left."""
    names = {part.name for part in parts}
    for path in folder.glob(f"{_PART}*"):
        if path.name not in names:
            shutil.rmtree(path, ignore_errors=True)
