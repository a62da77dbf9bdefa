"""Turn the round's drafts into artefacts; what does not compile goes back to its lane."""

import asyncio

from langgraph.runtime import Runtime

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
        built = await asyncio.gather(*(_build(services, state, lane) for lane in drafted))
        given = [attempt_number(lane.attempt_id) for lane in current(state)]
        return Update(
            lanes={str(lane.lane): lane for lane in built},
            issued=max([state["issued"], *given]),
        )


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
