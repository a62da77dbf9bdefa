"""What may still be spent: limits, what is kept back for the end, and time cut to what is left.

Pure: readings come in as values. Every limit is hard; the wall clock is met by keeping back what
autotuning, the final claim and the repository will need.
"""

from gpu_runner.message import Message
from gpu_runner.records import TimingPlan
from graph.ledger import ExitReason
from graph.target import Budget

CLOSING_S = 8.0
"""Repository, report and the last checkpoint, without any job; less of a short run."""
LEAST_JOB_S = 2.0
"""A job that may run for less than this is not worth starting."""
MOST_VARIANTS = 3
"""Promoted variants that the performance map compares."""
_MOST_CLOSING_FRACTION = 0.1
_MOST_RESERVE_FRACTION = 0.5
_SLACK = 1.25
"""Benches of one plan differ by about this factor on a shared machine."""


class Spent(Message):
    """What a run has used up."""

    rounds: int = 0
    wall_s: float = 0.0
    job_s: float = 0.0
    """Check, bench and profile jobs."""
    tokens: int = 0
    usd: float = 0.0


class Pace(Message):
    """How long the expensive steps took so far; 0: not seen yet."""

    round_s: float = 0.0
    """Median of the rounds."""
    claim_s: float = 0.0
    """Slowest claim bench."""


def exhausted(budget: Budget, spent: Spent, reserve_s: float, pace: Pace) -> ExitReason | None:
    """Return why no further round may begin, or None.

    A round is not begun when less wall clock than half a usual round is left beside the reserve:
    it could not reach a verdict.
    """
    if spent.rounds >= budget.rounds:
        return ExitReason.BUDGET_ROUNDS
    if budget.wall_s is not None:
        useful = max(LEAST_JOB_S, pace.round_s / 2)
        if budget.wall_s - spent.wall_s - reserve_s < useful:
            return ExitReason.BUDGET_WALL
    if budget.tokens is not None and spent.tokens >= budget.tokens:
        return ExitReason.BUDGET_TOKENS
    if budget.usd is not None and spent.usd >= budget.usd:
        return ExitReason.BUDGET_USD
    if budget.gpu_s is not None and budget.gpu_s - spent.job_s < LEAST_JOB_S:
        return ExitReason.BUDGET_GPU
    return None


def closing(budget: Budget) -> float:
    """Return the seconds to keep for what comes after the last job."""
    if budget.wall_s is None:
        return CLOSING_S
    return min(CLOSING_S, budget.wall_s * _MOST_CLOSING_FRACTION)


def reserve(budget: Budget, pace: Pace, promoted: int, claim_default_s: float) -> float:
    """Return the seconds to keep for autotuning, the final claim and closing.

    Nothing is claimed or mapped where nothing was promoted; the first promotion is provided for
    by one claim. Never more than half of the wall budget.
    """
    claim_s = (pace.claim_s or claim_default_s) * _SLACK
    variants = min(promoted, MOST_VARIANTS)
    maps = variants if variants > 1 else 0
    wanted = closing(budget) + claim_s * (max(1, variants and 1) + maps)
    if budget.wall_s is None:
        return wanted
    return min(wanted, budget.wall_s * _MOST_RESERVE_FRACTION)


def job_timeout(wanted_s: float, budget: Budget, spent: Spent, keep_s: float) -> float | None:
    """Cut a job's timeout to what is left; None: too little is left to start it."""
    allowed = wanted_s
    if budget.wall_s is not None:
        allowed = min(allowed, budget.wall_s - spent.wall_s - keep_s)
    if budget.gpu_s is not None:
        allowed = min(allowed, budget.gpu_s - spent.job_s)
    return allowed if allowed >= LEAST_JOB_S else None


def fit_plan(plan: TimingPlan, seconds: float, series: int) -> TimingPlan:
    """Return a timing plan whose measuring fits in `seconds`.

    The number of sittings a claim needs is never cut: the time of a workload in a sitting is,
    and the extra sittings are.

    Args:
        plan: what would be measured with time to spare.
        seconds: for the whole job.
        series: workloads times contenders.
    """
    each = seconds / (plan.sittings * max(1, series))
    if each >= plan.most_s:
        return plan
    most_s = max(0.05, each)
    return plan.model_copy(
        update={
            "most_s": most_s,
            "candidate_s": min(plan.candidate_s, most_s / 4),
            "warmup_s": min(plan.warmup_s, most_s / 4),
            "most_sittings": plan.sittings,
        }
    )


class Left(Message):
    """What remains; None: no limit."""

    rounds: int
    wall_s: float | None
    job_s: float | None
    tokens: int | None
    usd: float | None


def left(budget: Budget, spent: Spent) -> Left:
    """Return what remains of every limit, never below zero."""
    return Left(
        rounds=max(0, budget.rounds - spent.rounds),
        wall_s=None if budget.wall_s is None else max(0.0, budget.wall_s - spent.wall_s),
        job_s=None if budget.gpu_s is None else max(0.0, budget.gpu_s - spent.job_s),
        tokens=None if budget.tokens is None else max(0, budget.tokens - spent.tokens),
        usd=None if budget.usd is None else max(0.0, budget.usd - spent.usd),
    )
