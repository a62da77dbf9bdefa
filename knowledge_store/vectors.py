"""Stores of vectors behind one protocol: Chroma on disk, and an exact one in memory.

Neither keeps text; both get vectors that were made here. Distances are cosine similarities.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from knowledge_store import locks
from knowledge_store.errors import StoreError

Vectors = npt.NDArray[np.float32]
VectorKind = Literal["card", "chunk"]
_COLLECTION = "pull-diffs"
_SETTINGS = {"space": "cosine", "ef_construction": 200, "ef_search": 400, "max_neighbors": 32}
_BATCH = 2000
_KINDS: tuple[VectorKind, ...] = ("card", "chunk")


class StoreInUse(StoreError):
    """Another process owns the database; it is whole, and free when that one ends."""


@dataclass(frozen=True, slots=True)
class VectorEntry:
    """What a vector stands for."""

    entry_id: str
    """Unique; a second entry of the same id replaces the first."""
    key: str
    kind: VectorKind
    repo: str
    chunk: int = -1
    """Position among the chunks of its pull request; -1 for a card."""


@dataclass(frozen=True, slots=True)
class Near:
    """An entry near a question."""

    entry_id: str
    key: str
    chunk: int
    similarity: float
    """Cosine, from -1 to 1."""


class VectorStore(Protocol):
    """What ranking by vectors needs of a store."""

    def put(self, entries: Sequence[VectorEntry], vectors: Vectors) -> None:
        """Add entries, or replace those of the same id."""
        ...

    def drop(self, keys: Iterable[str]) -> None:
        """Take out every entry of some pull requests; unknown ones are no error."""
        ...

    def nearest(
        self, vector: Vectors, limit: int, *, kind: VectorKind, repo: str = ""
    ) -> tuple[Near, ...]:
        """Return entries of one kind, most similar first."""
        ...

    def ids(self) -> frozenset[str]:
        """Return the id of every entry."""
        ...

    def close(self) -> None:
        """Let go of files and locks; the store is not used after it."""
        ...


@dataclass
class MemoryStore:
    """Exact search over a matrix; as fast as an index at some ten thousand entries."""

    _entries: dict[str, VectorEntry] = field(default_factory=dict)
    _vectors: dict[str, Vectors] = field(default_factory=dict)
    _matrices: dict[tuple[str, str], tuple[list[VectorEntry], Vectors]] = field(
        default_factory=dict
    )

    def put(self, entries: Sequence[VectorEntry], vectors: Vectors) -> None:
        """Add entries, or replace those of the same id."""
        for entry, vector in zip(entries, unit(vectors), strict=True):
            self._entries[entry.entry_id] = entry
            self._vectors[entry.entry_id] = vector
        self._matrices.clear()

    def drop(self, keys: Iterable[str]) -> None:
        """Take out every entry of some pull requests."""
        gone = set(keys)
        for entry in [one for one in self._entries.values() if one.key in gone]:
            del self._entries[entry.entry_id], self._vectors[entry.entry_id]
        self._matrices.clear()

    def nearest(
        self, vector: Vectors, limit: int, *, kind: VectorKind, repo: str = ""
    ) -> tuple[Near, ...]:
        """Return entries of one kind, most similar first; ties in order of id."""
        entries, matrix = self._matrix(kind, repo)
        if not entries or limit < 1:
            return ()
        similar = matrix @ unit(vector[None, :])[0]
        order = np.lexsort((np.arange(len(entries)), -similar))[:limit]
        return tuple(
            Near(
                entries[at].entry_id,
                entries[at].key,
                entries[at].chunk,
                min(1.0, float(similar[at])),
            )
            for at in order
        )

    def ids(self) -> frozenset[str]:
        """Return the id of every entry."""
        return frozenset(self._entries)

    def close(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._vectors.clear()
        self._matrices.clear()

    def _matrix(self, kind: str, repo: str) -> tuple[list[VectorEntry], Vectors]:
        found = self._matrices.get((kind, repo))
        if found is None:
            ids = sorted(
                name
                for name, entry in self._entries.items()
                if entry.kind == kind and (not repo or entry.repo == repo)
            )
            rows = [self._vectors[name] for name in ids]
            matrix = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
            found = ([self._entries[name] for name in ids], matrix)
            self._matrices[kind, repo] = found
        return found


class ChromaStore:
    """Chroma collections, one a kind, in a folder that one process owns, or on a server."""

    def __init__(self, folder: Path, model: str, *, server: str = "") -> None:
        """Open the collections of a model; create them where there are none.

        Args:
            folder: of the embedded database.
            model: identity of whatever makes the vectors; another model has other collections.
            server: `host:port` of a Chroma server instead of the folder.

        Raises:
            StoreInUse: another process owns the folder.
            StoreError: what is in it cannot be used, or the server does not answer.
        """
        self._client: Any = None
        self._place = f"server {server}" if server else str(folder)
        self._owner = None if server else locks.OwnerLock(folder.with_name(f"{folder.name}.owner"))
        if self._owner is not None and not self._owner.is_held:
            raise StoreInUse(f"another process owns {folder}; it lets go when it ends")
        try:
            with _translated(self._place):
                self._client = _client(folder, server)
                self._kinds = {kind: self._collection(model, kind) for kind in _KINDS}
        except BaseException:
            self.close()
            _forget(folder)
            raise

    def put(self, entries: Sequence[VectorEntry], vectors: Vectors) -> None:
        """Add entries, or replace those of the same id."""
        rows = unit(vectors)
        for kind, collection in self._kinds.items():
            places = [at for at, entry in enumerate(entries) if entry.kind == kind]
            for first in range(0, len(places), _BATCH):
                some = places[first : first + _BATCH]
                with _translated(self._place):
                    collection.upsert(
                        ids=[entries[at].entry_id for at in some],
                        embeddings=rows[some],
                        metadatas=[_told(entries[at]) for at in some],
                    )

    def drop(self, keys: Iterable[str]) -> None:
        """Take out every entry of some pull requests."""
        wanted = sorted(set(keys))
        for collection in self._kinds.values():
            for first in range(0, len(wanted), _BATCH):
                some = wanted[first : first + _BATCH]
                with _translated(self._place):
                    collection.delete(where={"key": {"$in": some}})

    def nearest(
        self, vector: Vectors, limit: int, *, kind: VectorKind, repo: str = ""
    ) -> tuple[Near, ...]:
        """Return entries of one kind, most similar first; approximate beyond some thousands."""
        collection = self._kinds[kind]
        with _translated(self._place):
            if limit < 1 or collection.count() == 0:
                return ()
            found = collection.query(
                query_embeddings=unit(vector[None, :]),
                n_results=limit,
                where={"repo": repo} if repo else None,
                include=["metadatas", "distances"],
            )
        rows = zip(found["ids"][0], found["metadatas"][0], found["distances"][0], strict=True)
        near = [
            Near(name, str(told["key"]), int(told["chunk"]), min(1.0, 1.0 - float(distance)))
            for name, told, distance in rows
        ]
        return tuple(sorted(near, key=lambda one: (-one.similarity, one.entry_id)))

    def ids(self) -> frozenset[str]:
        """Return the id of every entry."""
        with _translated(self._place):
            found = [one.get(include=[])["ids"] for one in self._kinds.values()]
        return frozenset(name for names in found for name in names)

    def close(self) -> None:
        """Let go of the folder."""
        if self._client is not None:
            with suppress(StoreError), _translated(self._place):
                self._client.close()
            self._client = None
        if self._owner is not None:
            self._owner.release()

    def _collection(self, model: str, kind: VectorKind) -> Any:
        found = self._client.get_or_create_collection(
            f"{_COLLECTION}.{_safe(model)}.{kind}",
            configuration={"hnsw": dict(_SETTINGS)},
            embedding_function=None,
        )
        found.count()
        return found


def _told(entry: VectorEntry) -> dict[str, str | int]:
    return {"key": entry.key, "repo": entry.repo, "chunk": entry.chunk}


def unit(vectors: Vectors) -> Vectors:
    """Return rows of length one; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.where(lengths == 0, 1.0, lengths)).astype(np.float32)
    return scaled


