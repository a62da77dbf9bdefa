"""The tables of the truth, and how its one file is opened by several processes at once."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from knowledge_store.errors import StoreError

NAME = "truth.sqlite"
SCHEMA = 1
_APPLICATION = 0x4B504B53  # "KPKS", which `file` shows and another program's database does not have
_PATIENCE_S = 60.0

_TABLES = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('revision', 0);
CREATE TABLE pull(
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, slug TEXT NOT NULL, record TEXT NOT NULL,
    diff_state TEXT NOT NULL, diff_sha256 TEXT NOT NULL, diff_bytes INTEGER NOT NULL,
    revision INTEGER NOT NULL, derivation TEXT NOT NULL,
    lines INTEGER NOT NULL, added INTEGER NOT NULL, removed INTEGER NOT NULL,
    files INTEGER NOT NULL, hunks INTEGER NOT NULL, chunks INTEGER NOT NULL,
    bounded INTEGER NOT NULL, clipped INTEGER NOT NULL, odd_paths INTEGER NOT NULL,
    problems TEXT NOT NULL);
CREATE INDEX pull_revision ON pull(revision);
CREATE INDEX pull_slug ON pull(slug);
CREATE TABLE diff(
    pull INTEGER PRIMARY KEY REFERENCES pull(id) ON DELETE CASCADE, zstd BLOB NOT NULL);
CREATE TABLE file(
    pull INTEGER NOT NULL REFERENCES pull(id) ON DELETE CASCADE, idx INTEGER NOT NULL,
    path TEXT NOT NULL, old_path TEXT NOT NULL, status TEXT NOT NULL, kind TEXT NOT NULL,
    licence TEXT NOT NULL, first_line INTEGER NOT NULL, last_line INTEGER NOT NULL,
    bounded INTEGER NOT NULL, PRIMARY KEY(pull, idx)) WITHOUT ROWID;
CREATE TABLE hunk(
    pull INTEGER NOT NULL REFERENCES pull(id) ON DELETE CASCADE, diff_line INTEGER NOT NULL,
    file INTEGER NOT NULL, heading TEXT NOT NULL, old_start INTEGER NOT NULL,
    old_count INTEGER NOT NULL, new_start INTEGER NOT NULL, new_count INTEGER NOT NULL,
    length INTEGER NOT NULL, PRIMARY KEY(pull, diff_line)) WITHOUT ROWID;
CREATE TABLE chunk(
    pull INTEGER NOT NULL REFERENCES pull(id) ON DELETE CASCADE, diff_line INTEGER NOT NULL,
    length INTEGER NOT NULL, file INTEGER NOT NULL, digest TEXT NOT NULL, heading TEXT NOT NULL,
    new_start INTEGER NOT NULL, added INTEGER NOT NULL, removed INTEGER NOT NULL,
    part INTEGER NOT NULL, parts INTEGER NOT NULL, tags TEXT NOT NULL,
    PRIMARY KEY(pull, diff_line)) WITHOUT ROWID;
CREATE TABLE tombstone(key TEXT PRIMARY KEY, reason TEXT NOT NULL, revision INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE decision(key TEXT PRIMARY KEY, decision TEXT NOT NULL, reason TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE seen(item TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, key TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE cursor(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Say in our words what SQLite could not do with the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(f"{path}: {error}; is another process stuck, or the disk full?") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} is damaged or no knowledge store ({error}); move it away and build again"
        ) from error


def open_truth(folder: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open the truth of a store; create it where it may be written and is not there yet.

    Raises:
        StoreError: there is none to read, it is damaged, or a newer version wrote it.
    """
    path = folder / NAME
    if read_only and not path.is_file():
        raise StoreError(f"no knowledge store in {folder}; make one: kernelpilot knowledge build")
    with translated(path):
        if read_only:
            return _read_only(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "truth.lock").open("a")
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror}") from error
        with lock:  # changing to WAL and creating tables does not wait for others by itself
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _created(path)


def _created(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
    try:
        if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            _check(connection, path)
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN; {_TABLES} PRAGMA application_id = {_APPLICATION};"
                f" PRAGMA user_version = {SCHEMA}; COMMIT;"
            )
        # A kill loses nothing that was committed, a power cut at most the last commits.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _read_only(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=_PATIENCE_S)
    try:
        _check(connection, path)
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{NAME}-wal").exists():
            raise
        # A store on a file system that cannot be written has nobody who changes it.
        connection = sqlite3.connect(f"{uri}?immutable=1", uri=True)
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION:
        raise StoreError(f"{path} is not a knowledge store; name another folder")
    if version > SCHEMA:
        raise StoreError(
            f"{path} was written by a newer version (schema {version}, this one reads {SCHEMA});"
            " update, or build another store"
        )
