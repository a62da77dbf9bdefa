"""How well search finds what it should, on a file of queries with known answers.

A query that was made from a field must not meet that field: titles are searched in an index without
any title, sentences of bodies in one without bodies. Such an index is built beside the store, and
kept until the truth changes.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from knowledge_store import lexical, semantic
from knowledge_store.cards import Withheld
from knowledge_store.embedders import Embedder
from knowledge_store.embedding_cache import EmbeddingCache
from knowledge_store.errors import SourceError
from knowledge_store.lexical import Lexical
from knowledge_store.pages import names_of
from knowledge_store.places import StorePlaces
from knowledge_store.ranking import Rankers
from knowledge_store.router import Route
from knowledge_store.search import Searcher
from knowledge_store.vectors import MemoryStore

AT = 10
_WITHHELD: dict[str, Withheld] = {"title": "title", "body": "body"}
_EXACT_KINDS = frozenset({"identifier"})


class Relevant(BaseModel):
    """A pull request that a query must find."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    repo: str
    """Its full name, the last part of it, or a name that a source uses."""
    pr: int


class Question(BaseModel):
    """A line of the file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    query: str
    kind: str
    relevant: tuple[Relevant, ...] = ()
    rubric_all_regex_i: tuple[str, ...] = ()
    """Where no answer is known: what an answer's title, body and best chunk must all match."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of one query."""

    recall: float
    """Of at most ten answers: those among the first ten, out of as many as could be there."""
    reciprocal_rank: float
    """Of the first right answer among the first ten; 0 where there is none."""


def read_questions(path: Path) -> tuple[Question, ...]:
    """Return the questions of a JSONL file.

    Raises:
        SourceError: the file cannot be read, or a line is not a question; the message names it.
    """
    found = []
    try:
        # A title may hold other characters that end lines elsewhere.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as questions: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                one = Question.model_validate_json(line)
                for pattern in one.rubric_all_regex_i:
                    re.compile(pattern)
                found.append(one)
            except (ValidationError, re.error) as error:
                raise SourceError(f"{path}, line {number}, is not a question: {error}") from error
    return tuple(found)


def evaluate(
    store: Path,
    questions: Sequence[Question],
    embedder: Embedder | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> dict[str, Any]:
    """Return recall and mean reciprocal rank of each kind of question.

    Args:
        store: its folder.
        questions: of any kinds.
        embedder: of the store's vectors; without one words alone are measured.
        tell: says what is being done.
    """
    kinds: dict[str, list[Score]] = {}
    unknown: dict[str, int] = {}
    with Searcher(store, embedder) as searcher:
        for kind in dict.fromkeys(question.kind for question in questions):
            some = [question for question in questions if question.kind == kind]
            tell(f"{kind}: {len(some)} queries")
            order = _order(store, searcher, kind, tell)
            for question in some:
                wanted = {key for one in question.relevant for key in keys_of(one, searcher.keys)}
                if not wanted and not question.rubric_all_regex_i:
                    unknown[kind] = unknown.get(kind, 0) + 1
                    wanted = {""}
                found = order(question.query)
                if question.rubric_all_regex_i:
                    scored = judged(searcher, found, question.rubric_all_regex_i)
                else:
                    scored = score(found, wanted)
                kinds.setdefault(kind, []).append(scored)
    told = {kind: _mean(scores) for kind, scores in kinds.items()}
    for kind, count in unknown.items():
        told[kind]["not_in_store"] = count
    return {"kinds": told, "embedder": embedder.name if embedder else "none"}


def keys_of(one: Relevant, keys: Iterable[str]) -> set[str]:
    """Return the keys that an answer means: one, or none where the store does not have it."""
    ending = f"#{one.pr}"
    return {
        key
        for key in keys
        if key.endswith(ending) and one.repo.lower() in names_of(key.removesuffix(ending))
    }


def score(found: Sequence[str], wanted: set[str], at: int = AT) -> Score:
    """Return the score of an order of keys."""
    top = list(dict.fromkeys(found))[:at]
    hits = sum(key in wanted for key in top)
    first = next((place for place, key in enumerate(top, start=1) if key in wanted), 0)
    return Score(hits / min(at, len(wanted)), 1 / first if first else 0.0)


def judged(searcher: Searcher, found: Sequence[str], rubric: Sequence[str]) -> Score:
    """Return the share of the first ten whose title or body meets every pattern of a rubric."""
    patterns = [re.compile(one, re.IGNORECASE) for one in rubric]
    meets = []
    for key in found[:AT]:
        pull = searcher.pull(key)
        text = f"{pull.title}\n{pull.body}" if pull else ""
        meets.append(all(pattern.search(text) for pattern in patterns))
    first = next((place for place, is_met in enumerate(meets, start=1) if is_met), 0)
    return Score(sum(meets) / AT, 1 / first if first else 0.0)


def _order(
    store: Path, searcher: Searcher, kind: str, tell: Callable[[str], None]
) -> Callable[[str], list[str]]:
    """Return what ranks the queries of a kind."""
    withheld = _WITHHELD.get(kind, "")
    if not withheld:

        def by_route(query: str) -> list[str]:
            as_route: Route | None = "word" if kind in _EXACT_KINDS else None
            return [one.key for one in searcher.search(query, AT, as_route=as_route).found]

        return by_route
    places = StorePlaces(store)
    folder = places.measured / f"without-{withheld}"
    tell(f"an index without any {withheld}: {folder}")
    lexical.update(folder, searcher.truth, withheld=withheld)
    vectors = None
    if searcher.embedder is not None:
        tell(f"vectors without any {withheld}")
        vectors = _vectors(searcher, places, withheld)
    rankers = Rankers(Lexical(folder), searcher.embedder, vectors)
    return lambda query: [one.key for one in rankers.fused(query)[0][:AT]]


def _vectors(searcher: Searcher, places: StorePlaces, withheld: Withheld) -> MemoryStore:
    store, embedder = MemoryStore(), searcher.embedder
    if embedder is None:
        return store
    texts = [
        *semantic.card_texts(searcher.truth, withheld),
        *semantic.chunk_texts(searcher.truth, semantic.CHUNKS_A_PULL, withheld),
    ]
    cache = EmbeddingCache(places.embeddings)
    try:
        rows = cache.embed(embedder, [one.text for one in texts])
    finally:
        cache.close()
    store.put([one.entry for one in texts], rows)
    return store


def _mean(scores: Sequence[Score]) -> dict[str, float | int]:
    count = len(scores)
    return {
        "recall_at_10": round(sum(one.recall for one in scores) / count, 4),
        "mrr": round(sum(one.reciprocal_rank for one in scores) / count, 4),
        "queries": count,
    }


def as_json(result: dict[str, Any]) -> str:
    """Return a result as one line of JSON."""
    return json.dumps(result)
