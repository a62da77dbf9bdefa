"""The final claims of the final kernel, the standalone repository, the report, the result."""

import asyncio
from typing import NamedTuple

from langgraph.runtime import Runtime

from gpu_runner.candidate import DEVICE_LANGUAGES, Contender
from gpu_runner.jobs import AnyOutcome, Bench, Benched, Build, Built
from gpu_runner.records import Decision
from graph import criteria, rules
from graph.budget import COMPILED_SHARE
from graph.economics import effort_to
from graph.inspecting import open_remarks
from graph.ledger import AttemptOutcome, ExitReason, RunResult
from graph.progress import interval_words
from graph.publish import publish
from graph.rows import decisions_on, interval
from graph.services import Services
from graph.state import RunState, Update


async def finish(state: RunState, runtime: Runtime[Services]) -> Update:
    """Measure what was selected with fresh sittings, then write down how the run ended."""
    services = runtime.context
    async with services.stage("finish", state):
        built = await _device_code(services, state)
        final = await _final_claims(services, state)
        reason, message = rules.final_reason(
            ExitReason(state["exit_reason"]),
            state["exit_message"],
            services.target.goal,
            goal_confirmed=bool(criteria.goal_evidence(services.target, final.claims)),
        )
        if final.message:
            message = f"{message}; {final.message}"
        remarks = open_remarks(services.files, state["incumbent"])
        if remarks:
            message = f"{message}; unresolved in the final kernel: {'; '.join(remarks)}"
        result = _result(services, state, reason, message, final.claims)
        result = await asyncio.to_thread(publish, services.files, services.manifest, result, built)
        services.files.save_result(result)
    return Update(is_done=True, exit_reason=reason.value, exit_message=message)


async def _device_code(services: Services, state: RunState) -> dict[str, Built]:
    """Return what the runner compiled of every promoted kernel for a GPU, by attempt.

    Before the final claims, which may use up the time: a repository without a claim is worth more
    than one without its kernels. The runner has compiled them before, so this takes a moment.
    """
    found: dict[str, Built] = {}
    for attempt in services.files.attempts() if state["incumbent"] else ():
        is_best = attempt.attempt_id == state["incumbent"]
        if attempt.outcome is not AttemptOutcome.PROMOTED and not is_best:
            continue
        candidate = services.files.candidate(attempt.candidate_digest)
        if candidate.language not in DEVICE_LANGUAGES:
            continue
        job = Build(
            job_id=services.job_id("ship", attempt.attempt_id),
            problem=services.target.problem,
            timeout_s=services.jobs.build_s,
            candidate=candidate,
            returns_files=True,
        )
        outcome = await services.run(job, state, attempt.attempt_id, "final")
        if isinstance(outcome, Built) and outcome.files:
            found[attempt.attempt_id] = outcome
            continue
        why = outcome.files_withheld if isinstance(outcome, Built) else ""
        why = why or getattr(outcome, "message", "the runner returned no file")
        told = f"{attempt.version} is shipped as sources, to be compiled where it is used: {why}"
        services.decide("ship", "sources only", told, at=attempt.attempt_id)
    return found


class _Final(NamedTuple):
    claims: tuple[Decision, ...]
    message: str


async def _final_claims(services: Services, state: RunState) -> _Final:
    """Claim the incumbent against every baseline, in sittings made after it was selected.

    One job for each baseline, the first one first: a baseline that compiles for minutes must not
    cost the claim that the run is about.
    """
    incumbent = services.incumbent(state)
    claims: list[Decision] = []
    missing: list[str] = []
    for index, baseline in enumerate(services.target.baselines if incumbent else ()):
        assert incumbent is not None, "the loop is empty without one"
        outcome = await _claim(services, state, incumbent, index)
        if isinstance(outcome, Benched):
            claims += decisions_on(outcome, 1)
        else:
            why = getattr(outcome, "message", outcome.kind)
            missing.append(f"no final claim against {baseline.name}: {why}")
            services.decide("final", "none", missing[-1], at=index)
    if claims:
        words = ", ".join(
            f"{claim.overall.verdict.value} than {claim.against}: {interval_words(interval(claim))}"
            for claim in claims
        )
        records = tuple(claim.record_id for claim in claims)
        services.decide("final", state["incumbent"], words, at="claims", evidence=records)
    return _Final(tuple(claims), "; ".join(missing))


async def _claim(
    services: Services, state: RunState, incumbent: Contender, index: int
) -> AnyOutcome:
    """Bench the incumbent against one baseline; hidden shapes are verified beside the first."""
    baseline = services.target.baselines[index]
    waiting = len(services.target.baselines) - index - 1
    share = 1 + COMPILED_SHARE * waiting if index == 0 else 1.0 + waiting
    seconds = services.time_left(state, services.jobs.claim_s, "final")
    job = Bench(
        job_id=services.job_id("final", index),
        problem=services.target.problem,
        timeout_s=services.jobs.claim_s,
        candidate=incumbent.candidate,
        against=(baseline,),
        workloads=services.target.public,
        hidden=services.target.hidden if index == 0 else (),
        plan=services.timing(services.bench.claim, state, seconds, 1, share),
    )
    return await services.run(job, state, state["incumbent"], "final")


def _result(
    services: Services,
    state: RunState,
    reason: ExitReason,
    message: str,
    best: tuple[Decision, ...],
) -> RunResult:
    spent = services.spent(state)
    rows = {attempt.attempt_id: attempt for attempt in services.files.attempts()}
    found = state["incumbent"]
    while found in rows and rows[found].mends:
        found = rows[found].mends or ""  # what was mended is what the search found
    return RunResult(
        run_id=services.manifest.run_id,
        exit_reason=reason,
        message=message,
        rounds=spent.rounds,
        attempts=len(services.files.attempts()),
        wall_s=round(spent.wall_s, 3),
        job_s=round(spent.job_s, 3),
        tokens=spent.tokens,
        usd=round(spent.usd, 6),
        to_best=effort_to(services.files.events.read(), found),
        best_attempt=state["incumbent"] or None,
        best=best,
        open_remarks=open_remarks(services.files, state["incumbent"]),
    )
