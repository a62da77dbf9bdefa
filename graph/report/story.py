"""What the report says, as arithmetic over the ledger: no files, no markup.

Speed-ups over the first baseline are taken from claims where there is one; an attempt that was only
compared with the incumbent is placed by multiplying with the incumbent's own claim, and marked so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpu_runner.records import Decision
from graph.criteria import bar, goal_evidence
from graph.ledger import Attempt, AttemptOutcome, RunManifest, RunResult, Tuning
from graph.target import Goal


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The answer in one look."""

    attempt: Attempt | None
    """The best kernel, None while there is none."""
    decisions: tuple[Decision, ...]
    """One for each baseline, in the target's order."""
    is_final: bool
    """Measured again after the kernel was selected; otherwise the promotion's own claims."""
    goal: Goal
    bar: str
    """The contender that decides the goal; empty: not measured against all that are meant."""
    is_goal_met: bool | None
    """None: not decided, for there is no claim against the goal's contender."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where one attempt stands against the first baseline."""

    attempt: Attempt
    order: int
    """Position in the ledger, from 0."""
    decision: Decision
    speedup: float
    low: float
    high: float
    is_direct: bool
    """Measured against the baseline itself; otherwise through the incumbent of its time."""

    @property
    def latency_us(self) -> float:
        """Median of one call."""
        return self.decision.overall.candidate_us

    @property
    def latency_low_us(self) -> float:
        """Fast end: the contender's median over the high end of the speed-up."""
        return self.decision.overall.against_us / self.decision.overall.high

    @property
    def latency_high_us(self) -> float:
        """Slow end."""
        return self.decision.overall.against_us / self.decision.overall.low


def best_attempt(attempts: tuple[Attempt, ...], result: RunResult | None) -> Attempt | None:
    """Return the kernel the run ended with, or the last one promoted so far."""
    if result is not None:
        return next((a for a in attempts if a.attempt_id == result.best_attempt), None)
    promoted = [a for a in attempts if a.outcome is AttemptOutcome.PROMOTED]
    return promoted[-1] if promoted else None


def headline(
    manifest: RunManifest, attempts: tuple[Attempt, ...], result: RunResult | None
) -> Headline:
    """Return the best kernel and how it stands against each baseline and the goal."""
    best = best_attempt(attempts, result)
    is_final = result is not None and bool(result.best)
    claims = result.best if result is not None and result.best else (best.claims if best else ())
    by_name = {claim.against: claim for claim in claims}
    decides = bar(manifest.target, claims)
    goal = manifest.target.goal
    return Headline(
        attempt=best,
        decisions=tuple(
            by_name[baseline.name]
            for baseline in manifest.target.baselines
            if baseline.name in by_name
        ),
        is_final=is_final,
        goal=goal,
        bar=decides.against if decides is not None else "",
        is_goal_met=None if decides is None else bool(goal_evidence(manifest.target, claims)),
    )


def claim_against(attempt: Attempt, name: str) -> Decision | None:
    """Return the attempt's claim against a contender."""
    return next((claim for claim in attempt.claims if claim.against == name), None)


def points(attempts: tuple[Attempt, ...], baseline: str) -> tuple[Point, ...]:
    """Return every attempt that can be placed against the baseline, in ledger order."""
    placed: list[Point] = []
    incumbent: Decision | None = None
    for order, attempt in enumerate(attempts):
        direct = claim_against(attempt, baseline) or _if_against(attempt.feedback, baseline)
        if direct is not None:
            placed.append(_point(attempt, order, direct, 1.0, is_direct=True))
        elif attempt.feedback is not None and (
            base := _base(attempt, attempts, incumbent, baseline)
        ):
            placed.append(
                _point(attempt, order, attempt.feedback, base.overall.speedup, is_direct=False)
            )
        if attempt.outcome is AttemptOutcome.PROMOTED:
            incumbent = claim_against(attempt, baseline) or incumbent
    return tuple(placed)


