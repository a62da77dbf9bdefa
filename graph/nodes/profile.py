"""Look inside a candidate when there is a question: a small table says when, the log says why."""

from langgraph.runtime import Runtime

from agents.contexts import DigestContext, PastAttempt
from agents.errors import NothingFits
from agents.replies import Digest, Review
from gpu_runner.facts import Facts
from gpu_runner.jobs import Profile, Profiled
from graph.errors import OutOfTime
from graph.events import ProfileRead
from graph.routing import current
from graph.rows import draft_of, feedback_on, outcomes_of, step_id
from graph.scoring import Foretold, prediction_at_hand, score_prediction
from graph.services import Services
from graph.state import Lane, RunState, Update
from graph.triggers import Question
from graph.triggers import trigger as asked_of


async def profile(state: RunState, runtime: Runtime[Services]) -> Update:
    """Profile one candidate of the round and have its facts digested; none without a question."""
    services = runtime.context
    async with services.stage("profile", state):
        foretold = prediction_at_hand(services, state)
        lane, why = trigger(
            state,
            services.target.budget.plateau_attempts,
            foretold.followers if foretold else frozenset(),
            _asked(services, state),
            is_scored=foretold is None or foretold.is_scored,
        )
        at = f"r{state['round']:03}"
        if lane is None:
            services.decide("profile", "none", why, at=at)
            if foretold is not None:
                score_prediction(services, foretold, None, None)
            return Update()
        services.decide("profile", lane.attempt_id, why, at=at)
        facts = await _facts(services, state, lane)
        if foretold is not None:
            await _score(services, state, foretold, lane, facts)
        if facts is None:
            return Update()
        return await _digest(services, state, lane, facts, why)


def trigger(
    state: RunState,
    plateau_attempts: int,
    followers: frozenset[str] = frozenset(),
    review: str = "",
    *,
    is_scored: bool = True,
) -> tuple[Lane | None, str]:
    """Return which lane of the round to profile, and why; see `graph.triggers`."""
    lanes = current(state)
    return asked_of(
        Question(
            measured=tuple(lane for lane in lanes if lane.status == "measured"),
            lanes=len(lanes),
            claimed=state["claimed"],
            has_digest=bool(state["digest"]),
            idle_attempts=state["idle_attempts"],
            plateau_attempts=plateau_attempts,
            followers=followers,
            is_scored=is_scored,
            review=review,
        )
    )


async def _score(
    services: Services, state: RunState, foretold: Foretold, lane: Lane, facts: Facts | None
) -> None:
    """Score the last digest before this one replaces it; once a rule, look for that alone."""
    is_other = lane.attempt_id not in foretold.followers
    if is_other and not foretold.is_scored:
        lane = foretold.lanes[0]
        facts = await _facts(services, state, lane)
    score_prediction(services, foretold, lane, facts)


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
            digest=key,
        )
    )
    return Update(digest=key)


def _asked(services: Services, state: RunState) -> str:
    """Return what the last review wants to know."""
    review = services.files.reply(Review, state["review"]) if state["review"] else None
    if review is None:
        return ""
    return " ".join((review.advice, *(finding.text for finding in review.findings)))


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
