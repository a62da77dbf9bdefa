"""Vectors that were made before, by model and text: making one costs a thousand times as much.

Half precision is kept, which moves a cosine by less than a thousandth. A damaged cache is thrown
away: it can be filled again.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from knowledge_store.embedders import Embedder
from knowledge_store.errors import StoreError
from knowledge_store.vectors import Vectors

_BUSY_S = 60.0
_FORMAT = 1
_AT_ONCE = 500
_COMMIT_EVERY = 256


class EmbeddingCache:
    """A file of vectors; several processes may use it at once."""

    def __init__(self, path: Path) -> None:
        """Open the file; make it anew where it is damaged.

        Raises:
            StoreError: the file cannot be made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = _opened(path)
        except sqlite3.DatabaseError:
            for name in (
                path,
                path.with_name(f"{path.name}-wal"),
                path.with_name(f"{path.name}-shm"),
            ):
                name.unlink(missing_ok=True)
            try:
                self._database = _opened(path)
            except sqlite3.DatabaseError as error:
                raise StoreError(f"{path} cannot be made: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def known(self, model: str, texts: Iterable[str]) -> dict[str, Vectors]:
        """Return the vectors that are at hand, by text."""
        digests = {_digest(text): text for text in texts}
        wanted, found = list(digests), {}
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._database.execute(
                f"SELECT digest, vector FROM vector WHERE model = ? AND digest IN ({marks})",  # noqa: S608 - only marks
                (model, *some),
            )
            for digest, vector in rows:
                found[digests[digest]] = np.frombuffer(vector, "<f2").astype(np.float32)
        return found

    def embed(
        self,
        embedder: Embedder,
        texts: Sequence[str],
        tell: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> Vectors:
        """Return one row a text, in order; those not at hand are made and kept as they come.

        Args:
            embedder: makes what is missing.
            texts: any number, repeated or not.
            tell: texts made, and how many there are to make.
        """
        known = self.known(embedder.name, texts)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        for first in range(0, len(missing), _COMMIT_EVERY):
            some = missing[first : first + _COMMIT_EVERY]
            rows = embedder.embed(some).astype("<f2")
            with self._database:
                self._database.executemany(
                    "INSERT OR REPLACE INTO vector VALUES (?, ?, ?)",
                    [
                        (embedder.name, _digest(text), row.tobytes())
                        for text, row in zip(some, rows, strict=True)
                    ],
                )
            for text, row in zip(some, rows, strict=True):
                known[text] = row.astype(np.float32)
            tell(first + len(some), len(missing))
        if not texts:
            return np.zeros((0, 0), np.float32)
        return np.stack([known[text] for text in texts])


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_BUSY_S)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in {0, _FORMAT}:
            database.execute("DROP TABLE IF EXISTS vector")
        with database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS vector (model TEXT, digest BLOB, vector BLOB,"
                " PRIMARY KEY (model, digest)) WITHOUT ROWID"
            )
            database.execute(f"PRAGMA user_version = {_FORMAT}")
        database.execute("SELECT count(*) FROM vector WHERE model = ''").fetchone()
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest()
