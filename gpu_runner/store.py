"""The broker's database: live jobs, outcomes and events in one SQLite file.

Owns the schema and SQLite. One process has it at a time (`broker.lock` beside it); a thread of it
writes through one `Store`, another reads through a second one. Blobs lie in tables of their own, so
that what is loaded at a start is small.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gpu_runner.errors import PoolError
from gpu_runner.jobs import JOB, OUTCOME, AnyJob
from gpu_runner.journal import Entry, Finished, Restored, Row
from gpu_runner.operations import Change, Event
from gpu_runner.outcomes import is_final
from gpu_runner.terms import Terms
from gpu_runner.wire import State

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_TERMS: TypeAdapter[Terms] = TypeAdapter(Terms)
FILE_NAME = "broker.sqlite"

_SCHEMA = """
CREATE TABLE job (
    job_id TEXT PRIMARY KEY,
    spec_digest TEXT NOT NULL,
    state TEXT NOT NULL,
    rank INTEGER NOT NULL,
    token INTEGER,
    owner TEXT,
    crashes INTEGER NOT NULL,
    losses INTEGER NOT NULL,
    terms TEXT NOT NULL,
    deadline_at_s REAL,
    changed_at_s REAL NOT NULL
);
CREATE INDEX live_job ON job (rank) WHERE state != 'finished';
CREATE INDEX ended_job ON job (changed_at_s) WHERE state = 'finished';
CREATE TABLE content (job_id TEXT PRIMARY KEY, job BLOB NOT NULL);
CREATE TABLE outcome (job_id TEXT PRIMARY KEY, outcome BLOB NOT NULL);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    at_s REAL NOT NULL,
    change TEXT NOT NULL,
    job_id TEXT,
    worker TEXT,
    detail TEXT NOT NULL
);
CREATE TABLE restriction (worker TEXT PRIMARY KEY, reason TEXT NOT NULL);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""

_MOST_PRUNED = 5000
_PUT_JOB = "INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)"
_ROW = (
    "SELECT job_id, spec_digest, state, rank, token, owner, crashes, losses, terms, deadline_at_s, "
    "EXISTS (SELECT 1 FROM content WHERE content.job_id = job.job_id) FROM job"
)


class StoreFailed(PoolError):
    """The database cannot be read or written; nothing that depended on it was sent."""


