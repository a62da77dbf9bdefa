"""Makes the ledger's rows from what the run directory holds of a lane."""

from agents.replies import Draft
from gpu_runner.decision import decide
from gpu_runner.jobs import AnyOutcome, Benched, Rejected, Stage, Unserved
from gpu_runner.records import Decision, Verdict
from graph.errors import LoopError
from graph.events import AttemptDecided, Interval
from graph.ledger import Attempt, AttemptOutcome
from graph.services import Services
from graph.state import Lane

_LOG_CHARACTERS = 2000
_STEPS = ("build", "check", "bench", "claim", "profile")


def step_id(services: Services, lane: Lane, step: str) -> str:
    """Return the id of a lane's job, without the number of the try."""
    return services.job_id(f"r{lane.round:03}", f"l{lane.lane}", lane.attempt_id, step)


def draft_of(services: Services, lane: Lane) -> Draft:
    """Return the writer's saved answer.

    Raises:
        LoopError: there is none, though the lane says so.
    """
    draft = services.files.reply(Draft, lane.draft_key)
    if draft is None:
        raise LoopError(
            f"the draft {lane.draft_key} of {lane.attempt_id} is missing from the run directory"
        )
    return draft


def outcomes_of(services: Services, lane: Lane) -> dict[str, AnyOutcome]:
    """Return how each of a lane's jobs ended, by step; of several tries the last."""
    found: dict[str, AnyOutcome] = {}
    for step in _STEPS:
        for number in range(services.jobs.tries):
            outcome = services.files.outcome(f"{step_id(services, lane, step)}-t{number}")
            if outcome is not None:
                found[step] = outcome
    return found


def decisions_on(
    outcome: AnyOutcome | None, tested: int, names: tuple[str, ...] = ()
) -> tuple[Decision, ...]:
    """Return the claims that a bench outcome supports, against each contender it measured."""
    if not isinstance(outcome, Benched):
        return ()
    return tuple(
        decide(outcome.record, name, basis="claim", candidates_tested=tested)
        for name in (names or tuple(outcome.record.against))
    )


def feedback_on(outcome: AnyOutcome | None) -> Decision | None:
    """Return the feedback decision of a bench outcome."""
    if not isinstance(outcome, Benched):
        return None
    return decide(outcome.record, next(iter(outcome.record.against)), basis="feedback")


def write_row(
    services: Services,
    lane: Lane,
    outcome: AttemptOutcome,
    *,
    feedback: Decision | None = None,
    claims: tuple[Decision, ...] = (),
    stopped: Rejected | Unserved | None = None,
    message: str = "",
) -> Attempt:
    """Append a lane's row to the ledger and log it; a row that is there already stays.

    Args:
        services: of the run.
        lane: whose row.
        outcome: where its way ended.
        feedback: decided from its bench outcome where it is not given.
        claims: decided from its claim.
        stopped: who stopped it, and why.
        message: what else is to be said.
    """
    draft = draft_of(services, lane)
    outcomes = outcomes_of(services, lane)
    rejected = stopped if isinstance(stopped, Rejected) else None
    row = services.files.append_attempt(
        Attempt(
            attempt_id=lane.attempt_id,
            version=lane.version,
            round=lane.round,
            lane=lane.lane,
            parent=lane.parent or None,
            candidate_digest=lane.digest,
            language=draft.candidate.language.value,
            family=draft.family,
            recipe=draft.recipe,
            parameters=draft.parameters,
            motivation=draft.motivation,
            expected=draft.expected,
            provenance=draft.provenance,
            outcome=outcome,
            stage=rejected.stage if rejected else None,
            reason=rejected.reason if rejected else None,
            message=_message(stopped) if stopped else message,
            mismatch=rejected.mismatch if rejected else None,
            feedback=feedback or feedback_on(outcomes.get("bench")),
            mends=lane.mends or None,
            claims=claims,
            job_ids=tuple(found.job_id for found in outcomes.values()),
            seconds={
                step: float(getattr(found, "seconds", 0.0))
                for step, found in outcomes.items()
                if hasattr(found, "seconds")
            },
        )
    )
    services.tell(_decided(row))
    return row


def _message(stopped: Rejected | Unserved) -> str:
    """Return what a writer may read of it: a compiler's log, never what a hidden case printed."""
    if isinstance(stopped, Rejected) and stopped.stage is Stage.BUILD and stopped.log_tail:
        return f"{stopped.message}\n{stopped.log_tail[-_LOG_CHARACTERS:]}"
    return stopped.message


def _decided(row: Attempt) -> AttemptDecided:
    decision = row.claims[0] if row.claims else row.feedback
    verdict = decision.overall.verdict if decision else Verdict.AMBIGUOUS
    if row.outcome is AttemptOutcome.REJECTED:
        verdict = Verdict.REJECTED
    return AttemptDecided(
        key=f"attempt_decided:{row.attempt_id}",
        attempt_id=row.attempt_id,
        round=row.round,
        lane=row.lane,
        label="/".join(word for word in (row.family, row.recipe) if word) or row.language,
        outcome=row.outcome,
        verdict=verdict,
        against=decision.against if decision else "",
        interval=interval(decision) if decision else None,
        stage=row.stage,
        reason=row.reason,
        message=row.message.partition("\n")[0],
    )


def interval(decision: Decision) -> Interval:
    """Return a decision's overall speed-up with its interval."""
    return Interval.of(decision)
