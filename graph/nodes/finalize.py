"""A mended final kernel is measured like any claim, and takes the place of the one it mends.

Only where it is right, and slower on nothing: by a claim of its own against that kernel, within the
margin of the decision rule. Else the kernel stays as it is.
"""

from langgraph.runtime import Runtime

from gpu_runner.jobs import Bench, Benched, Rejected, Unserved
from graph import criteria, rules
from graph.errors import LoopError
from graph.events import Promoted
from graph.ledger import Attempt, AttemptOutcome
from graph.nodes.claim import rivals_of
from graph.routing import current
from graph.rows import decisions_on, draft_of, interval, step_id, write_row
from graph.services import Services
from graph.state import Lane, RunState, Update


async def finalize(state: RunState, runtime: Runtime[Services]) -> Update:
    """Settle the mend of the round at hand."""
    services = runtime.context
    async with services.stage("finalize", state):
        lane = next(iter(current(state)), None)
        if lane is None:
            raise LoopError("a mend ended without a lane; start the run again with `resume`")
        row = await _measured(services, state, lane) if lane.status == "checked" else None
        is_accepted = row is not None and row.outcome is AttemptOutcome.PROMOTED
        why = row.message if row else lane.message
        choice = "mended" if is_accepted else "kept"
        services.decide("finalize", choice, why, at=f"r{state['round']:03}")
        ended = state["round"]
        return Update(
            round=ended + 1,
            # Who cannot mend today cannot a moment later either.
            mends=services.loop.mends if lane.status == "exhausted" else state["mends"] + 1,
            incumbent=lane.attempt_id if is_accepted else state["incumbent"],
            promoted=state["promoted"] + is_accepted,
            spent=services.meter.spent(ended),
            pace=services.meter.pace(ended),
        )


async def _measured(services: Services, state: RunState, lane: Lane) -> Attempt:
    """Claim the mended kernel against the one it mends, and write its row."""
    rivals = rivals_of(services, state)
    seconds = services.time_left(state, services.jobs.claim_s)
    needed_s = services.bench_s(state, services.bench.claim, len(rivals))
    if seconds is None or seconds < needed_s:
        message = f"not measured: {needed_s:.0f} s are needed, fewer are left"
        return write_row(services, lane, AttemptOutcome.UNSERVED, message=message)
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
    if isinstance(outcome, Rejected):
        return write_row(services, lane, AttemptOutcome.REJECTED, stopped=outcome)
    if not isinstance(outcome, Benched):
        stopped = outcome if isinstance(outcome, Unserved) else None
        message = f"not measured: {outcome.kind}"
        return write_row(
            services,
            lane,
            AttemptOutcome.UNSERVED,
            stopped=stopped,
            message=message,
        )
    claims = decisions_on(outcome, 1)
    before = services.attempt(lane.mends).claims
    fault = rules.unfit_to_replace(claims, services.target.baselines[0].name)
    if not fault and criteria.goal_evidence(services.target, before):
        met = criteria.goal_evidence(services.target, claims)
        fault = "" if met else "its claim does not reach the goal, which that of the other does"
    if fault:
        return write_row(services, lane, AttemptOutcome.MEASURED, claims=claims, message=fault)
    message = f"takes the place of {lane.mends}: the same work, better to read, and no slower"
    row = write_row(services, lane, AttemptOutcome.PROMOTED, claims=claims, message=message)
    services.tell(
        Promoted(
            key=f"promoted:{row.attempt_id}",
            attempt_id=row.attempt_id,
            version=row.version,
            intervals={claim.against: interval(claim) for claim in row.claims},
        )
    )
    return row
