"""The truth: one SQLite file that holds every pull request, its raw diff and what the diff says.

Everything else in a store is an index over it that can be thrown away. Each change stamps its pull
request with the next revision, so that an index asks for what is newer than what it has seen.
Readers and writers may be in several processes; a writer holds the lock for milliseconds at a time.
Raw diffs are kept compressed; texts of hunks and chunks are cut from them when they are read.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import zstandard

from knowledge_store.chunks import passage
from knowledge_store.derivation import derivation
from knowledge_store.diffs import raw_lines, texts_of
from knowledge_store.errors import StoreError
from knowledge_store.progress import Progress, Tell, silent
from knowledge_store.pulls import Chunk, DiffFile, Hunk, PullRequest
from knowledge_store.truth_batch import MOST_DIFF_BYTES, Batch
from knowledge_store.truth_schema import NAME, open_truth, translated

Decision = Literal["include", "defer"]
_CHUNKS = (
    "SELECT chunk.diff_line, length, path, digest, heading, new_start, added, removed,"
    " part, parts, tags FROM chunk JOIN file ON file.pull = chunk.pull AND idx = chunk.file"
    " WHERE chunk.pull = (SELECT id FROM pull WHERE key = ?) ORDER BY chunk.diff_line"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """A pull request that was taken out and stays out."""

    key: str
    reason: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A row of the ledger of candidates."""

    key: str
    decision: Decision
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a store holds."""

    pulls: int
    diffs: int
    missing: tuple[str, ...]
    """Keys without a diff."""
    too_large: tuple[str, ...]
    unparsed: tuple[str, ...]
    """Keys of diffs of which some part does not parse; their text is searched all the same."""
    diff_bytes: int
    lines: int
    added: int
    removed: int
    files: int
    hunks: int
    chunks: int
    bounded_files: int
    """Files of which some chunks were left out."""
    clipped_lines: int
    odd_paths: int
    unknown_licences: int
    tombstones: int
    deferred: int


class Truth:
    """An open store; one thread's, and closed by its context."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        """Open the store in a folder; create it unless it is only read.

        Raises:
            StoreError: there is none to read, it is damaged, or a newer version wrote it.
        """
        self.path = folder / NAME
        self._connection = open_truth(folder, read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    # Writing

    def batch(self) -> Batch:
        """Return a context in which many are put; it commits a bounded number at a time."""
        return Batch(self._connection, self.path)

    def put(self, pull: PullRequest, diff: bytes | None) -> bool:
        """Take in a pull request and, where the source has it, its raw diff.

        What another source knew of it is kept; one with a tombstone stays out.

        Returns:
            Whether anything changed.
        """
        with self.batch() as batch:
            return batch.put(pull, diff) == "changed"

    def drop(self, key: str, reason: str) -> None:
        """Take a pull request out and leave a tombstone, so that no source brings it back."""
        with self.batch() as batch:
            batch.drop(key, reason)

    def restore(self, key: str) -> bool:
        """Take a tombstone away; the next ingestion brings the pull request back."""
        with self.batch() as batch:
            return batch.restore(key)

    def rederive(self, tell: Tell = silent) -> int:
        """Cut files, hunks and chunks anew where an older version or vocabulary did; count them."""
        keys = self.outdated()
        with self.batch() as batch:
            for done, key in enumerate(keys):
                pull = self.pull(key)
                if pull is not None:
                    batch.put(pull, self.diff(key), again=True)
                tell(Progress(stage="derive", done=done + 1, total=len(keys), item=key))
        return len(keys)

    # Reading

    @property
    def revision(self) -> int:
        """Return the number of the last change; it only grows."""
        return int(self._rows("SELECT value FROM meta WHERE name = 'revision'")[0][0])

    def keys(self, since: int = 0) -> Iterator[str]:
        """Yield the keys that changed after a revision, in the order of their changes."""
        query = "SELECT key FROM pull WHERE revision > ? ORDER BY revision"
        return (row[0] for row in self._rows(query, since))

    def dropped(self, since: int = 0) -> Iterator[str]:
        """Yield the keys that were taken out after a revision."""
        query = "SELECT key FROM tombstone WHERE revision > ? ORDER BY revision"
        return (row[0] for row in self._rows(query, since))

    def by_slug(self, slug: str) -> tuple[str, ...]:
        """Return the keys that share a slug: one, unless two owners have a repository of a name."""
        query = "SELECT key FROM pull WHERE slug = ? ORDER BY key"
        return tuple(row[0] for row in self._rows(query, slug.lower()))

    def pull(self, key: str) -> PullRequest | None:
        """Return a pull request; None where the store does not have it."""
        rows = self._rows("SELECT record FROM pull WHERE key = ?", key)
        return PullRequest.model_validate_json(rows[0][0]) if rows else None

    def pulls(self) -> Iterator[PullRequest]:
        """Yield all pull requests in the order of their keys."""
        for (record,) in self._rows("SELECT record FROM pull ORDER BY key"):
            yield PullRequest.model_validate_json(record)

    def diff(self, key: str) -> bytes:
        """Return the raw diff exactly as it was ingested; empty where there is none."""
        query = "SELECT zstd FROM diff JOIN pull ON pull.id = diff.pull WHERE key = ?"
        rows = self._rows(query, key)
        return self._unpacked(key, rows[0][0]) if rows else b""

    def files(self, key: str) -> tuple[DiffFile, ...]:
        """Return the files of a diff in its order."""
        query = (
            "SELECT idx, path, old_path, status, kind, licence, first_line, last_line"
            " FROM file WHERE pull = (SELECT id FROM pull WHERE key = ?) ORDER BY idx"
        )
        return tuple(
            DiffFile(
                key=key,
                index=row[0],
                path=row[1],
                old_path=row[2],
                status=row[3],
                kind=row[4],
                licence=row[5],
                first_line=row[6],
                last_line=row[7],
            )
            for row in self._rows(query, key)
        )

    def hunks(self, key: str) -> tuple[Hunk, ...]:
        """Return the hunks of a diff in its order."""
        query = (
            "SELECT diff_line, file, heading, old_start, old_count, new_start, new_count, length"
            " FROM hunk WHERE pull = (SELECT id FROM pull WHERE key = ?) ORDER BY diff_line"
        )
        lines = raw_lines(self.diff(key))
        return tuple(
            Hunk(
                file=row[1],
                heading=row[2],
                diff_line=row[0],
                old_start=row[3],
                old_count=row[4],
                new_start=row[5],
                new_count=row[6],
                lines=texts_of(lines[row[0] : row[0] + row[7]]),
            )
            for row in self._rows(query, key)
        )

    def chunks(self, key: str) -> tuple[Chunk, ...]:
        """Return the chunks of a diff in its order."""
        rows = self._rows(_CHUNKS, key)
        lines = raw_lines(self.diff(key)) if rows else []
        return tuple(_chunk(key, row, lines) for row in rows)

    def chunk(self, key: str, place: int) -> Chunk | None:
        """Return one of the chunks of a diff by its place among them; None where it has fewer."""
        rows = self._rows(f"{_CHUNKS} LIMIT 1 OFFSET ?", key, place)
        return _chunk(key, rows[0], raw_lines(self.diff(key))) if rows else None

    def tombstones(self) -> tuple[Tombstone, ...]:
        """Return what was taken out, and why, in the order of the keys."""
        rows = self._rows("SELECT key, reason, revision FROM tombstone ORDER BY key")
        return tuple(Tombstone(key=row[0], reason=row[1], revision=row[2]) for row in rows)

    def decisions(self) -> tuple[Decided, ...]:
        """Return the ledger of candidates in the order of the keys."""
        rows = self._rows("SELECT key, decision, reason FROM decision ORDER BY key")
        return tuple(Decided(key=row[0], decision=row[1], reason=row[2]) for row in rows)

    def seen(self, item: str) -> tuple[str, str]:
        """Return the fingerprint and key of an item of a source as last taken in, or nothing."""
        rows = self._rows("SELECT fingerprint, key FROM seen WHERE item = ?", item)
        return (rows[0][0], rows[0][1]) if rows else ("", "")

    def cursor(self, name: str) -> str:
        """Return how far a source has been read, or nothing."""
        rows = self._rows("SELECT value FROM cursor WHERE name = ?", name)
        return str(rows[0][0]) if rows else ""

    def counts(self) -> Counts:
        """Return what the store holds."""
        sums = self._rows(
            "SELECT COUNT(*), SUM(diff_state = 'present'), SUM(diff_bytes), SUM(lines), SUM(added),"
            " SUM(removed), SUM(files), SUM(hunks), SUM(chunks), SUM(bounded), SUM(clipped),"
            " SUM(odd_paths), SUM(json_extract(record, '$.licence') = 'unknown') FROM pull"
        )[0]
        numbers = [int(value or 0) for value in sums]
        return Counts(
            pulls=numbers[0],
            diffs=numbers[1],
            missing=self._keys_where("diff_state = 'missing'"),
            too_large=self._keys_where("diff_state = 'too_large'"),
            unparsed=self._keys_where("problems <> ''"),
            diff_bytes=numbers[2],
            lines=numbers[3],
            added=numbers[4],
            removed=numbers[5],
            files=numbers[6],
            hunks=numbers[7],
            chunks=numbers[8],
            bounded_files=numbers[9],
            clipped_lines=numbers[10],
            odd_paths=numbers[11],
            unknown_licences=numbers[12],
            tombstones=self._rows("SELECT COUNT(*) FROM tombstone")[0][0],
            deferred=self._rows("SELECT COUNT(*) FROM decision WHERE decision = 'defer'")[0][0],
        )

    def problems(self, key: str) -> tuple[str, ...]:
        """Return what of a diff does not parse, each with its line."""
        rows = self._rows("SELECT problems FROM pull WHERE key = ?", key)
        return tuple(rows[0][0].splitlines()) if rows else ()

    def verify(self) -> Iterator[str]:
        """Yield every inconsistency: damaged pages, diffs that are not what their digest says."""
        lines = [line for (line,) in self._rows("PRAGMA quick_check") if line != "ok"]
        yield from (f"{self.path}: {line}" for line in lines)
        if lines:
            return  # its rows cannot be relied on
        query = "SELECT key, diff_sha256, zstd FROM pull LEFT JOIN diff ON diff.pull = pull.id"
        for key, digest, packed in self._connection.execute(query):
            if bool(digest) != (packed is not None):
                yield f"{key}: its record and its diff disagree on whether there is one"
            elif packed is not None:
                try:
                    diff = self._unpacked(key, packed)
                except StoreError as error:
                    yield str(error)
                    continue
                if hashlib.sha256(diff).hexdigest() != digest:
                    yield f"{key}: its diff is not the one that was ingested"

    def outdated(self) -> tuple[str, ...]:
        """Return the keys whose files, hunks and chunks an older version derived."""
        query = "SELECT key FROM pull WHERE derivation <> ? AND diff_state = 'present' ORDER BY key"
        return tuple(row[0] for row in self._rows(query, derivation()))

    def _keys_where(self, condition: str) -> tuple[str, ...]:
        query = f"SELECT key FROM pull WHERE {condition} ORDER BY key"  # noqa: S608 - from here only
        return tuple(row[0] for row in self._rows(query))

    def _rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        with translated(self.path):
            return self._connection.execute(query, arguments).fetchall()

    def _unpacked(self, key: str, packed: bytes) -> bytes:
        try:
            return zstandard.decompress(packed, max_output_size=MOST_DIFF_BYTES)
        except zstandard.ZstdError as error:
            raise StoreError(f"{self.path}: the diff of {key} is damaged; ingest again") from error


def _chunk(key: str, row: tuple[Any, ...], lines: Sequence[bytes]) -> Chunk:
    return Chunk(
        chunk_id=f"{key}:{row[3]}",
        key=key,
        path=row[2],
        heading=row[4],
        diff_line=row[0],
        new_start=row[5],
        text=passage(lines, row[0], row[1]),
        added=row[6],
        removed=row[7],
        part=row[8],
        parts=row[9],
        tags=tuple(row[10].split(",")) if row[10] else (),
    )
