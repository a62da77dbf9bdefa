"""The append-only record of a run: attempts, promotions, tuning, exit reasons. Nouns only.

`run_files.py` writes and reads them; ledgers and reports are generated from these and from
measurement records, never edited.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from agents.replies import Citation, Movement
from gpu_runner.jobs import Mismatch, Reason, Stage
from gpu_runner.message import Digest, Message, Name
from gpu_runner.records import Decision, Environment
from graph.target import Target

INCUMBENT = "incumbent"
"""Contender name of the incumbent in records."""


class ExitReason(StrEnum):
    """How a run ended."""

    GOAL_MET = "goal_met"
    PLAN_COMPLETE = "plan_complete"
    BUDGET_ROUNDS = "budget_rounds"
    BUDGET_WALL = "budget_wall"
    BUDGET_TOKENS = "budget_tokens"
    BUDGET_USD = "budget_usd"
    BUDGET_GPU = "budget_gpu"
    PLATEAU = "plateau"
    STALLED = "stalled"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    WAITING = "waiting"
    """Every job at hand waits to be carried to another machine; results have to be imported."""
    INFEASIBLE = "infeasible"
    UNFIT_TARGET = "unfit_target"
    ERROR = "error"


EXIT_CODES: dict[ExitReason, int] = {
    ExitReason.GOAL_MET: 0,
    ExitReason.PLAN_COMPLETE: 0,
    ExitReason.ERROR: 1,
    ExitReason.UNFIT_TARGET: 3,
    ExitReason.INFEASIBLE: 4,
    ExitReason.CANCELLED: 5,
    ExitReason.PLATEAU: 6,
    ExitReason.STALLED: 7,
    ExitReason.WAITING: 8,
    ExitReason.PAUSED: 9,
    ExitReason.BUDGET_ROUNDS: 10,
    ExitReason.BUDGET_WALL: 11,
    ExitReason.BUDGET_TOKENS: 12,
    ExitReason.BUDGET_USD: 13,
    ExitReason.BUDGET_GPU: 14,
}
"""Process exit codes; 2 is the command line's own for bad usage."""

OPEN_ENDINGS = frozenset(
    {ExitReason.CANCELLED, ExitReason.PAUSED, ExitReason.WAITING, ExitReason.ERROR}
)
"""Endings that a run can be driven on from."""


class AttemptOutcome(StrEnum):
    """Where an attempt's way ended."""

    PROMOTED = "promoted"
    MEASURED = "measured"
    """Right, and not shown to be faster than the incumbent."""
    REJECTED = "rejected"
    UNSERVED = "unserved"


class Attempt(Message):
    """One row of the attempt ledger; written once, when its outcome is known."""

    attempt_id: str = Field(pattern=r"^a[0-9]{4}$")
    version: str = ""
    """`v003`: given to attempts that passed every check."""
    round: int
    lane: int
    parent: str | None = None
    """Attempt id of the incumbent it was derived from."""
    candidate_digest: Digest
    """The candidate is the blob of this digest."""
    language: str
    family: str = ""
    recipe: str = ""
    parameters: dict[str, int | float | str | bool] = Field(default_factory=dict)
    motivation: str
    expected: Movement | None = None
    provenance: tuple[Citation, ...] = ()
    outcome: AttemptOutcome
    stage: Stage | None = None
    """Where it was stopped."""
    reason: Reason | None = None
    message: str = ""
    mismatch: Mismatch | None = None
    feedback: Decision | None = None
    """One sitting against the incumbent of its time (or the first baseline)."""
    mends: str | None = None
    """Attempt id of the final kernel that it replaces: the same work, better to read."""
    claims: tuple[Decision, ...] = ()
    """Five sittings or more: against the incumbent and the first baseline."""
    job_ids: tuple[str, ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)
    """Stage to job seconds."""


class Regime(Message):
    """A region of W served by one promoted variant, with the measurements that decided."""

    guard: str
    """Expression over axes; the first regime whose guard holds serves the call."""
    attempt_id: str
    """Or `baseline`."""
    workloads: tuple[Name, ...]
    record_ids: tuple[str, ...] = Field(min_length=1)
    reason: str


class MapPoint(Message):
    """One cell of the performance map."""

    workload: Name
    attempt_id: str
    speedup: float
    low: float
    high: float
    candidate_us: float
    record_id: str


class Tuning(Message):
    """What autotuning decided."""

    points: tuple[MapPoint, ...]
    regimes: tuple[Regime, ...]
    is_trivial: bool
    """One variant serves all of W."""
    reason: str
    regret: float | None = None
    """Weighted loss of the dispatcher against the best variant of each workload; 0 is none."""


class RunManifest(Message):
    """`run.json`: what was asked, of which version, on which machine; written at the start."""

    format: Literal[1] = 1
    run_id: str
    kernelpilot_version: str
    created_at: str
    """UTC, ISO 8601."""
    seed: int
    team: str
    target: Target
    environment: Environment
    request: str = ""
    """What the user wrote, where it was a sentence."""
    assumptions: tuple[str, ...] = ()
    """What the sentence left open, and what it was taken to be."""


class Effort(Message):
    """What was spent up to a moment of a run."""

    rounds: int
    wall_s: float
    job_s: float
    """Check, bench and profile jobs."""
    tokens: int = 0
    usd: float = 0.0


class RunResult(Message):
    """`result.json`: how it ended; written last."""

    run_id: str
    exit_reason: ExitReason
    message: str
    rounds: int
    attempts: int
    wall_s: float
    job_s: float
    tokens: int = 0
    usd: float = 0.0
    to_best: Effort | None = None
    """Until the best attempt was decided; None where there is none."""
    best_attempt: str | None = None
    best: tuple[Decision, ...] = ()
    """Claims of the final kernel against every baseline, made after it was selected."""
    open_remarks: tuple[str, ...] = ()
    """What the reading of the final kernel as code holds against it, unresolved: `place: text`."""
    report: str = ""
    repository: str = ""
