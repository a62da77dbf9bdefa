"""What operators ask of a broker and are told: its state, its history, and orders about it.

Nouns only; messages of the bus like those of `wire.py`, which lists them.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from gpu_runner.envelope import Count, Envelope, Priority, SessionName, Slots, WorkerName
from gpu_runner.message import JobId

MOST_REPLAYED = 500
"""Events in one answer; who wants more asks again, at its own pace."""

_Limit = Annotated[int, Field(ge=1, le=MOST_REPLAYED)]
_Fraction = Annotated[float, Field(ge=0, le=1)]
_Duration = Annotated[float, Field(ge=0)]


class Change(StrEnum):
    """What happened to a job or a worker."""

    SUBMITTED = "submitted"
    ADOPTED = "adopted"
    LEASED = "leased"
    STARTED = "started"
    CANCELLING = "cancelling"
    REQUEUED = "requeued"
    FINISHED = "finished"
    FORGOTTEN = "forgotten"
    JOINED = "joined"
    LEFT = "left"
    DRAINED = "drained"
    QUARANTINED = "quarantined"
    RELEASED = "released"


class Event(Envelope):
    """One change; told after it is kept."""

    kind: Literal["event"] = "event"
    seq: Count
    """Grows by one, over all epochs of a database; without one it begins anew with each epoch."""
    epoch: Count
    at_s: float
    """Wall clock, seconds since 1970; for people, never for decisions."""
    change: Change
    job_id: JobId | None = None
    worker: WorkerName | None = None
    detail: str = ""
    """Why, in words, or the kind of an outcome."""


class Beacon(Envelope):
    """How far the events have come: whoever has heard fewer has missed some."""

    kind: Literal["beacon"] = "beacon"
    epoch: Count
    last_seq: Count


class Replay(Envelope):
    """Send me the events after this one, so many at most."""

    kind: Literal["replay"] = "replay"
    after_seq: Count
    limit: _Limit = MOST_REPLAYED


class Replayed(Envelope):
    """Events in order; a first one beyond the next asked for means that history was pruned."""

    kind: Literal["replayed"] = "replayed"
    epoch: Count
    events: tuple[Event, ...]
    first_seq: Count
    """Of the oldest event that is kept; 0 where there is none."""
    last_seq: Count
    """Of the newest."""


class Pruned(Envelope):
    """Events that are not kept any more; never sent, it follows from an answer."""

    kind: Literal["pruned"] = "pruned"
    after_seq: Count
    first_seq: Count
    """The oldest that is kept."""


class Survey(Envelope):
    """Say how the pool stands."""

    kind: Literal["survey"] = "survey"


class WorkerState(Envelope):
    """A worker, as the broker sees it."""

    worker: WorkerName
    machine: str = ""
    """Empty where it has not been heard since the broker started."""
    tags: tuple[str, ...]
    slots: Slots
    jobs: tuple[JobId, ...]
    """What it holds now."""
    silent_s: _Duration
    is_draining: bool
    """It asked for no further job."""
    restriction: str = ""
    """Why an operator keeps jobs from it."""


class Waiting(Envelope):
    """Jobs of one kind and priority in the queue."""

    job: str
    """Their kind."""
    priority: Priority
    jobs: Count
    oldest_s: _Duration
    """How long the first of them has waited."""


class SessionState(Envelope):
    """Whose jobs there are."""

    session: SessionName
    unfinished: Count


class Quantiles(Envelope):
    """Of durations, in seconds."""

    p50_s: _Duration
    p90_s: _Duration
    p99_s: _Duration


class Served(Envelope):
    """What became of the last jobs of one kind."""

    job: str
    count: Count
    """At most the last thousand."""
    wait: Quantiles | None = None
    """From submission, or from the loss of a lease, to the lease; none where none was leased."""
    run: Quantiles | None = None
    """From the lease to the outcome."""
    rejected_fraction: _Fraction
    unserved_fraction: _Fraction
    causes: dict[str, Count] = Field(default_factory=dict)
    """Of those that could not be served, by cause."""


class Surveyed(Envelope):
    """How the pool stands, at one event."""

    kind: Literal["surveyed"] = "surveyed"
    epoch: Count
    last_seq: Count
    """The newest event that this state contains and that is kept."""
    up_s: _Duration
    is_kept: bool
    """Whether jobs survive a restart of the broker."""
    unkept_messages: Count
    """Messages that wait for the disk."""
    malformed: dict[str, Count] = Field(default_factory=dict)
    """What was received and could not be understood, by reason."""
    events: str = ""
    """Where events are published; empty where they are only replayed."""
    workers: tuple[WorkerState, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    sessions: tuple[SessionState, ...] = ()
    """With unfinished jobs; the busiest hundred."""
    served: tuple[Served, ...] = ()


class Action(StrEnum):
    """What an operator can order."""

    DRAIN = "drain"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    REQUEUE = "requeue"


class Manage(Envelope):
    """Do this to a worker or a job; repeating it changes nothing further."""

    kind: Literal["manage"] = "manage"
    action: Action
    subject: JobId
    """The name of a worker, or the id of a job."""
    reason: str = ""


class Managed(Envelope):
    """An order was carried out; the text says what it means."""

    kind: Literal["managed"] = "managed"
    message: str
