"""Exact answers by pull request: every line that holds a pattern, most lines first."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from knowledge_store.errors import StoreError
from knowledge_store.exact import Exact, ExactAnswer, ExactQuery, Hit
from knowledge_store.findings import Found, Reason, SearchAnswer, SearchFilter
from knowledge_store.pulls import PullRequest
from knowledge_store.router import Route

_MOST_HITS = 5_000
_SHOWN_LINES = 5
LineRoute = Literal["literal", "word", "regex"]


class Pulls(Protocol):
    """What knows pull requests by key, and repositories by a part of their name."""

    def pull(self, key: str) -> PullRequest | None:
        """Return a pull request."""
        ...

    def full_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the repositories that some names mean."""
        ...


@dataclass(frozen=True, slots=True)
class _Group:
    key: str
    hits: tuple[Hit, ...]
    is_word: bool


def search(
    exact: Exact, pulls: Pulls, pattern: str, mode: Route, given: tuple[int, SearchFilter]
) -> SearchAnswer:
    """Return the pull requests whose diffs hold a pattern.

    One identifier is searched as a whole word first; pull requests that hold it only as a part of
    longer ones come after all of those.

    Args:
        exact: what finds the lines.
        pulls: the store they belong to.
        pattern: as the mode takes it.
        mode: literal, word or regex.
        given: most pull requests returned, and which may be found.
    """
    limit, only = given
    names = pulls.full_names(only.repos)
    answer = exact.search(exact_query(pattern, mode, names, only))
    groups = _grouped(answer, is_word=mode == "word")
    if mode == "word" and len(groups) < limit:
        longer = exact.search(exact_query(pattern, "literal", names, only))
        known = {group.key for group in groups}
        groups += [one for one in _grouped(longer, is_word=False) if one.key not in known]
        answer = longer
    found = [
        made
        for place, group in enumerate(groups[:limit], start=1)
        if (made := _found(group, place, pulls.pull)) is not None
    ]
    return SearchAnswer(
        query=pattern,
        route=mode,
        routed_because="",
        found=tuple(found),
        is_complete=True,
        without_diff=answer.without_diff,
        total_pulls=answer.total_pulls,
        total_lines=answer.total_hits,
    )


def named(names: Iterable[str], repos: Collection[str]) -> tuple[str, ...]:
    """Return those repositories that some names mean, by the last part of them or in full.

    Raises:
        StoreError: there is none of such a name.
    """
    found: dict[str, None] = {}
    for name in names:
        wanted = name.lower()
        some = [r for r in repos if wanted in {r.lower(), r.lower().partition("/")[2]}]
        if not some:
            raise StoreError(
                f"no repository {name!r} in the store; it holds {', '.join(sorted(repos))}"
            )
        found.update(dict.fromkeys(sorted(some)))
    return tuple(found)


def exact_query(
    pattern: str, mode: Route, names: tuple[str, ...], only: SearchFilter
) -> ExactQuery:
    """Return the exact query of a pattern and a filter."""
    how: LineRoute = "literal" if mode == "meaning" else mode
    return ExactQuery(
        patterns=(pattern,),
        mode=how,
        repos=names,
        since=only.since,
        until=only.until,
        kinds=only.kinds,
        tags=only.tags,
        limit=_MOST_HITS,
    )


def _grouped(answer: ExactAnswer, *, is_word: bool) -> list[_Group]:
    """Return the pull requests of an answer, those with most lines first."""
    by_key: dict[str, list[Hit]] = {}
    for hit in answer.hits:
        by_key.setdefault(hit.key, []).append(hit)
    groups = [_Group(key, tuple(hits), is_word) for key, hits in by_key.items()]
    return sorted(groups, key=lambda group: (-len(group.hits), group.key))


def _found(group: _Group, place: int, pull_of: Callable[[str], PullRequest | None]) -> Found | None:
    pull = pull_of(group.key)
    if pull is None:
        return None
    # Added lines say more than context, and the first of them is where a reader begins.
    first = next((hit for hit in group.hits if hit.text.startswith("+")), group.hits[0])
    count = len(group.hits)
    near = [
        hit for hit in group.hits if hit.path == first.path and hit.diff_line >= first.diff_line
    ]
    what = "lines" if group.is_word else "lines hold it"
    return Found(
        key=pull.key,
        slug=pull.slug,
        title=pull.title,
        url=pull.url,
        repo=pull.repo,
        merged_at=pull.merged_at,
        licence=pull.licence,
        score=float(count),
        why=(Reason(ranker="lines", place=place, detail=f"{count} {what}"),),
        path=first.path,
        diff_line=first.diff_line,
        new_line=first.new_line or 0,
        text="\n".join(hit.text for hit in _run(near)[:_SHOWN_LINES]),
        lines=count,
    )


def _run(hits: list[Hit]) -> list[Hit]:
    """Return the hits at the beginning that lie on consecutive lines."""
    run = hits[:1]
    for hit in hits[1:]:
        if hit.diff_line != run[-1].diff_line + 1:
            break
        run.append(hit)
    return run
