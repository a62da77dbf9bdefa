"""Nouns of the truth: a pull request, what its diff says, and the pieces of it that rank."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Repo = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9._-]{1,100}$")
]
"""`owner/name` as the forge spells it."""

Day = Annotated[str, StringConstraints(pattern=r"^(\d{4}-\d{2}-\d{2})?$")]
"""An ISO date, or empty where it is not known."""

Commit = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$")]
"""A full object name, or empty where it is not known."""

Origin = Literal["bundle", "github", "git", "patch"]
DiffState = Literal["present", "missing", "too_large"]
FileStatus = Literal["added", "modified", "deleted", "renamed", "binary"]
FileKind = Literal["kernel", "library", "test", "bench", "doc", "config", "generated"]

UNKNOWN_LICENCE = "unknown"


class PullRequest(BaseModel):
    """A merged change of a repository, with where it came from. Its diff is kept beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repo: Repo
    number: int = Field(ge=1)
    title: str = ""
    body: str = ""
    author: str = ""
    url: str = ""
    merged_at: Day = ""
    merge_commit: Commit = ""
    base_branch: str = ""
    labels: tuple[str, ...] = ()
    licence: str = UNKNOWN_LICENCE
    """SPDX identifier or expression, or `unknown`."""
    origin: Origin
    diff_state: DiffState = "missing"
    diff_sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of the raw diff exactly as it was ingested; empty unless the state is present."""

    @property
    def key(self) -> str:
        """Return `owner/name#12`, the identity of a pull request everywhere in this package."""
        return f"{self.repo}#{self.number}"

    @property
    def slug(self) -> str:
        """Return `pr-name-12`, the name a reader types; two owners of a name share it."""
        return f"pr-{self.repo.partition('/')[2].lower()}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffFile:
    """What a diff says of one file."""

    key: str
    index: int
    """Position in its diff, from 0."""
    path: str
    """New path; the old one where the file was deleted. As the diff spells it: never opened."""
    old_path: str
    """Differs from `path` where the file was renamed; empty where it was added."""
    status: FileStatus
    kind: FileKind
    licence: str = ""
    """SPDX expression that its first lines state, where the diff shows them; may differ from the
    repository's."""
    first_line: int
    last_line: int
    """Lines of the raw diff, from 1, both included: header and hunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """A run of changed lines with its context."""

    file: int
    """Index of its DiffFile."""
    heading: str
    """What git wrote behind the second @@: usually the enclosing function."""
    diff_line: int
    """Line of its @@ in the raw diff, from 1."""
    old_start: int
    old_count: int
    new_start: int
    new_count: int
    lines: tuple[str, ...]
    """With their +, - or space, and without line ends; decoded with replacement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a hunk, small enough to be ranked and shown."""

    chunk_id: str
    """`key:` and a digest of path, heading and text, so that equal content keeps its identity."""
    key: str
    path: str
    heading: str
    diff_line: int
    """First line of `text` in the raw diff, from 1."""
    new_start: int
    """First line of `text` in the new file, from 1; 0 where the file was deleted."""
    text: str
    """Whole lines of the hunk with their +, - or space, joined by newlines."""
    added: int
    removed: int
    part: int
    """Position among the chunks of its hunk, from 0."""
    parts: int
    tags: tuple[str, ...] = ()
    """Sorted. `licence-header` marks a chunk that holds nothing else; rankings leave it out."""
