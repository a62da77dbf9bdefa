"""Exact search in the snapshots of sources that bundles may bring: files as a change left them.

They are searched where they lie and never taken into the store: several hundred megabytes of other
projects' files, whose changed lines the diffs hold already.
"""

from functools import cache
from pathlib import Path, PurePosixPath

from knowledge_store import routes
from knowledge_store.errors import SourceError
from knowledge_store.exact import ExactQuery, search_tree
from knowledge_store.licences import settled_licence
from knowledge_store.pulls import UNKNOWN_LICENCE
from knowledge_store.records import Passage
from knowledge_store.router import require_text
from knowledge_store.sources.bundles import pull_of, records_of
from knowledge_store.sources.catalogue import shipped_catalogue
from knowledge_store.sources.reading import Refused, commit_of, mapping_at, text_at

FOLDER = "source-snapshot"
_TIMEOUT_S = 60.0


def search(
    bundles: Path, pattern: str, given: tuple[bool, int] = (False, 200), log: Path | None = None
) -> tuple[Passage, ...]:
    """Return the lines of snapshots that match, each with its pull request and licence.

    Args:
        bundles: a folder of bundles, at any depth; an archive has to be unpacked first.
        pattern: a text, or a regular expression.
        given: whether the pattern is a regular expression, and most lines returned.
        log: of the run.

    Raises:
        ValueError: the pattern is empty, or no text.
        SourceError: the folder is not there, or holds no snapshot.
        PatternError: the pattern is not of the dialect.
        SearchTimeout: not every line was judged in time.
    """
    require_text(pattern)
    is_regex, limit = given
    if not bundles.is_dir():
        raise SourceError(f"{bundles} is not a folder of bundles; unpack an archive first")
    if not any(path.is_dir() for path in bundles.rglob(FOLDER)):
        raise SourceError(f"no {FOLDER} below {bundles}: these bundles came without sources")
    query = ExactQuery(
        patterns=(pattern,),
        mode="regex" if is_regex else "literal",
        limit=limit,
        paths=(f"{FOLDER}/*", f"*/{FOLDER}/*"),
        timeout_s=_TIMEOUT_S,
    )
    told = cache(_pull_of)
    found: list[Passage] = []
    for hit in search_tree(bundles, query).hits:
        parts = PurePosixPath(hit.path).parts
        at = parts.index(FOLDER)
        found.append(
            told(bundles.joinpath(*parts[:at])).model_copy(
                update={
                    "path": "/".join(parts[at + 1 :]),
                    "first_line": hit.line,
                    "last_line": hit.line,
                    "text": hit.text,
                }
            )
        )
    if log is not None:
        keys = dict.fromkeys(f"{one.repo}#{one.pr}" for one in found if one.repo)
        routes.RouteLog(log).append(routes.of_fetch("source", pattern, keys))
    return tuple(found)


def _pull_of(bundle: Path) -> Passage:
    """Return an empty passage of a bundle's pull request; of its folder where none is named."""
    origin, upstream = records_of(bundle)
    empty = Passage(path=FOLDER, source=str(bundle), first_line=1, last_line=1, text="")
    try:
        pull = pull_of(origin, upstream, bundle.name)
    except Refused:
        return empty.model_copy(update={"licence": UNKNOWN_LICENCE})
    head = mapping_at(mapping_at(upstream, "pull") or upstream, "head")
    return empty.model_copy(
        update={
            "source": pull.url,
            "repo": pull.repo,
            "pr": pull.number,
            "commit": commit_of(text_at(origin, "head_ref_oid") or head.get("sha")),
            "licence": settled_licence(pull.licence, shipped_catalogue().licence(pull.repo)),
        }
    )