class Store:
    """One connection to a broker's database."""

    def __init__(self, path: Path | None, *, is_reader: bool = False) -> None:
        """Open the database, making it where there is none.

        Args:
            path: of the file; None keeps everything in memory, for tests of what is above.
            is_reader: nothing will be written through this connection.

        Raises:
            StoreFailed: it cannot be opened, is damaged, or was made by a newer version.
        """
        self._name = str(path or "(memory)")
        with self._translated():
            self._db = sqlite3.connect(
                path or ":memory:", isolation_level=None, check_same_thread=False, timeout=10.0
            )
            if is_reader:
                self._db.execute("PRAGMA query_only = ON")
            else:
                self._prepare()
        self.last_seq = self._number("SELECT max(seq) FROM event")

    def close(self) -> None:
        """Close the connection; everything that was committed stays."""
        self._db.close()

    # -- writing -------------------------------------------------------------------------------

    def keep(self, entries: Sequence[Entry], *, epoch: int, at_s: float) -> tuple[Event, ...]:
        """Write entries in one transaction; on disk when this returns.

        Raises:
            StoreFailed: nothing of it was written.
        """
        rows = {e.job_id: e.row for e in entries if e.job_id is not None}
        events = tuple(
            event_of(entry, seq=seq, epoch=epoch, at_s=at_s)
            for seq, entry in enumerate(entries, start=self.last_seq + 1)
        )
        with self._translated(), self._transaction():
            self._keep_blobs(entries)
            self._keep_restrictions(entries)
            self._many(_PUT_JOB, [_values(row, at_s) for row in rows.values() if row is not None])
            self._forget([job_id for job_id, row in rows.items() if row is None])
            self._many(
                _PUT_EVENT,
                [(e.seq, e.epoch, e.at_s, e.change, e.job_id, e.worker, e.detail) for e in events],
            )
        self.last_seq += len(events)
        return events

    def _keep_blobs(self, entries: Sequence[Entry]) -> None:
        jobs, outcomes, stale, spent = [], [], [], []
        for entry in entries:
            if entry.job is not None:
                jobs.append((entry.job_id, entry.job.model_dump_json()))
                stale.append((entry.job_id,))
            if entry.outcome is not None:
                outcomes.append((entry.job_id, entry.outcome.model_dump_json()))
                if is_final(entry.outcome):
                    spent.append((entry.job_id,))
        self._many("DELETE FROM outcome WHERE job_id = ?", stale)
        self._many("INSERT OR REPLACE INTO content VALUES (?, ?)", jobs)
        self._many("INSERT OR REPLACE INTO outcome VALUES (?, ?)", outcomes)
        # What has ended for good is never leased again.
        self._many("DELETE FROM content WHERE job_id = ?", spent)

    def _keep_restrictions(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.change in {Change.DRAINED, Change.QUARANTINED}:
                put = "INSERT OR REPLACE INTO restriction VALUES (?, ?)"
                self._db.execute(put, (entry.worker, entry.detail))
            elif entry.change is Change.RELEASED:
                self._db.execute("DELETE FROM restriction WHERE worker = ?", (entry.worker,))

    def _forget(self, job_ids: Sequence[str]) -> None:
        for table in ("job", "content", "outcome"):
            statement = f"DELETE FROM {table} WHERE job_id = ?"  # noqa: S608 - names from above
            self._many(statement, [(job_id,) for job_id in job_ids])

    def begin_epoch(self, epoch: int) -> int:
        """Note the epoch of a broker that starts; return it, or a larger one that is free.

        Raises:
            StoreFailed: it cannot be written.
        """
        free = max(epoch, self._number("SELECT value FROM meta WHERE name = 'epoch'") + 1)
        with self._translated():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (free,))
        return free

    def prune(self, *, most_events: int, finished_before_s: float) -> None:
        """Delete all but the newest events, and jobs that ended before a wall-clock time.

        Of the latter a few thousand at a time, so that nobody waits for long; the oldest first.

        Raises:
            StoreFailed: it cannot be written.
        """
        old = (
            "SELECT job_id FROM job WHERE state = 'finished' AND changed_at_s < ? "
            "ORDER BY changed_at_s LIMIT ?"
        )
        with self._translated(), self._transaction():
            self._db.execute("DELETE FROM event WHERE seq <= ?", (self.last_seq - most_events,))
            self._forget(
                [job_id for (job_id,) in self._db.execute(old, (finished_before_s, _MOST_PRUNED))]
            )

    # -- reading -------------------------------------------------------------------------------

    @property
    def is_new(self) -> bool:
        """Whether no broker has begun an epoch here."""
        return self._number("SELECT count(*) FROM meta WHERE name = 'epoch'") == 0

    def rows(self, at_s: float = 0.0) -> Iterator[Row]:
        """Yield the jobs that have not ended, in order of their ranks.

        Args:
            at_s: the time, as given to `keep`; deadlines are counted from it.

        Raises:
            StoreFailed: the database cannot be read.
        """
        with self._translated():
            found = self._db.execute(f"{_ROW} WHERE state != 'finished' ORDER BY rank")
            for *values, terms, deadline_at_s, is_stored in found:
                job_id, spec_digest, state, rank, token, owner, crashes, losses = values
                yield Row(
                    job_id=job_id,
                    spec_digest=spec_digest,
                    state=State(state),
                    rank=rank,
                    token=token,
                    owner=owner,
                    crashes=crashes,
                    losses=losses,
                    terms=_TERMS.validate_json(terms),
                    left_s=None if deadline_at_s is None else deadline_at_s - at_s,
                    is_stored=bool(is_stored),
                )

    def restored(self, at_s: float = 0.0) -> Restored:
        """Return what a broker that starts has to know; see `rows`.

        Raises:
            StoreFailed: the database cannot be read.
        """
        with self._translated():
            restrictions = dict(self._db.execute("SELECT worker, reason FROM restriction"))
            # SQLite takes `detail` from the row that has the largest number.
            joined = self._db.execute(
                "SELECT worker, detail, max(seq) FROM event WHERE change = 'joined' GROUP BY worker"
            )
            incarnations = {worker: detail for worker, detail, _ in joined}
        return Restored(
            rows=tuple(self.rows(at_s)),
            last_rank=self._number("SELECT max(rank) FROM job"),
            restrictions=restrictions,
            incarnations=incarnations,
        )

    def finished(self, job_id: str) -> Finished | None:
        """Return how a job ended; None for one that is unknown or has not.

        Raises:
            StoreFailed: the database cannot be read.
        """
        with self._translated():
            values = self._db.execute(
                "SELECT spec_digest, token, owner, outcome FROM job JOIN outcome USING (job_id) "
                "WHERE job_id = ? AND state = 'finished'",
                (job_id,),
            ).fetchone()
        if values is None:
            return None
        spec_digest, token, owner, body = values
        try:
            outcome = OUTCOME.validate_json(body)
        except ValidationError as error:  # of another version's nouns: the job runs again
            logger.warning("outcome cannot be read job=%s: %s", job_id, error)
            return None
        return Finished(spec_digest=spec_digest, token=token, owner=owner, outcome=outcome)

    def content(self, job_id: str) -> AnyJob | None:
        """Return a job; None where it is not kept or was written by another version.

        Raises:
            StoreFailed: the database cannot be read.
        """
        with self._translated():
            found = self._db.execute(
                "SELECT job FROM content WHERE job_id = ?", (job_id,)
            ).fetchone()
        if found is None:
            return None
        try:
            return JOB.validate_json(found[0])
        except ValidationError as error:
            logger.warning("job cannot be read job=%s: %s", job_id, error)
            return None

    def events(self, after_seq: int, limit: int) -> tuple[Event, ...]:
        """Return at most `limit` events after a number, in order.

        Raises:
            StoreFailed: the database cannot be read.
        """
        with self._translated():
            found = self._db.execute(
                "SELECT * FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
            )
            return tuple(
                Event(
                    seq=seq,
                    epoch=epoch,
                    at_s=at_s,
                    change=Change(change),
                    job_id=job_id,
                    worker=worker,
                    detail=detail,
                )
                for seq, epoch, at_s, change, job_id, worker, detail in found
            )

    def span(self) -> tuple[int, int]:
        """Return the numbers of the oldest and the newest event; zeros where there is none."""
        return (
            self._number("SELECT min(seq) FROM event"),
            self._number("SELECT max(seq) FROM event"),
        )

    # -- SQLite --------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            msg = (
                f"{self._name} was written by a newer version of kernelpilot (schema {version}, "
                f"known are up to {SCHEMA_VERSION}); install that version, or give another --state"
            )
            raise StoreFailed(msg)
        damage = [line for (line,) in self._db.execute("PRAGMA quick_check(3)")]
        if damage != ["ok"]:
            msg = (
                f"{self._name} is damaged ({'; '.join(damage)}); put a backup in its place, or "
                "move it away: workers bring back what they run, clients what they want"
            )
            raise StoreFailed(msg)
        if version == 0:
            with self._transaction():
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _number(self, question: str) -> int:
        with self._translated():
            found = self._db.execute(question).fetchone()
        return int(found[0] or 0) if found else 0

    def _many(self, statement: str, values: Sequence[Sequence[object]]) -> None:
        if values:
            self._db.executemany(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            msg = (
                f"the broker's database {self._name} failed: {error}; nothing unsaved was "
                "promised to anybody. Free space or mend the disk, then start the broker again"
            )
            raise StoreFailed(msg) from error


def event_of(entry: Entry, *, seq: int, epoch: int, at_s: float) -> Event:
    """Return how an entry is remembered."""
    return Event(
        seq=seq,
        epoch=epoch,
        at_s=at_s,
        change=entry.change,
        job_id=entry.job_id,
        worker=entry.worker,
        detail=entry.detail,
    )


def _values(row: Row, at_s: float) -> tuple[object, ...]:
    return (
        row.job_id,
        row.spec_digest,
        row.state,
        row.rank,
        row.token,
        row.owner,
        row.crashes,
        row.losses,
        _TERMS.dump_json(row.terms).decode(),
        None if row.left_s is None else at_s + row.left_s,
        at_s,
    )
