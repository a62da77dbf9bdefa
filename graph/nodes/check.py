"""Is it right? Public and hidden workloads, every profile; only what passes is timed."""

import asyncio

from langgraph.runtime import Runtime

from gpu_runner.jobs import Check, Checked
from graph.nodes.common import stopped
from graph.routing import having
from graph.rows import draft_of, step_id
from graph.services import Services
from graph.state import Lane, RunState, Update


async def check(state: RunState, runtime: Runtime[Services]) -> Update:
    """Check every artefact of the round; what passes gets a version name, in the order of lanes."""
    services = runtime.context
    async with services.stage("check", state):
        lanes = await asyncio.gather(
            *(_check(services, state, lane) for lane in having(state, "built"))
        )
        versions = state["versions"]
        named: dict[str, Lane] = {}
        for lane in lanes:
            if lane.status == "checked":
                versions += 1
                named[str(lane.lane)] = lane.model_copy(update={"version": f"v{versions:03}"})
            else:
                named[str(lane.lane)] = lane
        return Update(lanes=named, versions=versions)


async def _check(services: Services, state: RunState, lane: Lane) -> Lane:
    job = Check(
        job_id=step_id(services, lane, "check"),
        problem=services.target.problem,
        timeout_s=services.jobs.check_s,
        candidate=draft_of(services, lane).candidate,
        workloads=services.target.workloads,
        threads=services.target.hardware.threads,
    )
    outcome = await services.run(job, state, lane.attempt_id)
    if not isinstance(outcome, Checked):
        return stopped(services, lane, job, outcome)
    return lane.model_copy(update={"status": "checked"})
