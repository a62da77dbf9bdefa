"""What is asked of exact search and what it answers. Nouns only."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from knowledge_store.pulls import Day, FileKind

Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class ExactQuery(BaseModel):
    """Lines that are wanted. A pattern is judged on the bytes of one line, without its newline."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patterns: Annotated[tuple[Text, ...], Field(min_length=1, max_length=32)]
    mode: Literal["literal", "word", "regex"] = "literal"
    """`word`: a literal with no ASCII letter, digit or underscore beside it. `regex`: what Python's
    `re` means by the pattern as bytes, so that classes and case are those of ASCII."""
    combine: Literal["any", "all"] = "any"
    """A line must match any, or all, of the patterns."""
    ignore_case: bool = False
    """ASCII letters of either case."""
    repos: tuple[str, ...] = ()
    """`owner/name` or `name`, in any case."""
    paths: tuple[str, ...] = ()
    """Globs over a file's whole path, as `fnmatch` reads them: `*` crosses folders."""
    since: Day = ""
    """First day of merging; with either bound, pulls without a date are left out."""
    until: Day = ""
    """Last day of merging."""
    kinds: tuple[FileKind, ...] = ()
    tags: tuple[str, ...] = ()
    """Pulls that carry all of these tags, in whichever of their chunks."""
    limit: Annotated[int, Field(ge=1)] = 200
    """Most hits returned; where there are more, repositories and then pulls share them evenly."""
    per_repo: Annotated[int, Field(ge=1)] | None = None
    """Most hits returned of one repository."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A matching line of a diff. A dataclass: an answer makes hundreds within a millisecond."""

    key: str
    """`owner/name#12`."""
    repo: str
    pr: int
    diff_line: int
    """Line of the raw diff, from 1, as `grep -n` counts."""
    path: str
    """File of the diff; empty where the line belongs to none."""
    new_line: int | None
    """Line of the file after the change; None for removed lines and headers."""
    text: str
    """The line, decoded with replacement; its first 4,096 bytes where it is longer."""
    licence: str


class ExactAnswer(BaseModel):
    """The hits of a query, and how many there are in all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hits: tuple[Hit, ...]
    """In order of repository, number and line."""
    total_hits: int
    """All matching lines that pass the filters, also those beyond the limit."""
    total_pulls: int
    is_complete: bool
    """Every diff that the store lists was there to be searched."""
    is_truncated: bool
    """There are more hits than were returned."""
    searched_pulls: int
    """Diffs in the index, before filters."""
    without_diff: tuple[str, ...] = ()
    """Keys of listed pulls whose diff the store does not have."""
    seconds: float
    engine: str
    """What judged the lines: `index`, `ripgrep` or `process`."""
