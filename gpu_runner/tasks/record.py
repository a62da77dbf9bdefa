"""What benches on a processor and on a device share: sides, sittings, and the record of them."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from gpu_runner.candidate import Contender
from gpu_runner.decision import needs_more
from gpu_runner.jobs import Bench
from gpu_runner.languages import Artefact
from gpu_runner.message import digest_of
from gpu_runner.records import BenchRecord, Environment, Sitting
from gpu_runner.tasks.sides import blame, build_for

_TIME_SHARE: Final = 0.8
"""Of a job's time-out that optional sittings may fill."""


def contenders_of(job: Bench) -> tuple[Contender, ...]:
    """Return every side, the candidate first and under that name."""
    return (Contender(name="candidate", candidate=job.candidate), *job.against)


def build_side(
    job: Bench, contender: Contender, workspace: Path, *, is_candidate: bool
) -> Artefact:
    """Return a side's artefact, built or from the cache.

    Raises:
        SubjectFailed: the builder refused the candidate.
        ContenderFailed: it refused another side.
        ToolchainMissing: nothing here can build this language.
    """
    with blame(contender.name, is_candidate=is_candidate):
        return build_for(
            job.problem,
            contender.candidate,
            workspace=workspace,
            timeout_s=job.timeout_s,
            is_trusted=contender.is_trusted,
        )


def take_sittings(
    job: Bench, sit: Callable[[int], Sitting], environment: Environment, began_s: float
) -> BenchRecord:
    """Sit until the plan is met, and no longer than the job's time-out allows.

    Args:
        job: names the sides and the plan.
        sit: takes the sitting of an index, from 0.
        environment: the machine that is measured on.
        began_s: `time.monotonic()` at the job's start.
    """
    sittings: list[Sitting] = []
    while len(sittings) < job.plan.sittings or (
        len(sittings) < job.plan.most_sittings
        and _has_time(job, time.monotonic() - began_s, len(sittings))
        and any(needs_more(_record(job, sittings, environment), c.name) for c in job.against)
    ):
        sittings.append(sit(len(sittings)))
    return _record(job, sittings, environment)


def median_us(record: BenchRecord, workload: str) -> float | None:
    """Return the candidate's median time of one call over all sittings; None without any."""
    times = [
        us
        for sitting in record.sittings
        for series in sitting.series
        if series.workload == workload
        for us in series.candidate_us
    ]
    return median(times) if times else None


def _has_time(job: Bench, elapsed_s: float, sittings: int) -> bool:
    """Say whether one more sitting, as long as those before, ends well before the job's time-out.

    Looks at the clock only: stopping must not depend on what was measured.
    """
    return elapsed_s * (sittings + 1) / sittings < _TIME_SHARE * job.timeout_s


def _record(job: Bench, sittings: list[Sitting], environment: Environment) -> BenchRecord:
    return BenchRecord(
        problem_digest=digest_of(job.problem),
        candidate_digest=job.candidate.digest,
        against={c.name: c.candidate.digest for c in job.against},
        workloads=job.workloads,
        plan=job.plan,
        environment=environment,
        sittings=tuple(sittings),
    )
