"""One sitting of feedback for every right candidate, against the incumbent or a baseline."""

import asyncio

from langgraph.runtime import Runtime

from gpu_runner.candidate import Contender
from gpu_runner.jobs import Bench, Benched
from gpu_runner.records import Decision
from graph.ledger import AttemptOutcome
from graph.nodes.common import stopped
from graph.routing import best_lane, having
from graph.rows import draft_of, feedback_on, step_id, write_row
from graph.services import Services
from graph.state import Lane, RunState, Update, merge_lanes


async def bench(state: RunState, runtime: Runtime[Services]) -> Update:
    """Time the round's candidates; all but the one worth a claim are decided by it.

    The rival is the incumbent; before the first promotion, the first baseline.
    """
    services = runtime.context
    async with services.stage("bench", state):
        rival = services.incumbent(state) or services.target.baselines[0]
        benched = await asyncio.gather(
            *(_bench(services, state, lane, rival) for lane in having(state, "checked"))
        )
        update = {str(lane.lane): lane for lane, _ in benched}
        best = best_lane({**state, "lanes": merge_lanes(state["lanes"], update)})
        for lane, feedback in benched:
            if feedback is not None and lane != best:
                write_row(services, lane, AttemptOutcome.MEASURED, feedback=feedback)
        return Update(lanes=update)


async def _bench(
    services: Services, state: RunState, lane: Lane, rival: Contender
) -> tuple[Lane, Decision | None]:
    seconds = services.time_left(state, services.jobs.feedback_s)
    job = Bench(
        job_id=step_id(services, lane, "bench"),
        problem=services.target.problem,
        timeout_s=services.jobs.feedback_s,
        candidate=draft_of(services, lane).candidate,
        against=(rival,),
        workloads=services.target.public,
        plan=services.timing(services.bench.feedback, state, seconds, 1),
    )
    outcome = await services.run(job, state, lane.attempt_id)
    if not isinstance(outcome, Benched):
        return stopped(services, lane, job, outcome), None
    decision = feedback_on(outcome)
    assert decision is not None, "a bench outcome has its one contender"
    measured = lane.model_copy(
        update={
            "status": "measured",
            "verdict": decision.overall.verdict,
            "speedup": decision.overall.speedup,
            "record_id": decision.record_id,
        }
    )
    return measured, decision
