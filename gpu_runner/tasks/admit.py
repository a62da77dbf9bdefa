"""The admit job: the calibration gate, with the first baseline run as a trusted subject.

Further baselines compile for every shape; their outputs are verified in every sitting they take
part in, so admission does not wait for them.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from gpu_runner.candidate import Contender
from gpu_runner.host.machine import environment
from gpu_runner.jobs import Admit, Admitted
from gpu_runner.oracle.admission import admit
from gpu_runner.problem import Workload
from gpu_runner.tasks.sides import POISONS, Place, Side, blame, build_for

Trusted = Callable[[Workload, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def admit_job(job: Admit, *, workspace: Path) -> Admitted:
    """Say whether the target can tell right from wrong.

    Raises:
        Unfitting: it cannot; the message says why and what to change.
        ContenderFailed: a baseline cannot be built or run.
        ReferenceFailed: the reference raised or answered nonsense.
    """
    places = tuple(Place(workload=w) for w in job.workloads)
    with ExitStack() as stack:
        sides = {
            baseline.name: stack.enter_context(_open(job, baseline, places, workspace))
            for baseline in job.baselines[:1]
        }
        for name, side in sides.items():
            with blame(name, is_candidate=False):
                side.wait_ready()
        trusted = {name: _caller(name, side, job.workloads) for name, side in sides.items()}
        admission = admit(job.problem, job.workloads, trusted)
    return Admitted(
        job_id=job.job_id,
        margins=dict(admission.margins),
        caught=tuple(admission.caught),
        environment=environment(),
    )


def _open(job: Admit, baseline: Contender, places: tuple[Place, ...], workspace: Path) -> Side:
    with blame(baseline.name, is_candidate=False):
        artefact = build_for(
            job.problem,
            baseline.candidate,
            workspace=workspace,
            timeout_s=job.timeout_s,
            is_trusted=baseline.is_trusted,
        )
    return Side(
        artefact,
        job.problem,
        places,
        threads=job.threads,
        call_timeout_s=job.timeout_s,
        is_trusted=baseline.is_trusted,
        zygote=workspace,
    )


def _caller(name: str, side: Side, workloads: tuple[Workload, ...]) -> Trusted:
    place_of = {workload.name: index for index, workload in enumerate(workloads)}

    def call(workload: Workload, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        place = place_of[workload.name]
        side.take(place, 0, inputs)
        with blame(name, is_candidate=False):
            side.call(place, poison=POISONS[0])
        return {n: view.copy() for n, view in side.outputs(place, 0).items()}

    return call
