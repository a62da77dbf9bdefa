"""Pages: one pull request by any of its names, with provenance, licence, files and hunks."""

import re
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from knowledge_store.errors import KnowledgeError
from knowledge_store.pulls import UNKNOWN_LICENCE, PullRequest
from knowledge_store.sources.catalogue import shipped_catalogue
from knowledge_store.truth import Truth

_REFERENCE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)#(?P<number>\d+)")
_SHORT = re.compile(r"(?P<name>[\w.-]+)#(?P<number>\d+)")
_URL = re.compile(r"https?://[\w.-]+/(?P<repo>[\w.-]+/[\w.-]+)/pull/(?P<number>\d+)(?:[/?#]\S*)?")
_SLUG = re.compile(r"pr-(?P<name>[\w.-]+)-(?P<number>\d+)")
_MENTION = re.compile(
    r"https?://github\.com/(?P<url>[\w.-]+/[\w.-]+)/pull/(?P<of>\d{1,18})(?!\d)"
    r"|(?<![\w/])(?P<repo>[\w.-]+/[\w.-]+)#(?P<in>\d{1,18})(?!\d)|(?<![\w/&#])#(?P<own>\d{1,18})\b"
)
_DIGITS = 18
_MOST_FOLLOWED = 10


class NoSuchPage(KnowledgeError):
    """No pull request of the store has that name, or several have."""


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PageFile(_Noun):
    """A file of a page."""

    path: str
    old_path: str
    status: str
    kind: str
    first_line: int
    last_line: int


class Page(_Noun):
    """A pull request as it is shown."""

    pull: PullRequest
    key: str
    slug: str
    files: tuple[PageFile, ...]
    diff: str = ""
    """Raw text, decoded with replacement; what was asked for of it."""
    diff_first_line: int = 1
    diff_lines: int = 0
    """Of the whole diff."""
    related: tuple[str, ...] = ()
    """Keys that title and body mention, those that the store holds."""
    absent: tuple[str, ...] = ()
    """Keys that are mentioned and not in the store."""
    warning: str = ""

    @property
    def is_licence_known(self) -> bool:
        """Tell whether the source named a licence."""
        return self.pull.licence != UNKNOWN_LICENCE


DiffPart = Literal["none", "file", "all"]


def resolve(name: str, keys: Iterable[str]) -> str:
    """Return the key that a name means: slug, URL, `owner/name#12` or `name#12`.

    Raises:
        NoSuchPage: the name is none of these, or no key or several have it.
    """
    text = name.strip()
    exact = _REFERENCE.fullmatch(text) or _URL.fullmatch(text)
    loose = _SLUG.fullmatch(text) or _SHORT.fullmatch(text)
    given = exact or loose
    if given is None or len(given["number"]) > _DIGITS:
        raise NoSuchPage(
            f"{name!r} names no pull request; write pr-name-12, owner/name#12 or its URL"
        )
    number = int(given["number"])
    if exact:
        wanted = f"{exact['repo']}#{number}".lower()
        found = [key for key in keys if key.lower() == wanted]
    else:
        called, ending = given["name"].lower(), f"#{number}"
        found = [
            key
            for key in keys
            if key.endswith(ending) and called in names_of(key.removesuffix(ending))
        ]
    if len(found) == 1:
        return found[0]
    if found:
        raise NoSuchPage(f"{name!r} may be {' or '.join(sorted(found))}; write one of these")
    raise NoSuchPage(
        f"the store holds no {name!r}; `kernelpilot knowledge stats` says what it holds"
    )


def names_of(repo: str) -> frozenset[str]:
    """Return what a repository is called, in lower case: in full, its last part, by its sources."""
    full = repo.lower()
    upstream = shipped_catalogue().find(full)
    return frozenset({full, full.partition("/")[2], *(upstream.names if upstream else ())})


def page(
    truth: Truth, name: str, *, diff: DiffPart = "all", path: str = "", follow: bool = False
) -> Page:
    """Return a page.

    Args:
        truth: where it is looked up.
        name: see `resolve`.
        diff: how much of the diff to bring.
        path: of the file whose part of the diff is meant, where `diff` is `file`.
        follow: look up the pull requests that title and body mention.

    Raises:
        NoSuchPage: see `resolve`; or the page has no file of that path.
    """
    key = resolve(name, truth.keys())
    pull = truth.pull(key)
    if pull is None:
        raise NoSuchPage(f"{key} was dropped from the store")
    files = tuple(
        PageFile(
            path=file.path,
            old_path=file.old_path,
            status=file.status,
            kind=file.kind,
            first_line=file.first_line,
            last_line=file.last_line,
        )
        for file in truth.files(key)
    )
    raw = truth.diff(key).decode("utf-8", "replace") if diff != "none" else ""
    rows = raw.split("\n")
    first = 1
    if diff == "file":
        chosen = next((file for file in files if path in {file.path, file.old_path}), None)
        if chosen is None:
            raise NoSuchPage(f"{key} changes no file {path!r}; it changes {_some(files)}")
        first = chosen.first_line
        raw = "\n".join(rows[first - 1 : chosen.last_line])
    related, absent = _mentioned(truth, pull) if follow else ((), ())
    return Page(
        pull=pull,
        key=key,
        slug=pull.slug,
        files=files,
        diff=raw,
        diff_first_line=first,
        diff_lines=max((file.last_line for file in files), default=0),
        related=related,
        absent=absent,
        warning=_warning(pull),
    )


def mentions(pull: PullRequest) -> tuple[str, ...]:
    """Return the keys that title and body mention, in order, its own left out."""
    found: dict[str, None] = {}
    for match in _MENTION.finditer(f"{pull.title}\n{pull.body}"):
        if match["url"]:
            found[f"{match['url']}#{int(match['of'])}"] = None
        elif match["repo"]:
            found[f"{match['repo']}#{int(match['in'])}"] = None
        else:
            found[f"{pull.repo}#{int(match['own'])}"] = None
    found.pop(pull.key, None)
    return tuple(found)


def _mentioned(truth: Truth, pull: PullRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    named = mentions(pull)
    related = [key for key in named if truth.pull(key) is not None]
    absent = [key for key in named if key not in related]
    return tuple(related[:_MOST_FOLLOWED]), tuple(absent[:_MOST_FOLLOWED])


def _warning(pull: PullRequest) -> str:
    said = []
    if pull.licence == UNKNOWN_LICENCE:
        said.append("licence unknown: read it, do not copy it")
    if pull.diff_state != "present":
        said.append(f"its diff is {pull.diff_state.replace('_', ' ')}")
    return "; ".join(said)


def _some(files: tuple[PageFile, ...]) -> str:
    shown = 5
    names = [file.path for file in files[:shown]]
    more = f" and {len(files) - shown} more" if len(files) > shown else ""
    return ", ".join(names) + more if names else "none"
