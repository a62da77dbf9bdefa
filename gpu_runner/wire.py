"""What travels on the job bus: the messages, their framing, and the one place that parses bytes.

Nothing here opens a socket or knows what a message causes; `pool.py` does. Every message may be
lost or repeated, so each is idempotent by the key its docstring names. PROTOCOL.md is the text.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from gpu_runner.envelope import (
    MIDDLE_PRIORITY,
    Count,
    Envelope,
    Incarnation,
    Priority,
    Seconds,
    SessionName,
    Slots,
    Tag,
    Token,
    WorkerName,
    is_empty,
    is_middle,
    is_none,
)
from gpu_runner.errors import PoolError
from gpu_runner.jobs import AnyJob, AnyOutcome
from gpu_runner.message import Digest, JobId
from gpu_runner.operations import (
    Beacon,
    Event,
    Manage,
    Managed,
    Replay,
    Replayed,
    Survey,
    Surveyed,
)
from gpu_runner.records import Environment

MAGIC = b"kp/1"
"""First frame of every message: the protocol's name and its major version."""

MOST_BYTES = 16 * 1024 * 1024
"""Largest body. The largest legal one is the record of a long bench: 400 pairs x 4 columns x 19
characters are 30 KiB a series, so 16 MiB hold 18 workloads x 3 contenders x 10 sittings at the
most pairs a plan allows by default. Lower would lose such a record; higher would let one
connection pin that much memory before anything is validated."""

FRAMES = 2
"""Magic and body."""

_DETAIL_CHARACTERS = 300

_MALFORMED = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)
"""What validators can raise on a stranger's text: a ValidationError and invalid UTF-8 are
ValueErrors, the others come from deep nesting and from code that a noun's validator calls."""


class TooLarge(PoolError):
    """A message is larger than the wire carries; the text says how large and what to do."""


class State(StrEnum):
    """Where a job stands with the broker."""

    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FINISHED = "finished"


class Held(Envelope):
    """A job that a worker runs, or has finished and not yet seen acknowledged."""

    job_id: JobId
    token: Token
    spec_digest: Digest
    """Digest of the job, so that a broker that knows nothing can match a resubmission."""


class Submit(Envelope):
    """Run this job and send me its outcome; idempotent by job id and content."""

    kind: Literal["submit"] = "submit"
    job: AnyJob
    session: SessionName | None = Field(default=None, exclude_if=is_none)
    """Whose turn it takes; by default the run that its id begins with."""
    priority: Priority = Field(default=MIDDLE_PRIORITY, exclude_if=is_middle)
    """9 is served first."""
    deadline_s: Seconds | None = Field(default=None, exclude_if=is_none)
    """How long it may wait for a worker, from its submission; then it ends as expired."""
    need: tuple[Tag, ...] = Field(default=(), exclude_if=is_empty)
    """Tags that its worker must have."""


class Wait(Envelope):
    """Send me the outcome of a job already submitted; also the client's sign of life."""

    kind: Literal["wait"] = "wait"
    job_id: JobId


class Cancel(Envelope):
    """Stop a job; its waiters get `Unserved(cancelled)` unless it had finished."""

    kind: Literal["cancel"] = "cancel"
    job_id: JobId


class Describe(Envelope):
    """Say which machine the pool measures on."""

    kind: Literal["describe"] = "describe"


class Submitted(Envelope):
    """The broker knows the job and will send its outcome."""

    kind: Literal["submitted"] = "submitted"
    job_id: JobId
    state: State
    workers: Count
    """Workers registered now; with none the client's patience runs."""


class Refusal(StrEnum):
    """Why a message had no effect."""

    CONFLICT = "conflict"
    BUSY = "busy"
    UNKNOWN = "unknown"
    MALFORMED = "malformed"
    PROTOCOL = "protocol"
    FORBIDDEN = "forbidden"
    """The sender's key has another role or name."""


class Refused(Envelope):
    """A message had no effect; the code says what to do about it."""

    kind: Literal["refused"] = "refused"
    job_id: JobId | None = None
    code: Refusal
    message: str
    retry_after_s: Seconds | None = None


class Result(Envelope):
    """The outcome of a job; may come twice, equal."""

    kind: Literal["result"] = "result"
    outcome: AnyOutcome


class Described(Envelope):
    """The machine of the first worker with a GPU, or of the first, or none while there is none."""

    kind: Literal["described"] = "described"
    environment: Environment | None = None
    workers: Count


class Hello(Envelope):
    """A worker registers, or registers again: what it is, runs and has in its spool."""

    kind: Literal["hello"] = "hello"
    worker: WorkerName
    incarnation: Incarnation
    seq: Count
    """Counts on with the beats. Only the `welcome` that repeats it makes leases valid: one sent
    before the broker read this hello may be another worker's by the time it arrives."""
    slots: Slots = 1
    environment: Environment
    running: tuple[Held, ...] = ()
    spooled: tuple[JobId, ...] = ()
    """Jobs whose outcome this worker has: leasing them to it costs no execution."""
    tags: tuple[Tag, ...] = Field(default=(), exclude_if=is_empty)
    """What it offers beside what its environment says."""


class Beat(Envelope):
    """A worker lives and has these jobs; sent also while its child works."""

    kind: Literal["beat"] = "beat"
    seq: Count
    heard: Count = 0
    """The newest pong that arrived: a lease sent before that pong and not among `running` was
    lost on the way."""
    running: tuple[Held, ...] = ()


class Started(Envelope):
    """The child of a lease was launched; from here its loss counts against the job."""

    kind: Literal["started"] = "started"
    job_id: JobId
    token: Token