def _client(folder: Path, server: str) -> Any:
    import chromadb  # noqa: PLC0415 - a second to import, and most commands need no vectors
    from chromadb.config import Settings  # noqa: PLC0415 - same

    settings = Settings(anonymized_telemetry=False, allow_reset=False)
    if server:
        host, _, port = server.rpartition(":")
        return chromadb.HttpClient(host=host, port=int(port), settings=settings)
    return chromadb.PersistentClient(path=str(folder), settings=settings)


def _forget(folder: Path) -> None:
    """Make Chroma forget a folder that it could not open; the next attempt would meet the wreck."""
    from chromadb.api.shared_system_client import SharedSystemClient  # noqa: PLC0415 - as above

    systems = SharedSystemClient._identifier_to_system  # noqa: SLF001 - the public way drops all of them
    systems.pop(str(folder), None)
    SharedSystemClient._identifier_to_refcount.pop(str(folder), None)  # noqa: SLF001 - same


@contextmanager
def _translated(place: str) -> Iterator[None]:
    """Turn what a damaged database makes Chroma raise into our error."""
    try:
        yield
    except (
        AttributeError,
        ImportError,
        KeyError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise StoreError(f"the vectors of {place} cannot be used: {error}") from error
    except BaseException as error:
        # Chroma's own errors, and the panics of its Rust core, which are not Exceptions and whose
        # class cannot be imported; anything else is none of ours.
        if type(error).__module__.partition(".")[0] not in {"chromadb", "pyo3_runtime"}:
            raise
        raise StoreError(f"the vectors of {place} cannot be used: {error}") from error


def _safe(model: str) -> str:
    """Return a model's identity as Chroma allows it in a name."""
    kept = "".join(char if char.isalnum() or char in "-_" else "-" for char in model).strip("-_")
    return (kept or "model")[:60]
