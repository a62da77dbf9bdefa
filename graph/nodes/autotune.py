"""The performance map of W over the promoted variants, and the regimes it decides."""

from langgraph.runtime import Runtime

from gpu_runner.decision import decide
from gpu_runner.jobs import Bench, Benched
from gpu_runner.records import Decision
from graph.autotune import tune
from graph.budget import MOST_VARIANTS
from graph.control import veto_on_row
from graph.ledger import Attempt, AttemptOutcome, MapPoint
from graph.services import Services
from graph.state import RunState, Update


async def autotune(state: RunState, runtime: Runtime[Services]) -> Update:
    """Measure the best promoted variants over W against the first baseline, then tune."""
    services = runtime.context
    async with services.stage("autotune", state):
        incumbent = services.steering.settled(state["incumbent"])
        allowed = _allowed(services, incumbent)
        baseline = services.target.baselines[0].name
        variants = choose(allowed, incumbent, baseline)
        points: list[MapPoint] = []
        for number, attempt in enumerate(variants):
            claimed = next((c for c in attempt.claims if c.against == baseline), None)
            decision = claimed if len(variants) == 1 else None
            decision = decision or await _map(services, state, attempt, len(variants) - number)
            decision = decision or claimed
            points += points_of(attempt.attempt_id, decision) if decision else []
        names = tuple(attempt.attempt_id for attempt in variants)
        tuning = tune(tuple(points), services.target.workloads, names)
        services.files.save_tuning(tuning)
        records = tuple(dict.fromkeys(point.record_id for point in points))
        choice = f"regimes: {len(tuning.regimes)}"
        services.decide("autotune", choice, tuning.reason, at="map", evidence=records)
        return Update(incumbent=incumbent) if incumbent != state["incumbent"] else Update()


def _allowed(services: Services, incumbent: str) -> list[Attempt]:
    """Return the promoted attempts that nobody vetoed, and the incumbent, which may be pinned.

    What was mended is served by what mends it.
    """
    vetoed = services.steering.vetoed
    promoted = [a for a in services.files.attempts() if a.outcome is AttemptOutcome.PROMOTED]
    mended = {attempt.mends for attempt in promoted}
    return [
        attempt
        for attempt in services.files.attempts()
        if attempt.attempt_id == incumbent
        or (
            attempt.outcome is AttemptOutcome.PROMOTED
            and attempt.attempt_id not in mended
            and not veto_on_row(vetoed, attempt)
        )
    ]


def choose(promoted: list[Attempt], incumbent: str, baseline: str) -> tuple[Attempt, ...]:
    """Return the variants worth a map: the incumbent, then winners of workloads."""
    wins = {attempt.attempt_id: _wins(attempt, promoted, baseline) for attempt in promoted}
    order = sorted(
        promoted,
        key=lambda a: (a.attempt_id != incumbent, -wins[a.attempt_id], a.attempt_id),
    )
    worthy = [a for a in order if a.attempt_id == incumbent or wins[a.attempt_id]]
    return tuple(worthy[:MOST_VARIANTS])


def _wins(attempt: Attempt, promoted: list[Attempt], baseline: str) -> int:
    mine = _speedups(attempt, baseline)
    others = [_speedups(other, baseline) for other in promoted if other is not attempt]
    return sum(
        all(speedup > other.get(name, 0.0) for other in others) for name, speedup in mine.items()
    )


def _speedups(attempt: Attempt, baseline: str) -> dict[str, float]:
    for claim in attempt.claims:
        if claim.against == baseline:
            return {name: comparison.speedup for name, comparison in claim.workloads.items()}
    return {}


def points_of(attempt_id: str, decision: Decision) -> list[MapPoint]:
    """Return one cell of the map for each workload of a decision."""
    return [
        MapPoint(
            workload=name,
            attempt_id=attempt_id,
            speedup=comparison.speedup,
            low=comparison.low,
            high=comparison.high,
            candidate_us=comparison.candidate_us,
            record_id=decision.record_id,
        )
        for name, comparison in decision.workloads.items()
    ]


async def _map(
    services: Services, state: RunState, attempt: Attempt, share: int
) -> Decision | None:
    """Bench one variant over W, one of `share` still to do; None where that could not be done."""
    baseline = services.target.baselines[0]
    seconds = services.time_left(state, services.jobs.claim_s, "map")
    job = Bench(
        job_id=services.job_id("map", attempt.attempt_id),
        problem=services.target.problem,
        timeout_s=services.jobs.claim_s,
        candidate=services.files.candidate(attempt.candidate_digest),
        against=(baseline,),
        workloads=services.target.public,
        plan=services.timing(services.bench.claim, state, seconds, 1, share),
    )
    outcome = await services.run(job, state, attempt.attempt_id, "map")
    if isinstance(outcome, Benched):
        return decide(outcome.record, baseline.name, basis="claim")
    services.decide(
        "autotune",
        "claim used",
        f"no map of {attempt.attempt_id}: {getattr(outcome, 'message', outcome.kind)}",
        at=attempt.attempt_id,
    )
    return None
