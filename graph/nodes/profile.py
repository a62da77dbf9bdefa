"""Look inside a candidate when there is a question: a small table says when, the log says why."""

from langgraph.runtime import Runtime

from agents.contexts import DigestContext, PastAttempt
from agents.errors import NothingFits
from agents.replies import Digest
from gpu_runner.facts import Facts
from gpu_runner.jobs import Profile, Profiled
from graph.errors import OutOfTime
from graph.events import ProfileRead
from graph.routing import current
from graph.rows import draft_of, feedback_on, outcomes_of, step_id
from graph.services import Services
from graph.state import Lane, RunState, Update


async def profile(state: RunState, runtime: Runtime[Services]) -> Update:
    """Profile at most one candidate of the round and have its facts digested."""
    services = runtime.context
    async with services.stage("profile", state):
        lane, why = trigger(state, services.target.budget.plateau_attempts)
        at = f"r{state['round']:03}"
        if lane is None:
            services.decide("profile", "none", why, at=at)
            return Update()
        services.decide("profile", lane.attempt_id, why, at=at)
        facts = await _facts(services, state, lane)
        if facts is None:
            return Update()
        return await _digest(services, state, lane, facts, why)


def trigger(state: RunState, plateau_attempts: int) -> tuple[Lane | None, str]:
    """Return which lane to profile, and why; the first row of the table that applies.

    | a claim was made        | the claimed candidate  | a promotion is at hand               |
    | nothing was profiled    | the fastest right one  | nothing is known of this problem yet |
    | half way to a plateau   | the fastest right one  | find out before a pivot is forced    |
    """
    measured = [lane for lane in current(state) if lane.status == "measured"]
    claimed = [lane for lane in measured if lane.attempt_id == state["claimed"]]
    if claimed:
        return claimed[0], "a promotion is at hand"
    if not measured:
        return None, "no candidate of the round was measured"
    fastest = max(measured, key=lambda lane: (lane.speedup, -lane.lane))
    if not state["digest"]:
        return fastest, "nothing is known of this problem yet"
    half = plateau_attempts // 2
    before = state["idle_attempts"]
    if before < half <= before + len(current(state)):
        return fastest, f"{half} attempts without a promotion: find out before a pivot is forced"
    return None, "no new question: nothing was claimed, and the last digest still holds"


async def _facts(services: Services, state: RunState, lane: Lane) -> Facts | None:
    job = Profile(
        job_id=step_id(services, lane, "profile"),
        problem=services.target.problem,
        timeout_s=services.jobs.profile_s,
        candidate=draft_of(services, lane).candidate,
        workloads=services.target.public,
        threads=services.target.hardware.threads,
    )
    outcome = await services.run(job, state, lane.attempt_id)
    if isinstance(outcome, Profiled):
        services.files.save_facts(lane.attempt_id, outcome.facts)
        return outcome.facts
    services.decide(
        "profile",
        "unavailable",
        getattr(outcome, "message", outcome.kind),
        at=f"{lane.attempt_id}:outcome",
    )
    return None


async def _digest(
    services: Services, state: RunState, lane: Lane, facts: Facts, why: str
) -> Update:
    last = services.files.reply(Digest, state["digest"]) if state["digest"] else None
    key = f"r{state['round']:03}"
    context = DigestContext(
        view=services.view(state),
        candidate=draft_of(services, lane).candidate,
        attempt=_as_past(services, lane),
        facts=facts,
        parent_facts=services.files.facts(lane.parent) if lane.parent else None,
        last_edit=last.next_edit if last else None,
    )
    try:
        digest = await services.ask(Digest, key, services.team.digest(context), state)
    except (NothingFits, OutOfTime) as error:
        services.decide("profile", "not digested", str(error), at=f"{lane.attempt_id}:digest")
        return Update()
    edit = digest.next_edit
    services.tell(
        ProfileRead(
            key=f"profiled:{lane.attempt_id}",
            attempt_id=lane.attempt_id,
            trigger=why,
            bottleneck=digest.bottleneck,
            next_edit=edit.change,
        )
    )
    return Update(digest=key)


def _as_past(services: Services, lane: Lane) -> PastAttempt:
    """Return the lane as an attempt; its row is written by the review only."""
    draft = draft_of(services, lane)
    return PastAttempt(
        attempt_id=lane.attempt_id,
        parent=lane.parent or None,
        round=lane.round,
        lane=lane.lane,
        family=draft.family,
        recipe=draft.recipe,
        parameters=draft.parameters,
        candidate_digest=lane.digest,
        motivation=draft.motivation,
        expected=draft.expected,
        outcome="measured",
        feedback=feedback_on(outcomes_of(services, lane).get("bench")),
    )
