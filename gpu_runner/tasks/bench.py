"""The bench job: sittings until the plan is met, then the floor no right answer can be below."""

import time
from pathlib import Path
from statistics import median

from gpu_runner.candidate import Contender
from gpu_runner.decision import needs_more
from gpu_runner.errors import SubjectFailed
from gpu_runner.host.machine import environment
from gpu_runner.jobs import Bench, Benched, Reason
from gpu_runner.message import digest_of
from gpu_runner.profiling.roofline import ceilings
from gpu_runner.records import BenchRecord, Sitting
from gpu_runner.tasks.sides import blame, build_for
from gpu_runner.tasks.sitting import Entrant, SittingRoom
from gpu_runner.tasks.verify import Verifier

_FLOOR_SHARE = 0.5
"""A processor's caches beat the ceiling measured at the working-set size at times; not by twice."""

_TIME_SHARE = 0.8
"""Of a job's time-out that optional sittings may fill."""


def bench(job: Bench, *, workspace: Path) -> Benched:
    """Time the candidate against every contender.

    Raises:
        SubjectFailed: the candidate failed, in any sitting.
        ContenderFailed: another side failed, or cannot be built.
        ToolchainMissing: nothing here can build one of the languages.
    """
    started = time.monotonic()
    entrants = _entrants(job, workspace)
    room = SittingRoom(job, entrants, Verifier(job.problem))
    sittings: list[Sitting] = []
    while len(sittings) < job.plan.sittings or (
        len(sittings) < job.plan.most_sittings
        and _has_time(job, time.monotonic() - started, len(sittings))
        and any(needs_more(_record(job, sittings), side.name) for side in job.against)
    ):
        sittings.append(room.sit(len(sittings)))
    record = _record(job, sittings)
    _refuse_impossible(record, job, workspace)
    return Benched(job_id=job.job_id, record=record, seconds=time.monotonic() - started)


def _has_time(job: Bench, elapsed_s: float, sittings: int) -> bool:
    """Say whether one more sitting, as long as those before, ends well before the job's time-out.

    Looks at the clock only: stopping must not depend on what was measured.
    """
    return elapsed_s * (sittings + 1) / sittings < _TIME_SHARE * job.timeout_s


def _entrants(job: Bench, workspace: Path) -> tuple[Entrant, ...]:
    candidate = Entrant(
        name="candidate",
        artefact=build_for(
            job.problem, job.candidate, workspace=workspace, timeout_s=job.timeout_s
        ),
    )
    return (candidate, *(_contender(job, contender, workspace) for contender in job.against))


def _contender(job: Bench, contender: Contender, workspace: Path) -> Entrant:
    with blame(contender.name, is_candidate=False):
        artefact = build_for(
            job.problem,
            contender.candidate,
            workspace=workspace,
            timeout_s=job.timeout_s,
            is_trusted=contender.is_trusted,
        )
    return Entrant(name=contender.name, artefact=artefact, is_trusted=contender.is_trusted)


def _record(job: Bench, sittings: list[Sitting]) -> BenchRecord:
    return BenchRecord(
        problem_digest=digest_of(job.problem),
        candidate_digest=job.candidate.digest,
        against={c.name: c.candidate.digest for c in job.against},
        workloads=job.workloads,
        plan=job.plan,
        environment=environment(),
        sittings=tuple(sittings),
    )


def _refuse_impossible(record: BenchRecord, job: Bench, workspace: Path) -> None:
    """Refuse times that not even copying the bytes could reach (MEASUREMENT B11)."""
    for workload in job.workloads:
        required = job.problem.required_bytes(workload)
        bandwidth = ceilings(
            required, threads=job.plan.threads, workspace=workspace
        ).bandwidth_bytes_per_s
        floor_us = required / bandwidth * 1e6
        times = [
            us
            for sitting in record.sittings
            for series in sitting.series
            if series.workload == workload.name
            for us in series.candidate_us
        ]
        if times and median(times) < _FLOOR_SHARE * floor_us:
            msg = (
                f"{workload.name}: {median(times):.1f} us is less than half the {floor_us:.1f} us"
                f" this machine needs to move {required} bytes once; the work was not done"
            )
            raise SubjectFailed(Reason.FASTER_THAN_POSSIBLE, msg)
