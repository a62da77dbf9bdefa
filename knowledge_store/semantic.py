"""Ranking by vectors: which texts get one, and how the store of them follows the truth.

A vector's id names its text, so an update is a difference of sets: what the truth no longer says
goes, what is new is embedded, unless the cache has it.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from knowledge_store.cards import Withheld, card_of, passage_text
from knowledge_store.embedders import Embedder
from knowledge_store.embedding_cache import EmbeddingCache
from knowledge_store.errors import StoreError
from knowledge_store.pulls import Chunk
from knowledge_store.truth import Truth
from knowledge_store.vectors import (
    ChromaStore,
    MemoryStore,
    StoreInUse,
    VectorEntry,
    VectorStore,
)

CHUNKS_A_PULL = 6
_STEP = 1024
_KINDS_FIRST = ("kernel", "library", "generated", "bench", "test", "config", "doc")


@dataclass(frozen=True, slots=True)
class Text:
    """A text that gets a vector."""

    entry: VectorEntry
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticReport:
    """What an update did."""

    added: int
    removed: int
    total: int
    is_rebuilt: bool = False
    reason: str = ""


def card_texts(truth: Truth, withheld: Withheld = "") -> Iterator[Text]:
    """Yield the card of every pull request."""
    for key in truth.keys():  # noqa: SIM118 - keys of a store, not of a mapping
        pull = truth.pull(key)
        if pull is not None:
            text = card_of(pull, truth.files(key), truth.chunks(key)).text(withheld)
            yield _named("card", key, pull.repo, -1, text)


def chunk_texts(truth: Truth, a_pull: int, withheld: Withheld = "") -> Iterator[Text]:
    """Yield those chunks of every pull request that say most."""
    for key in truth.keys() if a_pull else ():
        pull = truth.pull(key)
        if pull is not None:
            kinds = {file.path: file.kind for file in truth.files(key)}
            title = "" if withheld == "title" else pull.title
            chunks = truth.chunks(key)
            for at in telling(chunks, kinds, a_pull):
                yield _named("chunk", key, pull.repo, at, passage_text(chunks[at], title))


def telling(chunks: tuple[Chunk, ...], kinds: Mapping[str, str], count: int) -> list[int]:
    """Return the places of at most `count` chunks: one a file in turn, the most telling first."""
    ranks = {kind: rank for rank, kind in enumerate(_KINDS_FIRST)}
    seen: dict[str, int] = {}
    turns: dict[int, int] = {}
    order = sorted(range(len(chunks)), key=lambda at: (-chunks[at].added, at))
    for at in order:
        turns[at] = seen.get(chunks[at].path, 0)
        seen[chunks[at].path] = turns[at] + 1

    def place(at: int) -> tuple[int, int, int, int]:
        kind = ranks.get(kinds.get(chunks[at].path, ""), len(ranks))
        return (turns[at], kind, -chunks[at].added, at)

    return sorted(order, key=place)[:count]


def update(
    store: VectorStore,
    cache: EmbeddingCache,
    embedder: Embedder,
    texts: Iterable[Text],
    tell: Callable[[int, int], None] = lambda _done, _of: None,
) -> SemanticReport:
    """Make a store hold exactly these texts."""
    wanted = {one.entry.entry_id: one for one in texts}
    held = store.ids()
    stale = held - wanted.keys()
    # Entries are dropped by pull request, so those of it that stay are put again, from the cache.
    touched = {name.rpartition(":")[0].rpartition(":")[0] for name in stale}
    store.drop(touched)
    fresh = [one for name, one in wanted.items() if name not in held or one.entry.key in touched]
    for first in range(0, len(fresh), _STEP):
        some = fresh[first : first + _STEP]
        rows = cache.embed(embedder, [one.text for one in some])
        store.put([one.entry for one in some], rows)
        tell(first + len(some), len(fresh))
    return SemanticReport(added=len(fresh), removed=len(stale), total=len(wanted))


def opened(folder: Path, embedder: Embedder, *, server: str = "") -> tuple[ChromaStore, str]:
    """Open the store of vectors; one that is damaged is thrown away, and why is returned.

    Raises:
        StoreInUse: another process owns it.
        StoreError: a server cannot be reached.
    """
    try:
        return ChromaStore(folder, embedder.name, server=server), ""
    except StoreError as error:
        if server or isinstance(error, StoreInUse):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        return ChromaStore(folder, embedder.name), str(error)


def in_memory(cache: EmbeddingCache, embedder: Embedder, texts: Iterator[Text]) -> MemoryStore:
    """Return a store of those texts whose vectors are at hand; nothing is embedded."""
    found = list(texts)
    known = cache.known(embedder.name, [one.text for one in found])
    ready = [one for one in found if one.text in known]
    store = MemoryStore()
    if ready:
        store.put([one.entry for one in ready], np.stack([known[one.text] for one in ready]))
    return store


def _named(kind: str, key: str, repo: str, chunk: int, text: str) -> Text:
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()
    entry = VectorEntry(
        entry_id=f"{key}:{kind}{chunk if chunk >= 0 else ''}:{digest}",
        key=key,
        kind="card" if kind == "card" else "chunk",
        repo=repo,
        chunk=chunk,
    )
    return Text(entry, text)
