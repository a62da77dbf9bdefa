"""Writing the truth: what was put is derived outside of the lock and committed some at a time."""

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import zstandard

from knowledge_store.derivation import Derived, derivation, derive
from knowledge_store.merging import merged
from knowledge_store.progress import Outcome
from knowledge_store.pulls import PullRequest
from knowledge_store.truth_schema import translated

MOST_DIFF_BYTES = 32 * 1024 * 1024
"""Of a diff that is kept; ten times the largest that people were seen to review."""

_MOST_PENDING = 32
_MOST_PENDING_BYTES = 8 * 1024 * 1024
_LEVEL = 6
_NOTHING = Derived(files=(), hunks=(), chunks=(), totals=(0, 0, 0, 0, 0, 0, 0, 0, 0, ""))


@dataclass(frozen=True, slots=True)
class _Pending:
    """A pull request on its way in."""

    pull: PullRequest
    packed: bytes | None
    size: int
    derived: Derived | None
    """None where the diff is what the store has already."""


@dataclass(frozen=True, slots=True)
class _Stored:
    id: int
    pull: PullRequest
    derivation: str


class Batch:
    """Many changes; a kill loses those of the last second at most, never a half of one."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._pending: dict[str, _Pending] = {}
        self._bytes = 0
        self._marks: dict[str, tuple[str, str]] = {}
        self._cursors: dict[str, str] = {}
        self._decisions: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.commit()

    def put(self, pull: PullRequest, diff: bytes | None, *, again: bool = False) -> Outcome:
        """Take in a pull request; see `Truth.put`.

        Args:
            pull: its diff's state and digest are set here.
            diff: as the source has it; None where it has none.
            again: derive even what has not changed.
        """
        if pull.key in self._pending:
            self.commit()
        with translated(self._path):
            if self._has_tombstone(pull.key):
                return "dropped"
            stored = self._stored(pull.key)
        pull = _described(pull, diff)
        if diff is not None and pull.diff_state != "present":
            diff = None
        after = merged(stored.pull if stored else None, pull)
        is_new_diff = stored is None or after.diff_sha256 != stored.pull.diff_sha256
        is_stale = again or (stored is not None and stored.derivation != derivation())
        is_derived = diff is not None and (
            is_new_diff or (is_stale and after.diff_sha256 == pull.diff_sha256)
        )
        if stored is not None and after == stored.pull and not is_derived:
            return "unchanged"
        self._pending[pull.key] = _Pending(
            pull=pull,
            packed=zstandard.compress(diff, _LEVEL) if is_derived and diff is not None else None,
            size=len(diff) if diff is not None else 0,
            derived=derive(pull.key, diff) if is_derived and diff is not None else None,
        )
        self._bytes += len(diff or b"")
        if len(self._pending) >= _MOST_PENDING or self._bytes >= _MOST_PENDING_BYTES:
            self.commit()
        return "changed"

    def mark(self, item: str, fingerprint: str, key: str) -> None:
        """Remember with what fingerprint an item of a source was taken in, as which key."""
        self._marks[item] = (fingerprint, key)
        if len(self._marks) >= _MOST_PENDING * _MOST_PENDING:
            self.commit()

    def move(self, cursor: str, value: str) -> None:
        """Remember how far a source has been read; committed with what was put before."""
        self._cursors[cursor] = value

    def decide(self, key: str, decision: str, reason: str) -> None:
        """Enter a row into the ledger of candidates."""
        self._decisions[key] = (decision, reason)

    def drop(self, key: str, reason: str) -> None:
        """Take a pull request out; see `Truth.drop`."""
        self.commit()
        with _Transaction(self._connection, self._path) as transaction:
            transaction.run("DELETE FROM pull WHERE key = ?", key)
            transaction.run(
                "INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?)",
                key,
                reason,
                transaction.next_revision(),
            )

    def restore(self, key: str) -> bool:
        """Take a tombstone away; sources look at it again, from their beginning."""
        self.commit()
        repo = key.partition("#")[0]
        with _Transaction(self._connection, self._path) as transaction:
            gone = transaction.run("DELETE FROM tombstone WHERE key = ?", key)
            transaction.run("DELETE FROM seen WHERE key = ?", key)
            transaction.run("DELETE FROM cursor WHERE name LIKE '%:' || ?", repo)
            return gone > 0

    def commit(self) -> None:
        """Write what is pending."""
        if not (self._pending or self._marks or self._cursors or self._decisions):
            return
        with _Transaction(self._connection, self._path) as transaction:
            whole = {key: self._write(transaction, one) for key, one in self._pending.items()}
            for item, (fingerprint, key) in self._marks.items():
                if whole.get(key, True):
                    query = "INSERT OR REPLACE INTO seen VALUES (?, ?, ?)"
                    transaction.run(query, item, fingerprint, key)
            for name, value in self._cursors.items():
                transaction.run("INSERT OR REPLACE INTO cursor VALUES (?, ?)", name, value)
            for key, decision in self._decisions.items():
                transaction.run("INSERT OR REPLACE INTO decision VALUES (?, ?, ?)", key, *decision)
        for pending_of in (self._pending, self._marks, self._cursors, self._decisions):
            pending_of.clear()
        self._bytes = 0

    def _write(self, transaction: "_Transaction", pending: _Pending) -> bool:
        """Write one, which another process may have written since it was put.

        Returns:
            Whether all of it is in the store; else its source has to be asked again.
        """
        key = pending.pull.key
        if self._has_tombstone(key):
            return True
        stored = self._stored(key)
        after = merged(stored.pull if stored else None, pending.pull)
        if stored is not None and (stored.pull, stored.derivation) == (after, derivation()):
            return True
        record = json.dumps(after.model_dump(mode="json"), sort_keys=True)
        revision = transaction.next_revision()
        is_ours = after.diff_sha256 == pending.pull.diff_sha256
        if stored is not None and (pending.derived is None or not is_ours):
            transaction.run(
                "UPDATE pull SET record = ?, diff_state = ?, revision = ? WHERE key = ?",
                record,
                after.diff_state,
                revision,
                key,
            )
            return True
        is_whole = pending.derived is not None or after.diff_state != "present"
        if not is_whole:  # taken out and restored meanwhile, and the diff with it
            after = after.model_copy(update={"diff_state": "missing", "diff_sha256": ""})
            record = json.dumps(after.model_dump(mode="json"), sort_keys=True)
        derived = pending.derived or _NOTHING
        transaction.run("DELETE FROM pull WHERE key = ?", key)
        row = transaction.insert(
            "pull",
            (
                stored.id if stored else None,
                key,
                after.slug,
                record,
                after.diff_state,
                after.diff_sha256,
                pending.size if pending.packed is not None else 0,
                revision,
                derivation(),
                *derived.totals,
            ),
        )
        if pending.packed is not None:
            transaction.insert("diff", (row, pending.packed))
        transaction.insert_all("file", row, derived.files)
        transaction.insert_all("hunk", row, derived.hunks)
        transaction.insert_all("chunk", row, derived.chunks)
        return is_whole

    def _has_tombstone(self, key: str) -> bool:
        query = "SELECT 1 FROM tombstone WHERE key = ?"
        return self._connection.execute(query, (key,)).fetchone() is not None

    def _stored(self, key: str) -> _Stored | None:
        query = "SELECT id, record, derivation FROM pull WHERE key = ?"
        row = self._connection.execute(query, (key,)).fetchone()
        return row and _Stored(row[0], PullRequest.model_validate_json(row[1]), row[2])


class _Transaction:
    """A write transaction with its next revisions."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._revision = 0

    def __enter__(self) -> Self:
        with translated(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
        query = "SELECT value FROM meta WHERE name = 'revision'"
        self._revision = self._connection.execute(query).fetchone()[0]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._connection.execute("ROLLBACK")
            return
        self.run("UPDATE meta SET value = ? WHERE name = 'revision'", self._revision)
        with translated(self._path):
            self._connection.execute("COMMIT")

    def next_revision(self) -> int:
        """Return the number of the next change."""
        self._revision += 1
        return self._revision

    def run(self, query: str, *arguments: object) -> int:
        """Run a statement; return how many rows it changed."""
        with translated(self._path):
            return self._connection.execute(query, arguments).rowcount

    def insert(self, table: str, values: tuple[object, ...]) -> int:
        """Insert a row; return its id."""
        marks = ",".join("?" * len(values))
        with translated(self._path):
            query = f"INSERT INTO {table} VALUES ({marks})"  # noqa: S608 - tables are named here
            return self._connection.execute(query, values).lastrowid or 0

    def insert_all(self, table: str, pull: int, rows: tuple[tuple[object, ...], ...]) -> None:
        """Insert rows that belong to a pull request."""
        if rows:
            marks = ",".join("?" * (1 + len(rows[0])))
            with translated(self._path):
                query = f"INSERT INTO {table} VALUES ({marks})"  # noqa: S608 - tables are named here
                self._connection.executemany(query, ((pull, *row) for row in rows))


def _described(pull: PullRequest, diff: bytes | None) -> PullRequest:
    """Return a pull request that says of its diff what is so."""
    if diff is None:
        state = "missing" if pull.diff_state == "present" else pull.diff_state
        return pull.model_copy(update={"diff_state": state, "diff_sha256": ""})
    if len(diff) > MOST_DIFF_BYTES:
        return pull.model_copy(update={"diff_state": "too_large", "diff_sha256": ""})
    digest = hashlib.sha256(diff).hexdigest()
    return pull.model_copy(update={"diff_state": "present", "diff_sha256": digest})
