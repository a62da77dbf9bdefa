"""The final kernel is read once as code; what is found goes back to its writer, or is shown."""

from langgraph.runtime import Runtime

from agents.contexts import InspectContext
from agents.errors import ModelError, NothingFits
from agents.inspection import inspect_by_rules
from agents.replies import Inspection
from graph import budget
from graph.errors import OutOfTime
from graph.inspecting import inspection_of, to_mend, words
from graph.services import Services
from graph.state import RunState, Update
from graph.view import difference


async def inspect(state: RunState, runtime: Runtime[Services]) -> Update:
    """Have the final kernel read, and decide whether it is to be mended."""
    services = runtime.context
    incumbent = services.steering.settled(state["incumbent"])
    async with services.stage("inspect", state, at=f"{incumbent}-m{state['mends']}"):
        if not incumbent:
            return Update(incumbent="", route="stop")
        found = await _inspection(services, state, incumbent)
        remarks = to_mend(services.files, incumbent)
        told = "; ".join(words(remark) for remark in found.remarks) or found.summary
        choice = f"{len(remarks)} to mend" if remarks else "nothing to mend"
        services.decide("inspect", choice, told, at=incumbent)
        obstacle = _obstacle(services, state) if remarks else found.summary
        if remarks and obstacle:
            services.decide("finalize", "left", obstacle, at=f"{incumbent}-m{state['mends']}")
        return Update(incumbent=incumbent, route="stop" if obstacle else "write")


async def _inspection(services: Services, state: RunState, incumbent: str) -> Inspection:
    """Return the reading of a kernel; by rules where nobody can be asked.

    A model that cannot read holds up no run whose kernel is measured: it would only be shown.
    """
    known = inspection_of(services.files, incumbent)
    if known is not None:
        return known
    context = _context(services, state, incumbent)
    left_s = services.wall_left_s(state)
    why = f"{left_s:.1f} s are left" if left_s is not None and left_s < budget.LEAST_JOB_S else ""
    if not why:
        try:
            question = services.team.inspect(context)
            return await services.ask(Inspection, incumbent, question, state)
        except (ModelError, NothingFits, OutOfTime) as error:
            why = str(error)
    services.decide("inspection", "rules", why, at=incumbent)
    found = inspect_by_rules(context.candidate)
    services.files.save_reply(incumbent, found)
    return found


def _context(services: Services, state: RunState, incumbent: str) -> InspectContext:
    attempt = services.attempt(incumbent)
    candidate = services.files.candidate(attempt.candidate_digest)
    before = inspection_of(services.files, attempt.mends or "")
    diff = ""
    if attempt.mends and before is not None:
        mended = services.attempt(attempt.mends)
        diff = difference(services.files.candidate(mended.candidate_digest), candidate)
    return InspectContext(
        view=services.view(state),
        candidate=candidate,
        attempt_id=incumbent,
        number=len(services.files.replies(Inspection)),
        diff=diff,
        earlier=before.remarks if before else (),
    )


def _obstacle(services: Services, state: RunState) -> str:
    """Return why the final kernel is not mended; empty where it is."""
    if state["mends"] >= services.loop.mends:
        return f"{state['mends']} mends were tried, and no more are allowed"
    limits = services.target.budget
    reserve_s = services.reserve_s(state)
    keep = services.review_price().model_copy(
        update={"job_s": budget.job_reserve(limits, reserve_s)}
    )
    needed_s = services.bench_s(state, services.bench.claim, 2)
    reason = budget.exhausted(limits, services.spent(state), reserve_s, needed_s, keep)
    return f"no mend fits in what is left: {reason.value}" if reason else ""
