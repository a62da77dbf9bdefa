"""The broker's record of one job: its state, who has it under which token, and its short story.

Pure. Only legal moves exist here; an illegal one raises and changes nothing, for it is a bug of
`pool.py` and not something the world can cause.
"""

from collections import deque
from dataclasses import dataclass, field

from gpu_runner.errors import PoolError
from gpu_runner.jobs import AnyJob, AnyOutcome, Unserved
from gpu_runner.terms import PLAIN, Terms
from gpu_runner.wire import State

STORY_LINES = 24
"""Enough for the crash budget's losses with what led to them; older lines are forgotten."""

_FROM: dict[str, tuple[State, ...]] = {
    "lease": (State.QUEUED,),
    "adopt": (State.QUEUED,),
    "start": (State.LEASED,),
    "cancel": (State.LEASED, State.RUNNING),
    "requeue": (State.LEASED, State.RUNNING),
    "finish": (State.QUEUED, State.LEASED, State.RUNNING, State.CANCELLING),
}


class IllegalMove(PoolError):
    """A move that the job's state does not allow; a bug in the pool."""


@dataclass(slots=True)
class Ticket:
    """One job in the pool."""

    job_id: str
    spec_digest: str
    job: AnyJob | None
    """None where a running job was adopted and nobody has submitted it since."""
    state: State = State.QUEUED
    token: int | None = None
    """The newest token; kept after the lease, for a late `done` to be compared with."""
    beat: int = 0
    """The owner's last answered beat when it was leased: a later one should list the job."""
    owner: str | None = None
    """Name of the worker that has it, while it is leased, running or cancelling, and after."""
    crashes: int = 0
    losses: int = 0
    """Leases that ended without an outcome, charged or not."""
    rank: int = 0
    """Its place in the queue, kept when a lease is lost."""
    terms: Terms = PLAIN
    deadline_s: float | None = None
    """On the pool's clock; if it still waits then, it ends as expired."""
    queued_s: float = 0.0
    """Since when it waits, on the pool's clock."""
    leased_s: float | None = None
    """When it was last leased here."""
    is_recalled: bool = False
    """Whether its worker was asked to kill it so that it can be queued again."""
    is_stored: bool = False
    """Whether the archive has its content, where `job` is None."""
    outcome: AnyOutcome | None = None
    waiters: set[bytes] = field(default_factory=set)
    story: deque[str] = field(default_factory=lambda: deque(maxlen=STORY_LINES))

    @property
    def is_live(self) -> bool:
        """Whether a worker's slot holds it."""
        return self.state in {State.LEASED, State.RUNNING, State.CANCELLING}

    def lease(self, worker: str, token: int, now_s: float, *, beat: int = 0) -> None:
        """Hand it to a worker under a new token, after its beat `beat`.

        Raises:
            IllegalMove: it is not queued, nobody knows its content, or the token does not grow.
        """
        self._check("lease")
        is_known = self.job is not None or self.is_stored
        if not is_known or (self.token is not None and token <= self.token):
            msg = f"job {self.job_id!r} cannot be leased under token {token}, last was {self.token}"
            raise IllegalMove(msg)
        self._move(State.LEASED, f"leased to {worker} under token {token}", now_s)
        self.owner, self.token, self.beat = worker, token, beat
        self.leased_s = now_s

    def adopt(self, worker: str, token: int, now_s: float) -> None:
        """Take over an execution that a worker already has.

        Raises:
            IllegalMove: it is not queued, or a newer token was handed out.
        """
        self._check("adopt")
        if self.token is not None and token < self.token:
            msg = f"job {self.job_id!r}: token {token} is older than {self.token}"
            raise IllegalMove(msg)
        self._move(State.RUNNING, f"adopted from {worker} under token {token}", now_s)
        self.owner, self.token = worker, token

    def start(self, now_s: float) -> None:
        """Its child was launched."""
        self._check("start")
        self._move(State.RUNNING, "started", now_s)

    def cancel(self, now_s: float) -> None:
        """Its worker is asked to kill it."""
        self._check("cancel")
        self._move(State.CANCELLING, "cancelling", now_s)

    def requeue(self, why: str, now_s: float) -> None:
        """Its lease is over without an outcome."""
        self._check("requeue")
        self._move(State.QUEUED, f"queued again: {why}", now_s)
        self.owner, self.queued_s, self.is_recalled = None, now_s, False

    def finish(self, outcome: AnyOutcome, now_s: float) -> None:
        """End it, once and for all."""
        self._check("finish")
        self._move(State.FINISHED, f"finished: {outcome.kind}", now_s)
        self.outcome = outcome

    def runner_lost(self) -> Unserved:
        """Return the outcome of a job that lost too many runners."""
        return Unserved(
            job_id=self.job_id,
            cause="runner_lost",
            message=f"job {self.job_id!r} lost its worker {self.losses} times; it probably ends "
            "it: read the workers' logs. " + "; ".join(list(self.story)[-4:]),
            is_retryable=False,
        )

    def expired(self) -> Unserved:
        """Return the outcome of a job that no worker took in time."""
        return Unserved(
            job_id=self.job_id,
            cause="expired",
            message=f"job {self.job_id!r} waited for a worker until its deadline; give it more "
            "time or a higher priority, or start more workers",
            is_retryable=False,
        )

    def note(self, text: str, now_s: float) -> None:
        """Add a line to the story."""
        self.story.append(f"{now_s:.3f} {text}")

    def _check(self, move: str) -> None:
        if self.state not in _FROM[move]:
            msg = f"job {self.job_id!r} is {self.state}: it cannot {move}"
            raise IllegalMove(msg)

    def _move(self, state: State, text: str, now_s: float) -> None:
        self.state = state
        self.note(text, now_s)
