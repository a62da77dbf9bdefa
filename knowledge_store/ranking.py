"""The rankers of a question about a subject, and their fusion."""

from dataclasses import dataclass, field

from knowledge_store import tags
from knowledge_store.embedders import Embedder
from knowledge_store.fusion import Fused, Ranking, fuse
from knowledge_store.lexical import Lexical, question_of
from knowledge_store.vectors import VectorKind, VectorStore, unit

DEPTH = 100
_VECTOR_DEPTH = 50
# Half: what it reads, the card reads too.
_PROSE_WEIGHT = 0.5
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
    """Ranks by words of diffs, cards, prose and the whole, and by vectors where there are any."""

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
        question = question_of(query, tags.expand(query))
        by_diff = self._lexical.by_chunks(question, depth, repo=repo)
        by_card = self._lexical.by_cards(question, depth, repo=repo)
        by_prose = self._lexical.by_prose(question, depth, repo=repo)
        by_whole = self._lexical.by_whole(question, depth, repo=repo)
        evidence = Evidence(
            chunks={one.key: one.chunk for one in by_diff if one.chunk is not None},
            terms=frozenset(term for term, _ in question.terms),
        )
        rankings = [
            Ranking("diff", tuple(one.key for one in by_diff)),
            Ranking("card", tuple(one.key for one in by_card)),
            Ranking("prose", tuple(one.key for one in by_prose), _PROSE_WEIGHT),
            Ranking("whole", tuple(one.key for one in by_whole)),
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
