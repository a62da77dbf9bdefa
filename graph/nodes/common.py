"""What several nodes need."""

from agents.contexts import Contract, RunView
from agents.replies import Draft, Plan
from gpu_runner.jobs import AnyJob, AnyOutcome, Rejected, Unserved
from graph.control import veto_on
from graph.errors import LoopError
from graph.ledger import AttemptOutcome
from graph.rows import draft_of, write_row
from graph.services import Services
from graph.state import Lane, RunState
from graph.tracking import contract_in_force


def plan_in_force(services: Services, state: RunState) -> Plan:
    """Return the plan that the state names."""
    plan = services.files.reply(Plan, state["plan"])
    if plan is None:
        raise LoopError(f"the plan {state['plan']!r} is missing from {services.files.root}")
    return plan


def contract_of(services: Services, state: RunState) -> Contract:
    """Return what the round at hand is to do."""
    plan = plan_in_force(services, state)
    return contract_in_force(services.files, plan, state["round"])


def tell_lessons(services: Services, view: RunView, draft: Draft, lane: Lane) -> None:
    """Log the lessons of earlier runs that a draft says it follows."""
    for lesson in view.lessons:
        if lesson.lesson_id in draft.motivation:
            services.decide(
                "lesson",
                lesson.lesson_id,
                f"{lane.attempt_id} follows it: {lesson.words()}",
                at=f"{lane.draft_key}:{lesson.lesson_id}",
                evidence=lesson.evidence,
            )


def veto_of(services: Services, lane: Lane) -> str:
    """Return the user's veto that a lane's candidate falls under, as words; empty: none."""
    draft = draft_of(services, lane)
    subject = veto_on(
        services.steering.vetoed,
        attempt_id=lane.attempt_id,
        family=draft.family,
        recipe=draft.recipe,
    )
    return f"the user's veto of {subject}" if subject else ""


def stopped(services: Services, lane: Lane, job: AnyJob, outcome: AnyOutcome) -> Lane:
    """Write the row of a lane whose job has no result, and return the lane as it ends.

    Raises:
        LoopError: the outcome is no answer to the job at all.
    """
    match outcome:
        case Rejected():
            ended = AttemptOutcome.REJECTED
        case Unserved():
            ended = AttemptOutcome.UNSERVED
        case _:
            raise LoopError(
                f"job {outcome.job_id} ({job.kind}) ended as {outcome.kind!r}; the runner speaks "
                "another version of this protocol: update it"
            )
    row = write_row(services, lane, ended, stopped=outcome)
    return lane.model_copy(update={"status": outcome.kind, "message": row.message})
