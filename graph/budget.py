"""What may still be spent: limits, what is kept back for the end, and time cut to what is left.

Pure: readings come in as values. Every limit is hard; the wall clock is met by keeping back what
autotuning, the final claim and the repository will need.
"""

import math

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
_MEASURING_FRACTION = 0.6
"""Of a bench job's time: the rest starts processes and verifies outputs."""
_EXTRA_FRACTION = 0.5
"""Of what is left, that one claim's extra sittings may reach into."""
_MOST_CLOSING_FRACTION = 0.1
_MOST_RESERVE_FRACTION = 0.5
COMPILED_SHARE = 1.6
"""Time of a final claim against a baseline after the first, for one of the first's: such a
baseline compiles when it starts, and fills its compiler's cache in the first sitting."""
SLACK = 1.25
"""Benches of one plan differ by about this factor on a shared machine."""


class Spent(Message):
    """What a run has used up."""

    rounds: int = 0
    wall_s: float = 0.0
    job_s: float = 0.0
    """Check, bench and profile jobs."""
    tokens: int = 0
    usd: float = 0.0


class Dearest(Message):
    """The most that one call has cost: what is kept for the next one, and what overlaps need."""

    tokens: int = 0
    usd: float = 0.0
    job_s: float = 0.0


class Pace(Message):
    """How long the expensive steps took so far; 0: not seen yet."""

    round_s: float = 0.0
    """Median of the rounds."""
    side_s: float = 0.0
    """Of one side in one sitting of a bench, all workloads: the median of the last few."""


def bench_s(pace: Pace, sittings: int, contenders: int) -> float:
    """Estimate a bench job from those before it; 0 where there were none."""
    return pace.side_s * sittings * (1 + contenders)


def final_s(pace: Pace, sittings: int, baselines: int) -> float:
    """Estimate the final claims, one job a baseline; 0 where no bench was seen.

    A baseline after the first counts `COMPILED_SHARE` times as much.
    """
    return bench_s(pace, sittings, 1) * (1 + COMPILED_SHARE * (baselines - 1))


_NOTHING = Dearest()


def exhausted(
    budget: Budget,
    spent: Spent,
    reserve_s: float,
    useful_s: float,
    keep: Dearest = _NOTHING,
) -> ExitReason | None:
    """Return why no further round may begin, or None.

    A round is not begun when less wall clock than `useful_s` is left beside the reserve: it could
    not reach a verdict. `keep` is what its review and the end of the run need: a round whose
    outcome nobody could review, or whose winner nobody could claim, is worth nothing.
    """
    if spent.rounds >= budget.rounds:
        return ExitReason.BUDGET_ROUNDS
    room_s = math.inf if budget.wall_s is None else budget.wall_s - spent.wall_s - reserve_s
    if room_s < max(LEAST_JOB_S, useful_s):
        return ExitReason.BUDGET_WALL
    reason = unaffordable(budget, spent, keep)
    if reason is not None:
        return reason
    if budget.gpu_s is not None and budget.gpu_s - spent.job_s - keep.job_s < LEAST_JOB_S:
        return ExitReason.BUDGET_GPU
    return None


def unaffordable(budget: Budget, spent: Spent, keep: Dearest = _NOTHING) -> ExitReason | None:
    """Return which budget lets no model be asked any more; `keep` is left for other questions."""
    if budget.tokens is not None and spent.tokens + keep.tokens >= budget.tokens:
        return ExitReason.BUDGET_TOKENS
    if budget.usd is not None and spent.usd + keep.usd >= budget.usd:
        return ExitReason.BUDGET_USD
    return None


def overlap_fits(budget: Budget, spent: Spent, dearest: Dearest, calls: int) -> bool:
    """Whether what is left holds so many calls at once, each as dear as the dearest so far.

    Where no price was seen yet, nothing may overlap.
    """
    pairs = (
        (budget.tokens, spent.tokens, dearest.tokens),
        (budget.usd, spent.usd, dearest.usd),
        (budget.gpu_s, spent.job_s, dearest.job_s),
    )
    return all(limit is None or 0 < calls * price <= limit - used for limit, used, price in pairs)


