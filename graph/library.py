"""What the knowledge store has on a question: passages for the researcher, each search logged.

The store is optional and never in the way: a run without one says so once and goes on, and so does
one whose store cannot be read.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_runner.message import Message
from knowledge_store.errors import KnowledgeError, SourceError
from knowledge_store.findings import Found, SearchFilter
from knowledge_store.places import StorePlaces
from knowledge_store.records import Passage
from knowledge_store.routes import RouteLog, of_search

if TYPE_CHECKING:
    from knowledge_store.embedders import Embedder

ROUTES = "routes.jsonl"
_VARIABLE = "KERNELPILOT_KNOWLEDGE"
_USUAL = "knowledge"
_MOST_FOUND = 8
_MOST_LINES = 40


class Evidence(Message):
    """What a search came to."""

    passages: tuple[Passage, ...] = ()
    searched: tuple[str, ...] = ()
    """What was asked, how it was answered and how much came back; or why nothing was asked."""


def store_of(
    setting: str, environment: Mapping[str, str] = os.environ, here: Path | None = None
) -> Path | None:
    """Return the store that a run searches: the one set, the environment's, or `./knowledge`.

    Args:
        setting: of `knowledge.store`; empty: none was set.
        environment: of KERNELPILOT_KNOWLEDGE, which the commands under `knowledge` follow too.
        here: where the run was started; the current directory.
    """
    named = setting or environment.get(_VARIABLE, "")
    if named:
        return Path(named).expanduser()
    usual = (here or Path.cwd()) / _USUAL
    return usual if StorePlaces(usual).truth.is_file() else None


@dataclass(frozen=True, kw_only=True)
class Library:
    """A knowledge store as a run uses it."""

    store: Path | None = None
    """Folder of the store."""
    embedder: str = "auto"
    """Of the store's vectors, as `embedders.choose` reads it; asked only where there are some."""

    def evidence(self, query: str, routes: Path) -> Evidence:
        """Search the store, and log what was asked.

        Args:
            query: words; an identifier in quotes is searched for exactly.
            routes: the run's log of routes, appended to.
        """
        if self.store is None:
            told = "there is no knowledge store here; `make knowledge` builds one"
            return Evidence(searched=(told,))
        try:
            return _searched(self.store, self.embedder, query, RouteLog(routes))
        except KnowledgeError as error:
            return Evidence(searched=(f"the knowledge store cannot be used: {error}",))


def _searched(store: Path, wanted: str, query: str, log: RouteLog) -> Evidence:
    from knowledge_store.search import Searcher  # noqa: PLC0415 - brings the index of words

    embedder, why_none = _embedder(store, wanted)
    with Searcher(store, embedder) as searcher:
        answer = searcher.search(query, _MOST_FOUND)
    log.append(of_search(answer, SearchFilter()))
    told = (
        f"knowledge store, by {answer.route} for {query!r}: {len(answer.found)} of "
        f"{answer.total_pulls} pull requests that match, of {answer.searched_pulls}"
    )
    if answer.route == "meaning":
        told += f", ranked by words{f' alone: {why_none}' if why_none else ' and vectors'}"
    if answer.note:
        told += f" ({answer.note})"
    return Evidence(passages=tuple(map(_shortened, answer.found)), searched=(told,))


def _embedder(store: Path, wanted: str) -> tuple["Embedder | None", str]:
    """Return what a store's vectors were made by; or why words must do, which is no fault."""
    if not StorePlaces(store).chroma.is_dir():
        return None, "the store has no vectors"
    from knowledge_store import embedders  # noqa: PLC0415 - brings numpy

    try:
        choice = embedders.choose(wanted)
    except SourceError as error:
        return None, str(error)
    return choice.embedder, "" if choice.embedder else choice.said


def _shortened(found: Found) -> Passage:
    """Return the passage of an answer, at most so many lines of it."""
    passage = found.passage()
    lines = passage.text.split("\n")[:_MOST_LINES]
    last = passage.first_line + len(lines) - 1
    return passage.model_copy(update={"text": "\n".join(lines), "last_line": last})