def _if_against(decision: Decision | None, name: str) -> Decision | None:
    return decision if decision is not None and decision.against == name else None


def _base(
    attempt: Attempt, attempts: tuple[Attempt, ...], incumbent: Decision | None, baseline: str
) -> Decision | None:
    """Return the baseline claim of what the attempt was compared with: its parent, if promoted."""
    parent = next((a for a in attempts if a.attempt_id == attempt.parent), None)
    return (claim_against(parent, baseline) if parent is not None else None) or incumbent


def _point(
    attempt: Attempt, order: int, decision: Decision, factor: float, *, is_direct: bool
) -> Point:
    overall = decision.overall
    return Point(
        attempt=attempt,
        order=order,
        decision=decision,
        speedup=overall.speedup * factor,
        low=overall.low * factor,
        high=overall.high * factor,
        is_direct=is_direct,
    )


def decisions_of(attempt: Attempt) -> tuple[Decision, ...]:
    """Return every decision about an attempt, feedback first."""
    return (*((attempt.feedback,) if attempt.feedback is not None else ()), *attempt.claims)


def record_ids(
    attempts: Iterable[Attempt], tuning: Tuning | None, result: RunResult | None
) -> tuple[str, ...]:
    """Return the id of every record anything in the run rests on, each once, in order of use."""
    found: dict[str, None] = {}
    for attempt in attempts:
        found.update(dict.fromkeys(d.record_id for d in decisions_of(attempt)))
    if tuning is not None:
        found.update(dict.fromkeys(point.record_id for point in tuning.points))
        found.update(dict.fromkeys(rid for regime in tuning.regimes for rid in regime.record_ids))
    if result is not None:
        found.update(dict.fromkeys(decision.record_id for decision in result.best))
    return tuple(found)


def counts(attempts: tuple[Attempt, ...]) -> dict[AttemptOutcome, int]:
    """Return how many attempts ended each way, every way named."""
    return {
        outcome: sum(attempt.outcome is outcome for attempt in attempts)
        for outcome in AttemptOutcome
    }


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the lineage: an attempt that others came from, or that was promoted."""

    attempt: Attempt | None
    """None: the start, before any kernel."""
    depth: int
    """Column: 0 is the line that the last promotion lies on."""
    leaves: tuple[Attempt, ...]
    """Attempts derived from it that led no further."""
    parent_row: int | None


def lineage(attempts: tuple[Attempt, ...]) -> tuple[Row, ...]:
    """Return the tree of attempts, parents before children, unpromoted childless ones as leaves."""
    known = {attempt.attempt_id for attempt in attempts}
    children: dict[str | None, list[Attempt]] = {}
    for attempt in attempts:
        origin = attempt.parent if attempt.parent in known else None
        children.setdefault(origin, []).append(attempt)
    rows: list[Row] = []
    pending: list[tuple[Attempt | None, int, int | None]] = [(None, 0, None)]
    while pending:
        parent, depth, parent_row = pending.pop()
        own = children.get(parent.attempt_id if parent else None, [])
        inner = [child for child in own if _goes_on(child, children)]
        leaves = tuple(child for child in own if not _goes_on(child, children))
        rows.append(Row(attempt=parent, depth=depth, leaves=leaves, parent_row=parent_row))
        # The last child stays in its parent's column: a run of promotions is one straight line.
        pending += _placed(inner, depth, len(rows) - 1)
    return tuple(rows)


def _goes_on(attempt: Attempt, children: dict[str | None, list[Attempt]]) -> bool:
    return attempt.outcome is AttemptOutcome.PROMOTED or attempt.attempt_id in children


def _placed(
    inner: list[Attempt], depth: int, here: int
) -> Iterator[tuple[Attempt | None, int, int | None]]:
    for index, child in enumerate(reversed(inner)):
        yield child, depth + index, here
