"""Exact search inside cloned repositories. One that is not cloned is refused, never passed over."""

from pathlib import Path

from knowledge_store import routes
from knowledge_store.exact import ExactQuery, search_tree
from knowledge_store.records import Passage
from knowledge_store.router import require_text
from knowledge_store.source_map import SourceMap


def search(
    sources: SourceMap,
    pattern: str,
    names: tuple[str, ...] = (),
    given: tuple[bool, int] = (False, 200),
    log: Path | None = None,
) -> tuple[Passage, ...]:
    """Return the lines that match, with commit and licence of the clone they lie in.

    Args:
        sources: the registry and its clones.
        pattern: a text, or a regular expression.
        names: repositories; every one that is cloned where none is named.
        given: whether the pattern is a regular expression, and most lines returned.
        log: of the run.

    Raises:
        ValueError: the pattern is empty, or no text.
        NotCloned: a repository that was named, or every one of the registry, does not lie here.
    """
    require_text(pattern)
    is_regex, limit = given
    wanted = names or tuple(sources.pins()) or sources.names()
    query = ExactQuery(patterns=(pattern,), mode="regex" if is_regex else "literal", limit=limit)
    opened = {name: sources.require(name) for name in wanted}
    found: list[Passage] = []
    for name, (folder, pin) in opened.items():
        answer = search_tree(folder, query.model_copy(update={"limit": limit - len(found)}))
        found.extend(
            Passage(
                path=hit.path,
                source=sources.source(name).url,
                first_line=hit.line,
                last_line=hit.line,
                text=hit.text,
                repo=name,
                commit=pin.commit,
                licence=pin.licence,
            )
            for hit in answer.hits
        )
        if len(found) >= limit:
            break
    if log is not None:
        routes.RouteLog(log).append(routes.of_fetch("source", pattern, opened))
    return tuple(found)
