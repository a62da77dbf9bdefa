"""Building and updating a store, in stages: exact, words, vectors of cards, vectors of chunks.

Each stage follows the truth's revision, so an interrupted build goes on where it stopped and a
second one finds nothing to do. One process builds at a time, and searching is never kept out.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from knowledge_store import lexical, locks, semantic
from knowledge_store.embedders import Choice
from knowledge_store.embedding_cache import EmbeddingCache
from knowledge_store.errors import KnowledgeError, StoreError
from knowledge_store.exact import Exact, ExactQuery
from knowledge_store.lexical import Lexical
from knowledge_store.places import StorePlaces
from knowledge_store.progress import Progress, Report, Tell, silent
from knowledge_store.truth import Truth
from knowledge_store.vectors import StoreInUse

ABSENT = "\x01\x02 absent \x02\x01"
"""A text that no diff holds: searching for it opens an index and tells how much it holds."""
_MANY = 500
"""Changed pull requests from which a second process pays for its start."""
Ingest = Callable[[Truth, Tell], Report]
"""A source, ready to be read into a truth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """What a stage did, and when it had ended."""

    stage: str
    said: str
    seconds: float
    """Of the stage."""
    ready_s: float
    """From the beginning of the build to the end of the stage."""


@dataclass(slots=True, kw_only=True)
class Built:
    """What a build did."""

    stages: list[StageTime] = field(default_factory=list)
    sources: list[Report] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_changed(self) -> bool:
        """Tell whether any source brought something."""
        return any(report.changed or report.dropped for report in self.sources)


def build(
    store: Path,
    sources: list[Ingest],
    choice: Choice,
    *,
    tell: Tell = silent,
    chunks_a_pull: int = semantic.CHUNKS_A_PULL,
    server: str = "",
) -> Built:
    """Read sources into the truth of a store, then bring every index to it.

    Args:
        store: its folder; created.
        sources: read in order; none for the indices alone.
        choice: what makes vectors, or nothing.
        tell: hears how far each stage is.
        chunks_a_pull: chunks of a pull request that get a vector.
        server: `host:port` of a Chroma server instead of the store's own folder.

    Raises:
        StoreError: the truth cannot be used. What was done before stays.
    """
    started = time.perf_counter()
    built = Built()
    places = StorePlaces(store)

    def staged(stage: str, work: Callable[[], str]) -> None:
        began = time.perf_counter()
        said = work()
        now = time.perf_counter()
        built.stages.append(
            StageTime(stage=stage, said=said, seconds=now - began, ready_s=now - started)
        )

    with locks.exclusive(places.building), Truth(store) as truth:
        for source in sources:
            staged("ingest", partial(_ingested, built, source, truth, tell))
        staged("derive", lambda: f"{truth.rederive(tell)} cut anew")
        if sum(report.changed for report in built.sources) < _MANY:
            staged("exact", lambda: _exact(store, truth, tell))
            staged("words", lambda: _words(places, truth, tell))
        else:
            # Both read the truth alone, so with much to do they share two cores.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
                exact = other.submit(_exact_alone, store)
                staged("words", lambda: _words(places, truth, tell))
                staged("exact", exact.result)
        staged("vectors", lambda: _vectors(places, truth, choice, (chunks_a_pull, server), tell))
    built.seconds = time.perf_counter() - started
    return built


def stats(store: Path) -> dict[str, Any]:
    """Return what a store holds, and whether its indices are whole and current.

    Raises:
        StoreError: there is no store.
    """
    places = StorePlaces(store)
    with Truth(store, read_only=True) as truth:
        counts = truth.counts()
        by_repo: dict[str, int] = {}
        for key in truth.keys():  # noqa: SIM118 - not a mapping
            repo = key.rpartition("#")[0]
            by_repo[repo] = by_repo.get(repo, 0) + 1
        told: dict[str, Any] = {
            name: getattr(counts, name) for name in type(counts).__dataclass_fields__
        }
        told["repos"] = dict(sorted(by_repo.items()))
        told["revision"] = truth.revision
        told["indices"] = {
            "words": _words_state(places, truth.revision),
            "exact": _exact_state(store),
        }
    told["bytes"] = {
        path.name: _size(path)
        for path in sorted(store.iterdir())
        if not path.name.endswith((".lock", ".owner"))
    }
    return told


def as_dict(built: Built) -> dict[str, Any]:
    """Return what a build did, as JSON takes it."""
    return {
        "seconds": round(built.seconds, 3),
        "is_changed": built.is_changed,
        "stages": [asdict(stage) for stage in built.stages],
        "sources": [asdict(report) for report in built.sources],
    }


def _ingested(built: Built, source: Ingest, truth: Truth, tell: Tell) -> str:
    report = source(truth, tell)
    built.sources.append(report)
    said = f"{report.changed} changed, {report.unchanged} unchanged"
    if report.missing:
        said += f", {len(report.missing)} without a diff"
    if report.problems:
        said += f", {len(report.problems)} could not be read"
    return f"{report.source}: {said}"


def _exact(store: Path, truth: Truth, tell: Tell) -> str:
    with Exact(store) as exact:
        report = exact.update(truth, tell)
    said = f"{report.indexed} indexed, {report.removed} taken out"
    return f"{said}; made anew: {', '.join(report.rebuilt)}" if report.rebuilt else said


def _exact_alone(store: Path) -> str:
    """Bring exact search to the truth in a process of its own."""
    with Truth(store, read_only=True) as truth:
        return _exact(store, truth, silent)


def _words(places: StorePlaces, truth: Truth, tell: Tell) -> str:
    def heard(done: int, total: int) -> None:
        tell(Progress(stage="words", done=done, total=total))

    report = lexical.update(places.lexical, truth, tell=heard)
    said = f"{report.replaced} indexed, {report.dropped} taken out"
    return f"{said}; made anew: {report.reason}" if report.is_rebuilt else said


def _vectors(
    places: StorePlaces, truth: Truth, choice: Choice, given: tuple[int, str], tell: Tell
) -> str:
    if choice.embedder is None:
        return choice.said
    a_pull, server = given
    try:
        store, why = semantic.opened(places.chroma, choice.embedder, server=server)
    except StoreInUse as error:
        return f"left as they are: {error}"
    cache = EmbeddingCache(places.embeddings)

    def heard(done: int, total: int) -> None:
        tell(Progress(stage="vectors", done=done, total=total))

    try:
        # Cards first: they are few and find most.
        texts = [*semantic.card_texts(truth), *semantic.chunk_texts(truth, a_pull)]
        report = semantic.update(store, cache, choice.embedder, texts, heard)
    finally:
        cache.close()
        store.close()
    said = f"{choice.said}: {report.added} put, {report.removed} taken out, {report.total} held"
    return f"{said}; made anew: {why}" if why else said


def _words_state(places: StorePlaces, revision: int) -> str:
    try:
        found = Lexical(places.lexical)
    except StoreError as error:
        return f"unusable: {error}"
    if found.revision != revision:
        return f"behind: revision {found.revision} of {revision}"
    return f"{found.chunks} chunks, {found.cards} cards"


def _exact_state(store: Path) -> str:
    try:
        with Exact(store) as index:
            answer = index.search(ExactQuery(patterns=(ABSENT,), limit=1))
    except KnowledgeError as error:
        return f"unusable: {error}"
    return f"{answer.searched_pulls} diffs"


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
