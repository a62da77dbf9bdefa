"""The final claim of the final kernel, the standalone repository, the report, the result."""

import asyncio
from typing import NamedTuple

from langgraph.runtime import Runtime

from gpu_runner.jobs import Bench, Benched
from gpu_runner.records import Decision
from graph import criteria, rules
from graph.ledger import ExitReason, RunResult
from graph.publish import publish
from graph.rows import decisions_on
from graph.services import Services
from graph.state import RunState, Update


async def finish(state: RunState, runtime: Runtime[Services]) -> Update:
    """Measure what was selected with fresh sittings, then write down how the run ended."""
    services = runtime.context
    async with services.stage("finish", state):
        final = await _final_claim(services, state)
        reason, message = rules.final_reason(
            ExitReason(state["exit_reason"]),
            state["exit_message"],
            services.target.goal,
            goal_confirmed=bool(criteria.goal_evidence(services.target, final.claims)),
        )
        if final.message:
            message = f"{message}; {final.message}"
        result = _result(services, state, reason, message, final.claims)
        result = await asyncio.to_thread(publish, services.files, services.manifest, result)
        services.files.save_result(result)
    return Update(is_done=True, exit_reason=reason.value, exit_message=message)


class _Final(NamedTuple):
    claims: tuple[Decision, ...]
    message: str


async def _final_claim(services: Services, state: RunState) -> _Final:
    """Claim the incumbent against every baseline, in sittings made after it was selected."""
    incumbent = services.incumbent(state)
    if incumbent is None:
        return _Final((), "")
    seconds = services.time_left(state, services.jobs.claim_s, "final")
    baselines = services.target.baselines
    if seconds is not None and seconds < services.final_s(state):
        baselines = baselines[:1]
    job = Bench(
        job_id=services.job_id("final"),
        problem=services.target.problem,
        timeout_s=services.jobs.claim_s,
        candidate=incumbent.candidate,
        against=baselines,
        workloads=services.target.public,
        hidden=services.target.hidden,
        plan=services.timing(services.bench.claim, state, seconds, len(baselines)),
    )
    outcome = await services.run(job, state, state["incumbent"], "final")
    if isinstance(outcome, Benched):
        claims = decisions_on(outcome, 1)
        words = ", ".join(
            f"{c.overall.verdict.value} than {c.against}: {c.overall.speedup:.2f}x "
            f"[{c.overall.low:.2f}, {c.overall.high:.2f}]"
            for c in claims
        )
        evidence = (outcome.record.record_id,)
        services.decide("final", state["incumbent"], words, at="claim", evidence=evidence)
        unclaimed = [b.name for b in services.target.baselines if b not in baselines]
        left_out = f"no time was left to measure against {', '.join(unclaimed)}"
        return _Final(claims, left_out if unclaimed else "")
    message = f"no final claim: {getattr(outcome, 'message', outcome.kind)}"
    services.decide("final", "none", message, at="claim")
    return _Final((), message)


def _result(
    services: Services,
    state: RunState,
    reason: ExitReason,
    message: str,
    best: tuple[Decision, ...],
) -> RunResult:
    spent = services.spent(state)
    return RunResult(
        run_id=services.manifest.run_id,
        exit_reason=reason,
        message=message,
        rounds=spent.rounds,
        attempts=len(services.files.attempts()),
        wall_s=round(spent.wall_s, 3),
        job_s=round(spent.job_s, 3),
        best_attempt=state["incumbent"] or None,
        best=best,
    )
