"""The admit job for a target on a device: the same gate, with the baseline run on the device.

Contents, answers and the arithmetic of the gate are the host's; only the trusted implementation
runs on the device, its inputs and outputs carried over as files in memory.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gpu_runner.device.machine import device_environment
from gpu_runner.device.placement import place
from gpu_runner.device.session import NO_DEVICE, DeviceSide, DeviceTrouble, Session
from gpu_runner.jobs import Admit, Admitted
from gpu_runner.oracle.admission import admit, elements_of, is_affordable
from gpu_runner.oracle.elements import numpy_dtype
from gpu_runner.problem import Workload
from gpu_runner.tasks.sides import blame, build_for

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder inside it is made private
_PATTERN = 0


def device_admit(job: Admit, *, workspace: Path) -> Admitted:
    """Say whether the target can tell right from wrong.

    Raises:
        Unfitting: it cannot; the message says why and what to change.
        ContenderFailed: the first baseline cannot be built or run.
        ReferenceFailed: the reference raised or answered nonsense.
        DeviceTrouble: there is no device, or it fails.
    """
    machine = device_environment()
    if machine is None:
        raise DeviceTrouble(NO_DEVICE)
    baseline = job.baselines[0]
    workloads = _affordable(job)
    placements = tuple(place(job.problem, w, slots=1) for w in workloads)
    with blame(baseline.name, is_candidate=False):
        artefact = build_for(
            job.problem,
            baseline.candidate,
            workspace=workspace,
            timeout_s=job.timeout_s,
            is_trusted=baseline.is_trusted,
        )
    parent = _MEMORY if _MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="kernelpilot-", dir=parent) as folder,
        Session(job.problem, placements, workspace) as session,
        DeviceSide(session, artefact, baseline.candidate, call_timeout_s=job.timeout_s) as side,
    ):
        with blame(baseline.name, is_candidate=False):
            side.wait_ready()
        places = {workload.name: number for number, workload in enumerate(workloads)}
        trusted = _Trusted(job.baselines[0].name, session, side, places, Path(folder))
        admission = admit(job.problem, workloads, {baseline.name: trusted})
    return Admitted(
        job_id=job.job_id,
        margins=dict(admission.margins),
        caught=tuple(admission.caught),
        environment=machine,
    )


def _affordable(job: Admit) -> tuple[Workload, ...]:
    """Return the workloads the gate looks at; it takes the smallest where all are too large."""
    found = tuple(w for w in job.workloads if is_affordable(job.problem, w))
    return found or (min(job.workloads, key=lambda w: elements_of(job.problem, w)),)


class _Trusted:
    """The baseline as a function from raw inputs to raw outputs."""

    def __init__(
        self, name: str, session: Session, side: DeviceSide, places: dict[str, int], folder: Path
    ) -> None:
        self._name = name
        self._session = session
        self._side = side
        self._places = places
        self._folder = folder

    def __call__(
        self, workload: Workload, inputs: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        """Run it on the device."""
        number = self._places[workload.name]
        for name, values in inputs.items():
            values.tofile(self._folder / name)
        self._session.put(number, self._folder)
        self._session.poison(number, _PATTERN)
        with blame(self._name, is_candidate=False):
            self._side.run(number, 0)
        self._session.get(number, self._folder)
        return {
            tensor.name: np.fromfile(
                self._folder / tensor.name, dtype=numpy_dtype(tensor.dtype)
            ).reshape(self._session.problem.shape(tensor, workload))
            for tensor in self._session.problem.outputs
        }
