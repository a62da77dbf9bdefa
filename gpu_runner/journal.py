"""What the broker writes down: every change of a job or a worker, as data.

Pure. The pool gives entries beside its sends; whoever keeps them decides when the sends may leave.
An entry holds the job as it stands after the change, so writing it twice changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gpu_runner.jobs import AnyJob, AnyOutcome
from gpu_runner.operations import Change, Event
from gpu_runner.terms import PLAIN, Terms
from gpu_runner.wire import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A job as it has to be known again after a restart; its content and outcome lie beside it."""

    job_id: str
    spec_digest: str
    state: State
    rank: int
    """Grows with submissions; the order of the queue."""
    token: int | None = None
    owner: str | None = None
    crashes: int = 0
    losses: int = 0
    terms: Terms = PLAIN
    left_s: float | None = None
    """Until its deadline, when this was written."""
    is_stored: bool = False
    """Whether its content is kept beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change."""

    change: Change
    job_id: str | None = None
    worker: str | None = None
    detail: str = ""
    """Why, in words, or the kind of an outcome."""
    row: Row | None = None
    """After the change; None where a job is forgotten and where no job changed."""
    job: AnyJob | None = None
    """Where its content is new."""
    outcome: AnyOutcome | None = None
    """Where it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What the broker before left behind."""

    rows: tuple[Row, ...] = ()
    """The jobs that had not ended, in order of their ranks."""
    last_rank: int = 0
    """The largest rank of any job, ended ones included."""
    restrictions: Mapping[str, str] = field(default_factory=dict)
    """Workers that operators keep jobs from, and why."""
    incarnations: Mapping[str, str] = field(default_factory=dict)
    """The process that was last known under each worker's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A job that ended, as an archive remembers it."""

    spec_digest: str
    token: int | None
    owner: str | None
    outcome: AnyOutcome


class Archive(Protocol):
    """What was written down before and is no longer in memory."""

    def finished(self, job_id: str) -> Finished | None:
        """Return how a job ended; None for one that is unknown or has not."""

    def content(self, job_id: str) -> AnyJob | None:
        """Return the job of that id; None where it is not kept."""

    def events(self, after_seq: int, limit: int) -> tuple[Event, ...]:
        """Return at most `limit` events after a number, in order."""

    def span(self) -> tuple[int, int]:
        """Return the numbers of the oldest and the newest event; zeros where there is none."""


class NoArchive:
    """The archive of a pool that keeps nothing."""

    def finished(self, job_id: str) -> Finished | None:  # noqa: ARG002 - the protocol's
        """Know nothing."""
        return None

    def content(self, job_id: str) -> AnyJob | None:  # noqa: ARG002 - the protocol's
        """Know nothing."""
        return None

    def events(self, after_seq: int, limit: int) -> tuple[Event, ...]:  # noqa: ARG002 - same
        """Know nothing."""
        return ()

    def span(self) -> tuple[int, int]:
        """Know nothing."""
        return 0, 0
