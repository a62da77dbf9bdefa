"""Does the plan hold? Every check is arithmetic over the ledger; no model is asked.

Pure: the ledger and what belongs to it come in as values. A criterion is MET when all its checks,
positive and negative, hold, each with evidence that resolves to a record, an attempt, a job or an
event.
"""

from collections.abc import Callable

from agents.replies import CheckRule, Criterion, CriterionStatus, ExecutableCheck, Plan
from gpu_runner.facts import Facts
from gpu_runner.jobs import Admitted
from gpu_runner.message import Message
from gpu_runner.records import Decision, Verdict
from graph.ledger import Attempt, AttemptOutcome
from graph.target import BEST, Target

Evidence = tuple[str, ...]
"""Ids; empty: the check does not hold."""


class Ledger(Message):
    """What the checks read."""

    target: Target
    attempts: tuple[Attempt, ...] = ()
    incumbent: str = ""
    """Attempt id of the incumbent."""
    admission: Admitted | None = None
    facts: Facts | None = None
    """Of the incumbent."""
    final: tuple[Decision, ...] = ()
    """Claims of the incumbent made after it was selected, against every baseline."""
    plateau_events: tuple[str, ...] = ()
    """Keys of the decisions to stop at a plateau."""

    @property
    def best(self) -> Attempt | None:
        """The incumbent's row."""
        found = [a for a in self.attempts if a.attempt_id == self.incumbent]
        return found[0] if found else None

    def claims(self) -> tuple[Decision, ...]:
        """Return the incumbent's claims, the final ones where there are any."""
        best = self.best
        return self.final or (best.claims if best else ())


def evaluate(plan: Plan, ledger: Ledger) -> tuple[CriterionStatus, ...]:
    """Return how every criterion of the plan stands."""
    return tuple(_status(task.criterion, ledger) for task in plan.tasks)


def is_complete(statuses: tuple[CriterionStatus, ...]) -> bool:
    """Every criterion is met, none deferred."""
    return bool(statuses) and all(status.status == "MET" for status in statuses)


def goal_evidence(target: Target, claims: tuple[Decision, ...]) -> Evidence:
    """Return the records of the claims that reach the goal: FASTER with a low end high enough.

    A goal against the best baseline is reached where it is reached against every one.
    """
    reached = tuple(
        claim
        for claim in claims
        if claim.basis == "claim"
        and claim.overall.verdict is Verdict.FASTER
        and claim.overall.low >= target.goal.speedup
    )
    return _of_all(reached, meant(target, target.goal.against))


def meant(target: Target, against: str) -> tuple[str, ...]:
    """Return the contenders that a name means: `best` stands for every baseline."""
    if against == BEST:
        return tuple(baseline.name for baseline in target.baselines)
    return (against,)


def bar(target: Target, claims: tuple[Decision, ...]) -> Decision | None:
    """Return the claim that decides the goal: against its contender, or the smallest gain of all.

    None where a contender that is meant was not measured.
    """
    wanted = meant(target, target.goal.against)
    against = {claim.against: claim for claim in claims if claim.against in wanted}
    if set(against) != set(wanted):
        return None
    return min(against.values(), key=lambda claim: claim.overall.speedup)


def _of_all(claims: tuple[Decision, ...], wanted: tuple[str, ...]) -> Evidence:
    """Return the records against the contenders wanted; nothing where one of them is missing."""
    found = tuple(claim for claim in claims if claim.against in wanted)
    complete = {claim.against for claim in found} == set(wanted)
    return tuple(claim.record_id for claim in found) if complete else ()


def _status(criterion: Criterion, ledger: Ledger) -> CriterionStatus:
    found = [evidence_for(check, ledger) for check in (*criterion.positive, *criterion.negative)]
    evidence = tuple(dict.fromkeys(item for items in found for item in items))
    if all(found):
        return CriterionStatus(criterion_id=criterion.criterion_id, status="MET", evidence=evidence)
    return CriterionStatus(
        criterion_id=criterion.criterion_id,
        status="PARTIAL" if evidence else "NOT_MET",
        evidence=evidence,
    )


def evidence_for(check: ExecutableCheck, ledger: Ledger) -> Evidence:
    """Return the ids that show that one check holds; empty where it does not."""
    return _RULES[check.rule](check, ledger)


def _correct_over_w(_: ExecutableCheck, ledger: Ledger) -> Evidence:
    return tuple(a.attempt_id for a in ledger.attempts if a.outcome is AttemptOutcome.PROMOTED)


def _faster_than_baseline(check: ExecutableCheck, ledger: Ledger) -> Evidence:
    name = check.parameter or ledger.target.baselines[0].name
    faster = tuple(c for c in ledger.claims() if c.overall.verdict is Verdict.FASTER)
    return _of_all(faster, meant(ledger.target, name))


def _reaches_goal(_: ExecutableCheck, ledger: Ledger) -> Evidence:
    return goal_evidence(ledger.target, ledger.claims())


def _roofline_reached(check: ExecutableCheck, ledger: Ledger) -> Evidence:
    wanted = _number(check)
    if ledger.facts is None or wanted is None:
        return ()
    reached = {roof.workload: roof.fraction_reached for roof in ledger.facts.roofline}
    public = [workload.name for workload in ledger.target.public]
    holds = all(reached.get(name, 0.0) >= wanted for name in public)
    return (ledger.incumbent,) if holds else ()


def _attempts_made(check: ExecutableCheck, ledger: Ledger) -> Evidence:
    wanted = _number(check)
    measured = tuple(
        a.attempt_id
        for a in ledger.attempts
        if a.outcome in {AttemptOutcome.PROMOTED, AttemptOutcome.MEASURED}
    )
    return measured if wanted is not None and measured and len(measured) >= wanted else ()


def _wrong_is_rejected(_: ExecutableCheck, ledger: Ledger) -> Evidence:
    admission = ledger.admission
    return (admission.job_id,) if admission is not None and admission.caught else ()


def _no_regression(_: ExecutableCheck, ledger: Ledger) -> Evidence:
    first = ledger.target.baselines[0].name
    return tuple(
        claim.record_id
        for claim in ledger.claims()
        if claim.against == first
        and not any(c.verdict is Verdict.SLOWER for c in claim.workloads.values())
    )


def _plateau_recorded(_: ExecutableCheck, ledger: Ledger) -> Evidence:
    return ledger.plateau_events


def _number(check: ExecutableCheck) -> float | None:
    """Return the parameter as a number; None, so that nothing holds, where it is not one."""
    try:
        return float(check.parameter)
    except ValueError:
        return None


_RULES: dict[CheckRule, Callable[[ExecutableCheck, Ledger], Evidence]] = {
    CheckRule.CORRECT_OVER_W: _correct_over_w,
    CheckRule.FASTER_THAN_BASELINE: _faster_than_baseline,
    CheckRule.REACHES_GOAL: _reaches_goal,
    CheckRule.ROOFLINE_REACHED: _roofline_reached,
    CheckRule.ATTEMPTS_MADE: _attempts_made,
    CheckRule.WRONG_IS_REJECTED: _wrong_is_rejected,
    CheckRule.NO_REGRESSION: _no_regression,
    CheckRule.PLATEAU_RECORDED: _plateau_recorded,
}
