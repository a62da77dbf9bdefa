"""Five sittings or more for the round's best: against the incumbent and the first baseline.

Further baselines wait for the final claim: a baseline that compiles would double the time of every
promotion and decides none.
"""

from langgraph.runtime import Runtime

from gpu_runner.candidate import Contender
from gpu_runner.jobs import Bench, Benched, Rejected
from graph.ledger import AttemptOutcome
from graph.nodes.common import veto_of
from graph.routing import best_lane
from graph.rows import draft_of, step_id, write_row
from graph.services import Services
from graph.state import Lane, RunState, Update


async def claim(state: RunState, runtime: Runtime[Services]) -> Update:
    """Measure the lane that feedback called FASTER; the review decides what it is worth."""
    services = runtime.context
    lane = best_lane(state)
    async with services.stage("claim", state):
        if lane is None:  # routing sends nothing here without one
            return Update(claimed="")
        veto = veto_of(services, lane)
        if veto:
            return _unclaimed(services, lane, veto)
        rivals = rivals_of(services, state)
        seconds = services.time_left(state, services.jobs.claim_s)
        needed_s = services.bench_s(state, services.bench.claim, len(rivals))
        if seconds is None or seconds < needed_s:
            return _unclaimed(services, lane, f"{needed_s:.0f} s are needed, fewer are left")
        job = Bench(
            job_id=step_id(services, lane, "claim"),
            problem=services.target.problem,
            timeout_s=services.jobs.claim_s,
            candidate=draft_of(services, lane).candidate,
            against=rivals,
            workloads=services.target.public,
            hidden=services.target.hidden,
            plan=services.timing(services.bench.claim, state, seconds, len(rivals)),
        )
        outcome = await services.run(job, state, lane.attempt_id)
        tried = state["claim_tries"] + 1
        if isinstance(outcome, Benched):
            return Update(claimed=lane.attempt_id, claim_tries=tried)
        if isinstance(outcome, Rejected):
            row = write_row(services, lane, AttemptOutcome.REJECTED, stopped=outcome)
            stopped = lane.model_copy(
                update={"status": "rejected", "verdict": None, "message": row.message}
            )
            return Update(claimed="", claim_tries=tried, lanes={str(lane.lane): stopped})
        return _unclaimed(services, lane, getattr(outcome, "message", outcome.kind))


def rivals_of(services: Services, state: RunState) -> tuple[Contender, ...]:
    """Return the incumbent, the first baseline, and the goal's where it is another one."""
    incumbent = services.incumbent(state)
    first = services.target.baselines[0]
    aims = [
        baseline
        for baseline in services.target.baselines
        if baseline is first or baseline.name == services.target.goal.against
    ]
    return (*((incumbent,) if incumbent else ()), *aims)


def _unclaimed(services: Services, lane: Lane, why: str) -> Update:
    message = f"feedback says FASTER; no claim: {why}"
    services.decide("claim", "none", message, at=lane.attempt_id)
    write_row(services, lane, AttemptOutcome.MEASURED, message=message)
    unclaimed = lane.model_copy(update={"verdict": None, "message": message})
    return Update(claimed="", lanes={str(lane.lane): unclaimed})
