"""What a search answers: pull requests, the lines that matter, why they came. Nouns only."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from knowledge_store.pulls import Day, FileKind
from knowledge_store.records import Passage
from knowledge_store.router import Route


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchFilter(_Noun):
    """Which pull requests may be found; an empty field lets all through."""

    repos: tuple[str, ...] = ()
    """Full names, or the last part of them; case does not matter."""
    since: Day = ""
    until: Day = ""
    """Merged on such days, both included; one that has no date passes neither."""
    kinds: tuple[FileKind, ...] = ()
    """Of the files in which a chunk lies."""
    tags: tuple[str, ...] = ()
    """All of them, in one chunk."""


class Reason(_Noun):
    """Why a pull request came."""

    ranker: str
    """`diff`, `card`, `prose`, `card vector`, `chunk vector`, or `lines`."""
    place: Annotated[int, Field(ge=1)]
    """What that ranker gave it."""
    detail: str = ""
    """Words that matched, a similarity, or how many lines."""

    def __str__(self) -> str:
        """Return the reason as a reader sees it."""
        return f"{self.ranker} #{self.place}" + (f" ({self.detail})" if self.detail else "")


class Found(_Noun):
    """A pull request that a search found, at its best place."""

    key: str
    slug: str
    title: str
    url: str
    repo: str
    merged_at: str
    licence: str
    """As the source says, or `unknown`: not permission to copy."""
    score: float
    why: tuple[Reason, ...]
    path: str = ""
    heading: str = ""
    diff_line: int = 0
    """Line of the raw diff where the text begins, from 1; 0 where the card alone matched."""
    new_line: int = 0
    text: str = ""
    tags: tuple[str, ...] = ()
    lines: int = 0
    """Lines of its diff that match, in an exact search."""

    def passage(self) -> Passage:
        """Return the text as evidence that can be cited."""
        first = max(1, self.diff_line)
        return Passage(
            path=self.path or self.slug,
            source=self.url or self.key,
            first_line=first,
            last_line=first + self.text.count("\n"),
            text=self.text or self.title,
            repo=self.repo,
            pr=int(self.key.rpartition("#")[2]),
            licence=self.licence,
        )


class SearchAnswer(_Noun):
    """What a search found, and how much it may claim."""

    query: str
    route: Route
    routed_because: str
    found: tuple[Found, ...]
    is_complete: bool
    """Every line that matches was counted, in every diff there is. A ranking never is complete."""
    without_diff: tuple[str, ...] = ()
    """Keys in the scope without a diff: whoever says "everything" names them."""
    total_pulls: int
    """That match, found or not; of a ranking, those that were ranked."""
    total_lines: int = 0
    searched_pulls: int = 0
    """How many the store holds."""
    note: str = ""
    seconds: float = 0.0
