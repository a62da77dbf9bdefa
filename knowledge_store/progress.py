"""What an ingestion tells while it runs and when it has ended."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["changed", "unchanged", "deferred", "dropped"]
"""Of one pull request: dropped ones have a tombstone in the store, which an ingestion respects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stage is."""

    stage: str
    done: int
    total: int | None
    """None where the source does not say before it has been read."""
    item: str = ""


Tell = Callable[[Progress], None]


def silent(_progress: Progress) -> None:
    """Tell nobody."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What an ingestion did. Counts are of pull requests."""

    source: str
    changed: int = 0
    unchanged: int = 0
    deferred: int = 0
    dropped: int = 0
    missing: list[str] = field(default_factory=list)
    """Keys whose diff the source does not have."""
    problems: list[str] = field(default_factory=list)
    """Items of the source that could not be taken in, each with the reason."""
    contained: dict[str, int] = field(default_factory=dict)
    """What was refused or bounded, by kind: links, odd names, too large."""
    stopped: str = ""
    """Why the source was left before its end, and when to go on; empty where all of it was read.
    It is among the problems as well."""

    @property
    def total(self) -> int:
        """Return how many pull requests were met."""
        return self.changed + self.unchanged + self.deferred + self.dropped

    def count(self, outcome: Outcome) -> None:
        """Count a pull request."""
        setattr(self, outcome, getattr(self, outcome) + 1)

    def stop(self, reason: str) -> None:
        """Leave the source before its end."""
        self.stopped = reason
        self.problems.append(reason)

    def contain(self, what: str) -> None:
        """Count something that was refused or bounded."""
        self.contained[what] = self.contained.get(what, 0) + 1

    def summary(self) -> str:
        """Return one line for people: every count that is not zero."""
        counted = {
            "changed": self.changed,
            "unchanged": self.unchanged,
            "deferred": self.deferred,
            "dropped": self.dropped,
            "without a diff": len(self.missing),
            "problems": len(self.problems),
            **self.contained,
        }
        said = [f"{count} {what}" for what, count in counted.items() if count]
        return f"{self.source}: {', '.join(said) or 'nothing there'}"