WARN_FRACTION = 0.8


def warnings(budget: Budget, spent: Spent) -> dict[str, tuple[float, float]]:
    """Return the budgets that are used by four fifths and not used up: name to used and limit."""
    pairs = {
        "rounds": (spent.rounds, budget.rounds),
        "wall_s": (spent.wall_s, budget.wall_s),
        "tokens": (spent.tokens, budget.tokens),
        "usd": (spent.usd, budget.usd),
        "gpu_s": (spent.job_s, budget.gpu_s),
    }
    return {
        name: (float(used), float(limit))
        for name, (used, limit) in pairs.items()
        if limit is not None and WARN_FRACTION * limit <= used < limit
    }


def job_reserve(budget: Budget, reserve_s: float) -> float:
    """Return the job seconds to keep for the end of the run, never more than half of them."""
    if budget.gpu_s is None:
        return 0.0
    jobs_s = max(0.0, reserve_s - closing(budget))
    return min(jobs_s, budget.gpu_s * _MOST_RESERVE_FRACTION)


def closing(budget: Budget) -> float:
    """Return the seconds to keep for what comes after the last job."""
    if budget.wall_s is None:
        return CLOSING_S
    return min(CLOSING_S, budget.wall_s * _MOST_CLOSING_FRACTION)


def reserve(budget: Budget, promoted: int, final_s: float, map_s: float) -> float:
    """Return the seconds to keep for autotuning, the final claim and closing.

    One variant needs no map. Never more than half of the wall budget.

    Args:
        budget: whose wall clock.
        promoted: attempts promoted so far; the first promotion is provided for before it is made.
        final_s: estimate of the final claim.
        map_s: estimate of mapping one variant.
    """
    variants = min(promoted, MOST_VARIANTS)
    maps = variants if variants > 1 else 0
    wanted = closing(budget) + SLACK * (final_s + maps * map_s)
    if budget.wall_s is None:
        return wanted
    return min(wanted, budget.wall_s * _MOST_RESERVE_FRACTION)


def job_timeout(
    wanted_s: float, budget: Budget, spent: Spent, keep_s: float, keep_job_s: float = 0.0
) -> float | None:
    """Cut a job's timeout to what is left; None: too little is left to start it.

    Args:
        wanted_s: with time to spare.
        budget: the limits.
        spent: what is used.
        keep_s: of the wall clock, for later phases.
        keep_job_s: of the job seconds, likewise.
    """
    allowed = wanted_s
    if budget.wall_s is not None:
        allowed = min(allowed, budget.wall_s - spent.wall_s - keep_s)
    if budget.gpu_s is not None:
        allowed = min(allowed, budget.gpu_s - spent.job_s - keep_job_s)
    return allowed if allowed >= LEAST_JOB_S else None


def fit_plan(plan: TimingPlan, seconds: float, series: int, sitting_s: float = 0.0) -> TimingPlan:
    """Return a timing plan that fits in `seconds`.

    The number of sittings a claim needs is never cut: the extra sittings are, and the time of a
    workload in a sitting is.

    Args:
        plan: what would be measured with time to spare.
        seconds: for the whole job.
        series: workloads times contenders.
        sitting_s: what a sitting takes with everything around the measuring; 0: not known.
    """
    most = plan.most_sittings
    if sitting_s > 0:
        most = max(plan.sittings, int(min(most, seconds * _EXTRA_FRACTION / sitting_s)))
    measuring = seconds * _MEASURING_FRACTION
    each = measuring / (plan.sittings * max(1, series))
    if each >= plan.most_s:
        return plan.model_copy(update={"most_sittings": most})
    most_s = max(0.05, each)
    return plan.model_copy(
        update={
            "most_s": most_s,
            "candidate_s": min(plan.candidate_s, most_s / 4),
            "warmup_s": min(plan.warmup_s, most_s / 4),
            "most_sittings": most if sitting_s > 0 else plan.sittings,
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
