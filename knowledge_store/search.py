"""The resident search: opens a store once, routes each query, ranks, and says why.

It notices when another process has updated the store, and opens it again.
"""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from knowledge_store import lines, semantic
from knowledge_store.embedders import Embedder
from knowledge_store.embedding_cache import EmbeddingCache
from knowledge_store.exact import Exact
from knowledge_store.findings import Found, Reason, SearchAnswer, SearchFilter
from knowledge_store.fusion import Fused
from knowledge_store.lexical import Lexical
from knowledge_store.places import StorePlaces
from knowledge_store.pulls import Chunk, PullRequest
from knowledge_store.ranking import DEPTH, Evidence, Rankers
from knowledge_store.router import Route, require_text, route
from knowledge_store.truth import Truth
from knowledge_store.vectors import StoreInUse, VectorStore

_FILTERED_DEPTH = 400
_SHOWN_WORDS = 8
_SHORTEST = 3
_WORD = re.compile(r"\w+")


class Searcher:
    """Searches one store; holds its files open until it is closed."""

    def __init__(self, folder: Path, embedder: Embedder | None = None, *, server: str = "") -> None:
        """Open a store.

        Args:
            folder: of the store.
            embedder: of the model whose vectors the store has; words alone rank without one.
            server: `host:port` of the Chroma server that holds them instead of the store.

        Raises:
            StoreError: there is no store, or an index is damaged; an update puts it right.
        """
        self._places = StorePlaces(folder)
        self.truth = Truth(folder, read_only=True)
        self._lexical = Lexical(self._places.lexical)
        self._exact = Exact(folder)
        self._keys = tuple(self.truth.keys())
        self._repos = frozenset(key.rpartition("#")[0] for key in self._keys)
        self._pulls: dict[str, PullRequest] = {}
        self.embedder = embedder
        self._vectors: VectorStore | None = None
        if embedder is not None:
            self._vectors = self._opened_vectors(embedder, server)
        self._rankers = Rankers(self._lexical, embedder, self._vectors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every file."""
        if self._vectors is not None:
            self._vectors.close()
        self._exact.close()
        self.truth.close()

    def search(
        self,
        query: str,
        limit: int = 10,
        *,
        only: SearchFilter | None = None,
        as_route: Route | None = None,
    ) -> SearchAnswer:
        """Answer a query by lines or by meaning, as it is written.

        Args:
            query: see `router.route`.
            limit: most pull requests returned.
            only: which may be found.
            as_route: search this way, however the query is written.

        Raises:
            ValueError: the query is empty, or no text.
        """
        require_text(query)
        started = time.perf_counter()
        only = only or SearchFilter()
        routed = route(query)
        chosen = as_route or routed.route
        because = routed.why if as_route is None else f"asked for by {as_route}"
        pattern = routed.pattern if as_route in {None, routed.route} else query.strip()
        note = ""
        if chosen != "meaning":
            answer = lines.search(self._exact, self, pattern, chosen, (limit, only))
            if answer.found or as_route is not None:
                return self._timed(answer, query, because, started)
            note = f"no line of any diff matches {pattern!r}; ranked by its words"
            query = pattern
        found, ranked = self._meaning(query, limit, only)
        answer = SearchAnswer(
            query=query,
            route="meaning",
            routed_because=because,
            found=found,
            is_complete=False,
            total_pulls=ranked,
            note=note,
        )
        return self._timed(answer, query, because, started)

    def place_of(self, query: str, key: str) -> tuple[int, Found | None]:
        """Return where a pull request stands among all that are ranked for a query, from 1.

        Returns:
            0 and None where no ranker has it.

        Raises:
            ValueError: the query is empty, or no text.
        """
        require_text(query)
        fused, evidence = self._rankers.fused(query, depth=_FILTERED_DEPTH)
        for place, one in enumerate(fused, start=1):
            if one.key == key:
                return place, self._made(one, evidence, ((), SearchFilter()))
        return 0, None

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys that can be found."""
        return self._keys

    def pull(self, key: str) -> PullRequest | None:
        """Return a pull request, remembered since it was last asked for."""
        found = self._pulls.get(key) or self.truth.pull(key)
        if found is not None:
            self._pulls[key] = found
        return found

    def full_names(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the repositories that some names mean, by the last part of them or in full.

        Raises:
            StoreError: the store holds none of such a name.
        """
        return lines.named(names, self._repos)

    def _meaning(self, query: str, limit: int, only: SearchFilter) -> tuple[tuple[Found, ...], int]:
        names = self.full_names(only.repos)
        is_narrow = bool(names[1:] or only.since or only.until or only.kinds or only.tags)
        depth = _FILTERED_DEPTH if is_narrow else DEPTH
        repo = names[0] if len(names) == 1 else ""
        fused, evidence = self._rankers.fused(query, repo=repo, depth=depth)
        found: list[Found] = []
        for one in fused:
            if len(found) == limit:
                break
            made = self._made(one, evidence, (names, only))
            if made is not None:
                found.append(made)
        return tuple(found), len(fused)

    def _made(
        self, one: Fused, evidence: Evidence, given: tuple[tuple[str, ...], SearchFilter]
    ) -> Found | None:
        """Return what is shown of a pull request, or None where a filter holds it back."""
        names, only = given
        pull = self.pull(one.key)
        if pull is None or not passes(pull, names, only):
            return None
        chunk = self.truth.chunk(one.key, evidence.chunks.get(one.key, 0))
        if only.kinds or only.tags:
            chunk = self._chunk_of(one.key, chunk, only)
            if chunk is None:
                return None
        return found_of(pull, one.score, reasons(one, evidence, pull, chunk), chunk)

    def _chunk_of(self, key: str, chunk: Chunk | None, only: SearchFilter) -> Chunk | None:
        """Return a chunk that a filter lets through, the given one before others."""
        kinds = {file.path: file.kind for file in self.truth.files(key)} if only.kinds else {}
        for one in (chunk, *self.truth.chunks(key)):
            if (
                one is not None
                and set(only.tags) <= set(one.tags)
                and (not only.kinds or kinds.get(one.path) in only.kinds)
            ):
                return one
        return None

    def _opened_vectors(self, embedder: Embedder, server: str) -> VectorStore:
        """Return the store's vectors, from memory where another process owns the files."""
        try:
            return semantic.opened(self._places.chroma, embedder, server=server)[0]
        except StoreInUse:
            cache = EmbeddingCache(self._places.embeddings)
            try:
                return semantic.in_memory(cache, embedder, semantic.card_texts(self.truth))
            finally:
                cache.close()

    def _timed(
        self, answer: SearchAnswer, query: str, because: str, started: float
    ) -> SearchAnswer:
        return answer.model_copy(
            update={
                "query": query,
                "routed_because": because,
                "searched_pulls": len(self._keys),
                "seconds": time.perf_counter() - started,
            }
        )


def passes(pull: PullRequest, names: tuple[str, ...], only: SearchFilter) -> bool:
    """Tell whether a filter lets a pull request through, as far as that alone decides."""
    if names and pull.repo not in names:
        return False
    if (only.since or only.until) and not pull.merged_at:
        return False
    return (not only.since or pull.merged_at >= only.since) and (
        not only.until or pull.merged_at <= only.until
    )


def found_of(
    pull: PullRequest, score: float, why: tuple[Reason, ...], chunk: Chunk | None
) -> Found:
    """Join a pull request and its best chunk."""
    return Found(
        key=pull.key,
        slug=pull.slug,
        title=pull.title,
        url=pull.url,
        repo=pull.repo,
        merged_at=pull.merged_at,
        licence=pull.licence,
        score=score,
        why=why,
        path=chunk.path if chunk else "",
        heading=chunk.heading if chunk else "",
        diff_line=chunk.diff_line if chunk else 0,
        new_line=chunk.new_start if chunk else 0,
        text=chunk.text if chunk else "",
        tags=chunk.tags if chunk else (),
    )


def reasons(
    one: Fused, evidence: Evidence, pull: PullRequest, chunk: Chunk | None
) -> tuple[Reason, ...]:
    """Say why a pull request came, the ranker that likes it best first."""
    said = []
    for ranker, place in sorted(one.ranks.items(), key=lambda item: item[1]):
        detail = ""
        if ranker == "diff" and chunk is not None:
            detail = _shared(evidence.terms, f"{chunk.path}\n{chunk.heading}\n{chunk.text}")
        elif ranker in {"card", "prose", "whole"}:
            detail = _shared(evidence.terms, f"{pull.title}\n{pull.body}")
        elif (ranker, one.key) in evidence.similarities:
            detail = f"cosine {evidence.similarities[ranker, one.key]:.2f}"
        said.append(Reason(ranker=ranker, place=place, detail=detail))
    return tuple(said)


def _shared(terms: frozenset[str], text: str) -> str:
    """Return words of a text that hold a term that was asked for, a few of them, as written.

    Terms are stems: a word holds one as it is, but for the `i` that stemming puts
    in place of a `y`.
    """
    shown: dict[str, None] = {}
    lowered = text.lower()
    for term in sorted(terms):
        stem = term.removesuffix("i") if len(term) > _SHORTEST else term
        at = lowered.find(stem)
        if at >= 0 and len(shown) < _SHOWN_WORDS:
            first = at
            while first and (text[first - 1].isalnum() or text[first - 1] == "_"):
                first -= 1
            word = _WORD.match(text, first)
            shown[(word[0] if word else stem).lower()] = None
    return ", ".join(shown)
