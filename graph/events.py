"""What can happen in a run: one noun for each kind of line of `events.jsonl`.

Whatever is shown of a run (console, status, report) is a fold over these.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from agents.diagnosis.prediction import Score
from gpu_runner.jobs import Reason, Stage
from gpu_runner.message import Message
from gpu_runner.records import Decision, TimingPlan, Verdict
from graph.control import Control
from graph.ledger import Attempt, AttemptOutcome, ExitReason


class Event(Message):
    """What every event carries; `seq`, `at` and `elapsed_s` are given by the log."""

    key: str
    """Names the happening; the same key is logged once."""
    seq: int = 0
    """Position in the log, from 1."""
    at: str = ""
    """UTC, ISO 8601."""
    elapsed_s: float = 0.0
    """Wall clock of the run so far, without the time between a stop and its resumption."""


class Interval(Message):
    """A speed-up with its confidence interval."""

    speedup: float
    low: float
    high: float

    @classmethod
    def of(cls, decision: Decision) -> "Interval":
        """Return a decision's overall speed-up with its interval."""
        overall = decision.overall
        return cls(speedup=overall.speedup, low=overall.low, high=overall.high)


class RunStarted(Event):
    """The run began, or (`is_resumed`) was taken up again."""

    kind: Literal["run_started"] = "run_started"
    run_id: str
    target: str
    device: str = ""
    team: str
    rounds: int
    lanes: int
    wall_s: float | None
    is_resumed: bool = False


class StageStarted(Event):
    """A node began."""

    kind: Literal["stage_started"] = "stage_started"
    stage: str
    round: int


class StageEnded(Event):
    """A node ended."""

    kind: Literal["stage_ended"] = "stage_ended"
    stage: str
    round: int
    seconds: float


class JobSubmitted(Event):
    """A job went to the pool."""

    kind: Literal["job_submitted"] = "job_submitted"
    job_id: str
    job: str
    """`build`, `check`..."""
    attempt_id: str = ""
    timeout_s: float
    plan: TimingPlan | None = None
    """Of a bench job. With `timeout_s` all that depends on the clock, so that the job is handed in
    the same a second time and the pool knows it again."""


class JobFinished(Event):
    """A job ended; `outcome` is the kind of its outcome."""

    kind: Literal["job_finished"] = "job_finished"
    job_id: str
    job: str
    attempt_id: str = ""
    outcome: str
    seconds: float
    """Of the job itself where its outcome says, else from submission to outcome."""
    sittings: int = 0
    """Of a bench job that ended with a record."""
    sides: int = 0
    """Candidate and contenders of it."""
    message: str = ""


class Replied(Event):
    """A role answered; the cost is of this answer alone."""

    kind: Literal["replied"] = "replied"
    role: str
    reply: str
    """Key of the saved reply; empty where there was none."""
    seconds: float
    tokens: int = 0
    """Read and written."""
    usd: float = 0.0
    failure: str = ""
    round: int = 0
    """0: older logs do not say it."""
    attempt_id: str = ""
    """Of a draft."""
    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    """Of the input, read from the provider's cache."""
    stored_tokens: int = 0
    """Of the input, written to the provider's cache."""
    repeated_tokens: int = 0
    """Of the input, an estimate of what a cache of prefixes could have served."""
    output_tokens: int = 0
    waits: int = 0
    """Pauses for a provider that was busy or at its limit."""
    waited_s: float = 0.0


class AttemptDecided(Event):
    """An attempt's row was written."""

    kind: Literal["attempt_decided"] = "attempt_decided"
    attempt_id: str
    round: int
    lane: int
    label: str
    """Recipe with its family, or what a model called it."""
    outcome: AttemptOutcome
    verdict: Verdict
    against: str = ""
    interval: Interval | None = None
    stage: Stage | None = None
    reason: Reason | None = None
    message: str = ""


class Promoted(Event):
    """An attempt became the incumbent."""

    kind: Literal["promoted"] = "promoted"
    attempt_id: str
    version: str
    intervals: dict[str, Interval]
    """Contender to claim."""


class Controlled(Event):
    """What a user said to the run was picked up."""

    kind: Literal["controlled"] = "controlled"
    control: Control
    effect: str
    """What follows from it."""


class IncumbentChanged(Event):
    """A user's veto or pin made another attempt the incumbent, or left none."""

    kind: Literal["incumbent_changed"] = "incumbent_changed"
    attempt_id: str
    """Empty: the baseline serves."""
    version: str
    intervals: dict[str, Interval]
    """Contender to claim; empty where the attempt was never claimed."""
    because: str

    @classmethod
    def of(cls, row: Attempt | None, *, key: str, because: str) -> "IncumbentChanged":
        """Return the event for a row of the ledger; None: no attempt is left."""
        claims = row.claims if row else ()
        return cls(
            key=key,
            attempt_id=row.attempt_id if row else "",
            version=row.version if row else "",
            intervals={claim.against: Interval.of(claim) for claim in claims},
            because=because,
        )


class LessonsRecalled(Event):
    """What earlier runs learnt that bears on this one, read when it began."""

    kind: Literal["lessons_recalled"] = "lessons_recalled"
    lessons: tuple[str, ...]
    """Ids, those that weigh most first."""
    words: str


class ProfileRead(Event):
    """A profile was digested."""

    kind: Literal["profiled"] = "profiled"
    attempt_id: str
    trigger: str
    bottleneck: str
    next_edit: str
    digest: str = ""
    """Key of the reply; older logs do not say it."""


class PredictionScored(Event):
    """What became of what a digest foretold, after the attempt that made its edit."""

    kind: Literal["scored"] = "scored"
    digest: str
    """Key of the reply."""
    attempt_id: str
    """The attempt that made the edit."""
    score: Score


class Reviewed(Event):
    """A round was reviewed."""

    kind: Literal["reviewed"] = "reviewed"
    round: int
    verdict: str
    route: str
    blocking: tuple[str, ...] = ()
    met: int
    criteria: int


class BudgetRead(Event):
    """What is spent and left at the end of a round; None: no limit."""

    kind: Literal["budget"] = "budget"
    round: int
    rounds_left: int
    wall_left_s: float | None
    tokens_left: int | None
    usd_left: float | None
    job_left_s: float | None
    job_s: float


class BudgetWarned(Event):
    """Four fifths of a budget are used."""

    kind: Literal["budget_warned"] = "budget_warned"
    budget: str
    """Its key in the target: `usd`."""
    used: float
    limit: float


class DecisionTaken(Event):
    """Something was decided that no measurement record says, with the reason."""

    kind: Literal["decision"] = "decision"
    subject: str
    """`admission`, `profile`, `plateau`, `replan`, `repair`, `stop`, `autotune`, `final`..."""
    choice: str
    reason: str
    evidence: tuple[str, ...] = ()
    """Ids of records, attempts or jobs."""


class Exited(Event):
    """The run ended (or this process left it; then a `run_started` follows on resumption)."""

    kind: Literal["exit"] = "exit"
    exit_reason: ExitReason
    message: str


AnyEvent = Annotated[
    RunStarted
    | StageStarted
    | StageEnded
    | JobSubmitted
    | JobFinished
    | Replied
    | AttemptDecided
    | Promoted
    | Controlled
    | LessonsRecalled
    | IncumbentChanged
    | ProfileRead
    | PredictionScored
    | Reviewed
    | BudgetRead
    | BudgetWarned
    | DecisionTaken
    | Exited,
    Field(discriminator="kind"),
]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
