"""One lane of a round: ask the writer for a candidate. Runs once per `Send`."""

from langgraph.runtime import Runtime

from agents.contexts import PastAttempt, RunView, WriteContext
from agents.errors import MalformedReply, NothingFits
from agents.novelty import fingerprint
from agents.replies import Digest, Draft, Research, Review
from gpu_runner.candidate import Candidate
from graph.control import veto_on
from graph.errors import OutOfTime
from graph.inspecting import to_mend
from graph.nodes.common import contract_of, plan_in_force, tell_lessons
from graph.routing import current, is_ending
from graph.services import Services
from graph.state import Lane, LaneState, LaneStatus, Order, RunState, Update
from graph.view import past_attempts


async def write(state: LaneState, runtime: Runtime[Services]) -> Update:
    """Ask for a draft; what is no usable draft is said in the lane, never raised."""
    services = runtime.context
    order = state["order"]
    lane = Lane(
        round=order.round,
        lane=order.lane,
        attempt_id=order.attempt_id,
        repair=order.repair,
        parent=state["incumbent"],
        mends=state["incumbent"] if is_ending(state) else "",
        status="undrafted",
    )
    async with services.stage("write", state, at=f"l{order.lane}-t{order.repair}"):
        context = _context(services, state, order)
        try:
            draft = await services.ask(
                Draft, lane.draft_key, services.team.write(context), state, lane.attempt_id
            )
        except MalformedReply as error:
            return _lane(lane, "undrafted", str(error))
        except NothingFits as error:
            return _lane(lane, "exhausted", str(error))
        except OutOfTime as error:
            return _lane(lane, "unserved", str(error))
        fault = _fault(draft, context)
        if fault:
            services.decide("repair", "write again", fault, at=lane.draft_key)
            return _lane(lane, "undrafted", fault)
        tell_lessons(services, context.view, draft, lane)
        digest = services.files.save_candidate(draft.candidate)
        return _lane(lane.model_copy(update={"digest": digest}), "drafted", "")


def _context(services: Services, state: RunState, order: Order) -> WriteContext:
    files = services.files
    view = services.view(state)
    incumbent = services.incumbent(state)
    parent = incumbent.candidate if incumbent else None
    repair = None
    if order.repair_of:
        past = past_attempts(files.attempts(), services.target.baselines[0].name)
        repair = next(attempt for attempt in past if attempt.attempt_id == order.repair_of)
        parent = files.candidate(repair.candidate_digest)
    if is_ending(state):
        return _mending(services, state, view, parent, repair, order)
    refused = None if repair else _refused(view, order)
    return WriteContext(
        view=view,
        plan=plan_in_force(services, state),
        research=files.reply(Research, state["research"]) if state["research"] else None,
        digest=files.reply(Digest, state["digest"]) if state["digest"] else None,
        review=files.reply(Review, state["review"]) if state["review"] else None,
        parent=parent,
        repair=repair,
        refused=refused,
        refused_source=files.candidate(refused.candidate_digest) if refused else None,
        fault=_last_fault(state, order),
        tried=_tried(services, view, state, order),
        lane=order.lane,
        lanes=services.target.scope.lanes,
        contract=contract_of(services, state),
    )


def _mending(
    services: Services,
    state: RunState,
    view: RunView,
    parent: Candidate | None,
    repair: PastAttempt | None,
    order: Order,
) -> WriteContext:
    """Return what the writer is told when the search is over: what to mend, and nothing to seek."""
    refused = _refused(view, order) if state["mends"] and not repair else None
    return WriteContext(
        view=view,
        plan=plan_in_force(services, state),
        parent=parent,
        repair=repair,
        refused=refused,
        refused_source=services.files.candidate(refused.candidate_digest) if refused else None,
        fault=_last_fault(state, order),
        tried=_tried(services, view, state, order),
        remarks=to_mend(services.files, state["incumbent"]),
    )


def _tried(services: Services, view: RunView, state: RunState, order: Order) -> dict[str, str]:
    """Return the fingerprints of the ledger, and of what other lanes of this round wrote."""
    digests = {a.candidate_digest: a.attempt_id for a in view.attempts}
    for lane in current(state):
        if lane.digest and lane.lane != order.lane:
            digests.setdefault(lane.digest, lane.attempt_id)
    return {fingerprint(services.files.candidate(d)): name for d, name in digests.items()}


def _refused(view: RunView, order: Order) -> PastAttempt | None:
    """Return what this lane tried last, in the round before, if it was found wrong."""
    tried = [a for a in view.attempts if (a.round, a.lane) == (order.round - 1, order.lane)]
    return tried[-1] if tried and tried[-1].outcome == "rejected" else None


def _last_fault(state: RunState, order: Order) -> str:
    """Return why this lane is written again without a row: its last reply was no usable draft."""
    last = state["lanes"].get(str(order.lane))
    if last is None or last.round != order.round or not order.repair or order.repair_of:
        return ""
    return last.message


def _fault(draft: Draft, context: WriteContext) -> str:
    """Return why a draft is not worth a job; empty where it is."""
    if draft.candidate.language not in context.view.languages:
        usable = ", ".join(context.view.languages)
        return f"the draft is in {draft.candidate.language.value}; this run can use: {usable}"
    veto = veto_on(context.view.vetoed, family=draft.family, recipe=draft.recipe)
    if veto:
        return f"the draft is of {veto}, which the user does not want; write another kind"
    digest = draft.candidate.digest
    for attempt in context.view.attempts:
        if attempt.candidate_digest == digest:
            return f"the draft is the same as {attempt.attempt_id}"
    return ""


def _lane(lane: Lane, status: LaneStatus, message: str) -> Update:
    decided = lane.model_copy(update={"status": status, "message": message})
    return Update(lanes={str(lane.lane): decided})
