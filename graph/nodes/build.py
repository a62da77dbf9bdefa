"""Turn the round's drafts into artefacts; what does not compile goes back to its lane.

So does a draft that another lane of the round wrote too. Lanes write at the same time, so neither
could know; here all have written, and the first of them keeps it.
"""

import asyncio

from langgraph.runtime import Runtime

from agents.novelty import fingerprint
from gpu_runner.jobs import Build, Built
from graph.nodes.common import stopped
from graph.routing import attempt_number, current, having
from graph.rows import draft_of, step_id
from graph.services import Services
from graph.state import Lane, RunState, Update


async def build(state: RunState, runtime: Runtime[Services]) -> Update:
    """Build every draft of the round that was not built yet."""
    services = runtime.context
    drafted = having(state, "drafted")
    visit = max((lane.repair for lane in state["lanes"].values()), default=0)
    async with services.stage("build", state, at=visit):
        twins = _twins(services, state)
        for lane in twins:
            services.decide("repair", "write again", lane.message, at=lane.draft_key)
        left = {lane.lane for lane in drafted} - {lane.lane for lane in twins}
        built = await asyncio.gather(
            *(_build(services, state, lane) for lane in drafted if lane.lane in left)
        )
        given = [attempt_number(lane.attempt_id) for lane in current(state)]
        return Update(
            lanes={str(lane.lane): lane for lane in (*built, *twins)},
            issued=max([state["issued"], *given]),
        )


def _twins(services: Services, state: RunState) -> list[Lane]:
    """Return the lanes whose draft another lane of the round has as well, as ones to write again.

    What was built before is kept before what was not, then the lower lane before the higher.
    """
    first: dict[str, Lane] = {}
    twins = []
    having_one = [lane for lane in current(state) if lane.digest and lane.status != "undrafted"]
    for lane in sorted(having_one, key=lambda lane: (lane.status == "drafted", lane.lane)):
        kept = first.setdefault(fingerprint(services.files.candidate(lane.digest)), lane)
        if kept is not lane and lane.status == "drafted":
            message = f"this is what lane {kept.lane + 1} of this round wrote ({kept.attempt_id})"
            update = {"status": "undrafted", "digest": "", "message": f"{message}; write another"}
            twins.append(lane.model_copy(update=update))
    return twins


async def _build(services: Services, state: RunState, lane: Lane) -> Lane:
    job = Build(
        job_id=step_id(services, lane, "build"),
        problem=services.target.problem,
        timeout_s=services.jobs.build_s,
        candidate=draft_of(services, lane).candidate,
    )
    outcome = await services.run(job, state, lane.attempt_id)
    if not isinstance(outcome, Built):
        return stopped(services, lane, job, outcome)
    return lane.model_copy(update={"status": "built"})
