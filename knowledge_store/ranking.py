"""The rankers of a question about a subject, and their fusion."""

from dataclasses import dataclass, field

from knowledge_store import tags, tokens
from knowledge_store.embedders import Embedder
from knowledge_store.fusion import Fused, Ranking, fuse
from knowledge_store.lexical import Lexical
from knowledge_store.vectors import VectorKind, VectorStore, unit
from knowledge_store.words_index import analysed

DEPTH = 100
_VECTOR_DEPTH = 50
_WEIGHTS: dict[VectorKind, float] = {"card": 1.0, "chunk": 0.5}


@dataclass(frozen=True)
class Evidence:
    """What the rankers know beside their orders."""

    chunks: dict[str, int] = field(default_factory=dict)
    """Place of the best chunk, by key."""
    similarities: dict[tuple[str, str], float] = field(default_factory=dict)
    """By ranker and key."""
    terms: frozenset[str] = frozenset()
    """Analysed terms that were searched."""


class Rankers:
    """Ranks by the words of diffs, of cards, and by vectors where there are any."""

    def __init__(
        self, lexical: Lexical, embedder: Embedder | None = None, vectors: VectorStore | None = None
    ) -> None:
        self._lexical = lexical
        self._embedder = embedder
        self._vectors = vectors

    def fused(
        self, query: str, *, repo: str = "", depth: int = DEPTH
    ) -> tuple[tuple[Fused, ...], Evidence]:
        """Return every pull request that a ranker found, best first, and what speaks for it."""
        terms = query_terms(query)
        by_diff = self._lexical.by_chunks(terms, depth, repo=repo)
        by_card = self._lexical.by_cards(terms, depth, repo=repo)
        evidence = Evidence(
            chunks={one.key: one.chunk for one in by_diff if one.chunk is not None},
            terms=frozenset(terms),
        )
        rankings = [
            Ranking("diff", tuple(one.key for one in by_diff)),
            Ranking("card", tuple(one.key for one in by_card)),
            *self._by_vectors(query, repo, evidence),
        ]
        return fuse(rankings), evidence

    def _by_vectors(self, query: str, repo: str, evidence: Evidence) -> list[Ranking]:
        if self._vectors is None or self._embedder is None:
            return []
        vector = unit(self._embedder.embed([query]))[0]
        rankings = []
        for kind, weight in _WEIGHTS.items():
            near = self._vectors.nearest(vector, _VECTOR_DEPTH, kind=kind, repo=repo)
            name = f"{kind} vector"
            for one in near:
                evidence.similarities.setdefault((name, one.key), one.similarity)
                if one.chunk >= 0:
                    evidence.chunks.setdefault(one.key, one.chunk)
            rankings.append(Ranking(name, tuple(one.key for one in near), weight))
        return rankings


def query_terms(query: str) -> tuple[str, ...]:
    """Return the analysed terms of a query, those of its aliases among them."""
    aliases = " ".join(tags.expand(query))
    return analysed((*tokens.question_words(query), *tokens.question_words(aliases)))