class Done(Envelope):
    """The outcome of a lease; accepted from its owner with its current token only."""

    kind: Literal["done"] = "done"
    token: Token
    outcome: AnyOutcome


class Drain(Envelope):
    """A worker wants no further lease."""

    kind: Literal["drain"] = "drain"


class Bye(Envelope):
    """A worker leaves; what it held is queued again and charged to nobody."""

    kind: Literal["bye"] = "bye"


class Welcome(Envelope):
    """A worker is registered; durations come from the broker so that both sides agree."""

    kind: Literal["welcome"] = "welcome"
    seq: Count
    """Of the hello."""
    epoch: Count
    beat_s: Seconds
    lease_s: Seconds
    drop: tuple[Held, ...] = ()
    """Executions that are no longer wanted: kill them and say nothing."""


class Busy(Envelope):
    """Another living process has this worker's name."""

    kind: Literal["busy"] = "busy"
    retry_after_s: Seconds


class Pong(Envelope):
    """The beat `seq` arrived; the worker's lease runs from when it sent that beat."""

    kind: Literal["pong"] = "pong"
    seq: Count


class Who(Envelope):
    """The broker does not know the sender: say hello (again)."""

    kind: Literal["who"] = "who"


class Lease(Envelope):
    """Run this job under this token."""

    kind: Literal["lease"] = "lease"
    token: Token
    job: AnyJob


class Abort(Envelope):
    """Kill the job and answer `done` with `Unserved(cancelled)`."""

    kind: Literal["abort"] = "abort"
    job_id: JobId
    token: Token


class Ack(Envelope):
    """The broker has dealt with a `done`; the worker need not send it again."""

    kind: Literal["ack"] = "ack"
    job_id: JobId
    token: Token
    is_accepted: bool


FromClient = Submit | Wait | Cancel | Describe
FromOperator = Survey | Replay | Manage
FromWorker = Hello | Beat | Started | Done | Drain | Bye
ToBroker = FromClient | FromOperator | FromWorker
ToClient = Submitted | Refused | Result | Described
ToOperator = Surveyed | Replayed | Managed | Refused
ToObserver = Event | Beacon
ToWorker = Welcome | Busy | Pong | Who | Lease | Abort | Ack | Refused
FromBroker = ToClient | ToOperator | ToWorker
AnyMessage = ToBroker | FromBroker | ToObserver

TO_BROKER: TypeAdapter[ToBroker] = TypeAdapter(Annotated[ToBroker, Field(discriminator="kind")])
TO_CLIENT: TypeAdapter[ToClient] = TypeAdapter(Annotated[ToClient, Field(discriminator="kind")])
TO_OPERATOR: TypeAdapter[ToOperator] = TypeAdapter(
    Annotated[ToOperator, Field(discriminator="kind")]
)
TO_OBSERVER: TypeAdapter[ToObserver] = TypeAdapter(
    Annotated[ToObserver, Field(discriminator="kind")]
)
TO_WORKER: TypeAdapter[ToWorker] = TypeAdapter(Annotated[ToWorker, Field(discriminator="kind")])

M = TypeVar("M")


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """Bytes that are no message for this receiver."""

    reason: Literal["frames", "protocol", "size", "body"]
    detail: str
    """One line; never the bytes themselves, which may hold sources."""


class Inbox(Generic[M]):
    """Parses what one socket receives, and counts what it refused, by reason."""

    def __init__(self, expected: TypeAdapter[M]) -> None:
        self._expected = expected
        self.refused: Counter[str] = Counter()

    def parse(self, frames: Sequence[bytes]) -> M | Malformed:
        """Return the message, or why there is none; raises nothing for any bytes."""
        message = self._parsed(frames)
        if isinstance(message, Malformed):
            self.refused[message.reason] += 1
        return message

    def _parsed(self, frames: Sequence[bytes]) -> M | Malformed:
        if not frames or frames[0] != MAGIC:
            spoken = frames[0][:16] if frames else b""
            return Malformed(
                reason="protocol",
                detail=f"the sender speaks {spoken!r}, this side {MAGIC!r}; "
                "install one version of kernelpilot on both",
            )
        if len(frames) != FRAMES:
            return Malformed(reason="frames", detail=f"{len(frames)} frames, not {FRAMES}")
        if len(frames[1]) > MOST_BYTES:
            return Malformed(
                reason="size", detail=f"{len(frames[1])} bytes; at most {MOST_BYTES} are read"
            )
        try:
            return self._expected.validate_json(frames[1])
        except _MALFORMED as error:
            return Malformed(reason="body", detail=_in_one_line(error))


def encode(message: AnyMessage) -> list[bytes]:
    """Return the frames of a message.

    Raises:
        TooLarge: the body has more than MOST_BYTES bytes.
    """
    body = message.model_dump_json().encode()
    if len(body) > MOST_BYTES:
        msg = (
            f"a {message.kind!r} message of {len(body)} bytes is larger than the job bus carries "
            f"({MOST_BYTES}); use fewer workloads, contenders, sittings or pairs in one job"
        )
        raise TooLarge(msg)
    return [MAGIC, body]


def claimed_name(message: ToBroker) -> str | None:
    """Return the name that a sender says is its own; None where a message says none."""
    return message.worker if isinstance(message, Hello) else None


def _in_one_line(error: BaseException) -> str:
    if not isinstance(error, ValidationError):
        return type(error).__name__
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place or 'body'}: {first['msg']}".replace("\n", " ")[:_DETAIL_CHARACTERS]
