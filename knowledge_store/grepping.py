"""`grep` over a store: every line, totals, the entry in the route log."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from knowledge_store import lines
from knowledge_store.exact import Exact, ExactAnswer, ExactQuery
from knowledge_store.findings import SearchFilter
from knowledge_store.router import require_text
from knowledge_store.routes import RouteEntry, RouteLog
from knowledge_store.truth import Truth


class GrepRequest(BaseModel):
    """What a command asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patterns: tuple[str, ...]
    mode: Literal["literal", "word", "regex"] = "literal"
    combine: Literal["any", "all"] = "any"
    ignore_case: bool = False
    paths: tuple[str, ...] = ()
    limit: int = 200
    per_repo: int | None = None
    only: SearchFilter = SearchFilter()


def grep(store: Path, request: GrepRequest, log: Path | None = None) -> ExactAnswer:
    """Return every line that matches, as many as were asked for, with the totals of all.

    Raises:
        StoreError: there is no index, or it is damaged; or no repository of a name.
        KnowledgeError: a pattern cannot be searched, or the time allowed ended.
        ValueError: a pattern is no text.
    """
    for pattern in request.patterns:
        if pattern.strip():  # a line may be searched for blanks
            require_text(pattern)
    only = request.only
    if only.repos:
        # No line of a repository that is not here is no finding: its name may be misspelt.
        with Truth(store, read_only=True) as truth:
            lines.named(only.repos, {key.rpartition("#")[0] for key in truth.keys()})  # noqa: SIM118 - not a mapping
    query = ExactQuery(
        patterns=request.patterns,
        mode=request.mode,
        combine=request.combine,
        ignore_case=request.ignore_case,
        repos=only.repos,
        paths=request.paths,
        since=only.since,
        until=only.until,
        kinds=only.kinds,
        tags=only.tags,
        limit=request.limit,
        per_repo=request.per_repo,
    )
    with Exact(store) as exact:
        answer = exact.search(query)
    if log is not None:
        RouteLog(log).append(entry_of(request, answer))
    return answer


def entry_of(request: GrepRequest, answer: ExactAnswer) -> RouteEntry:
    """Return what a route log keeps of a grep; its totals are of all lines, whatever the limit."""
    scope = {name: value for name, value in request.only.model_dump().items() if value}
    if request.paths:
        scope["paths"] = request.paths
    keys = tuple(dict.fromkeys(hit.key for hit in answer.hits))
    return RouteEntry(
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        route="lines",
        query=(" & " if request.combine == "all" else " | ").join(request.patterns),
        scope=scope,
        is_complete=True,
        without_diff=answer.without_diff,
        pulls=answer.total_pulls,
        lines=answer.total_hits,
        searched=answer.searched_pulls,
        keys=keys,
        licences={hit.key: hit.licence for hit in answer.hits},
    )


def rows(answer: ExactAnswer) -> Iterator[str]:
    """Yield what a reader sees: each line with where it is, then the totals."""
    for hit in answer.hits:
        yield f"{hit.key}:{hit.diff_line}:{hit.path}: {hit.text}"
    shown = f", {len(answer.hits)} shown" if answer.is_truncated else ""
    lost = len(answer.without_diff)
    without = f"; {lost} have no diff and were not searched" if lost else ""
    yield (
        f"{answer.total_hits} lines in {answer.total_pulls} of {answer.searched_pulls} "
        f"pull requests{shown}, {answer.seconds * 1000:.1f} ms ({answer.engine}){without}"
    )
