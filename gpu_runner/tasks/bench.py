"""The bench job: sittings until the plan is met, then the floor no right answer can be below."""

import time
from pathlib import Path

from gpu_runner.errors import SubjectFailed
from gpu_runner.host.machine import environment
from gpu_runner.jobs import Bench, Benched, Reason
from gpu_runner.profiling.roofline import ceilings
from gpu_runner.records import BenchRecord
from gpu_runner.tasks.record import build_side, contenders_of, median_us, take_sittings
from gpu_runner.tasks.sitting import Entrant, SittingRoom
from gpu_runner.tasks.verify import Verifier

_FLOOR_SHARE = 0.5
"""A processor's caches beat the ceiling measured at the working-set size at times; not by twice."""


def bench(job: Bench, *, workspace: Path) -> Benched:
    """Time the candidate against every contender.

    Raises:
        SubjectFailed: the candidate failed, in any sitting.
        ContenderFailed: another side failed, or cannot be built.
        ToolchainMissing: nothing here can build one of the languages.
    """
    started = time.monotonic()
    entrants = tuple(
        Entrant(
            name=contender.name,
            artefact=build_side(job, contender, workspace, is_candidate=number == 0),
            is_trusted=contender.is_trusted,
        )
        for number, contender in enumerate(contenders_of(job))
    )
    room = SittingRoom(job, entrants, Verifier(job.problem))
    record = take_sittings(job, room.sit, environment(), started)
    _refuse_impossible(record, job, workspace)
    return Benched(job_id=job.job_id, record=record, seconds=time.monotonic() - started)


def _refuse_impossible(record: BenchRecord, job: Bench, workspace: Path) -> None:
    """Refuse times that not even copying the bytes could reach (MEASUREMENT B11)."""
    for workload in job.workloads:
        required = job.problem.required_bytes(workload)
        bandwidth = ceilings(
            required, threads=job.plan.threads, workspace=workspace
        ).bandwidth_bytes_per_s
        floor_us = required / bandwidth * 1e6
        taken_us = median_us(record, workload.name)
        if taken_us is not None and taken_us < _FLOOR_SHARE * floor_us:
            msg = (
                f"{workload.name}: {taken_us:.1f} us is less than half the {floor_us:.1f} us"
                f" this machine needs to move {required} bytes once; the work was not done"
            )
            raise SubjectFailed(Reason.FASTER_THAN_POSSIBLE, msg)
