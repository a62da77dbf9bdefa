"""The check job on a device: right on every shape and profile, inside its own memory.

The sibling of `check` for cubins. Cases run in a secret order in one launcher; small shapes run
again flush against unmapped addresses, where reading beyond a tensor ends the process.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.device.placement import Placement, place
from gpu_runner.device.session import DeviceSide, Session
from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import Check, Checked, Reason
from gpu_runner.oracle.compare import rms_ratio
from gpu_runner.problem import Problem, ProfileName, Workload
from gpu_runner.tasks.sides import build_for

_FENCED_BYTES = 1 << 20
"""Shapes up to this many bytes also run flush against unmapped addresses."""
_LARGE_BYTES = 64 << 20
"""Shapes from here on are tried with a few profiles only, drawn by lot."""
_FRESH_CALLS = 2
_SAMPLED_PROFILES = 3
_RMS_ELEMENTS = 4096
_CALL_TIMEOUT_S = 10.0
_SLOTS = 2


@dataclass(frozen=True, kw_only=True)
class _Step:
    place: int
    profile: ProfileName
    kind: str
    """`fresh`, `near` (after a fresh call of the same place), `repeat` (bitwise, after one)."""


def device_check(job: Check, *, workspace: Path) -> Checked:
    """Run every case.

    Raises:
        SubjectFailed: the first case that fails, as the reason for a rejection.
        ReferenceFailed: the target's reference is at fault.
        DeviceTrouble: the device or our own processes failed.
        ToolchainMissing: nothing here can build this language.
    """
    started = time.monotonic()
    artefact = build_for(job.problem, job.candidate, workspace=workspace, timeout_s=job.timeout_s)
    placements = _placements(job.problem, job.workloads)
    with Session(job.problem, placements, workspace) as session:
        timeout_s = min(_CALL_TIMEOUT_S, job.timeout_s / 4)
        with DeviceSide(session, artefact, job.candidate, call_timeout_s=timeout_s) as side:
            side.wait_ready()
            checking = _Checking(session, side)
            for step in _steps(job.problem, placements):
                checking.take(step)
    return Checked(
        job_id=job.job_id,
        cases=checking.cases,
        worst_error=checking.worst_error,
        rms_ratio=checking.rms_ratio,
        seconds=time.monotonic() - started,
    )


def _placements(problem: Problem, workloads: tuple[Workload, ...]) -> tuple[Placement, ...]:
    small = [w for w in workloads if problem.required_bytes(w) <= _FENCED_BYTES]
    return (
        *(place(problem, w, slots=_SLOTS) for w in workloads),
        *(place(problem, w, slots=1, mode="fenced_end") for w in small),
        *(place(problem, w, slots=1, mode="fenced_start") for w in small),
    )


def _steps(problem: Problem, placements: tuple[Placement, ...]) -> Iterator[_Step]:
    """Yield the cases in a secret order; a near duplicate or repeat follows its original."""
    lot = random.SystemRandom()
    groups: list[tuple[_Step, ...]] = []
    for index, placement in enumerate(placements):
        workload = placement.workload
        own = workload.profile
        fresh = _Step(place=index, profile=own, kind="fresh")
        if placement.mode != "timed":
            groups.append((fresh,))
            continue
        near = _Step(place=index, profile=own, kind="near")
        repeat = _Step(place=index, profile=own, kind="repeat")
        others = [p for p in problem.profiles if p != own]
        is_few = workload.visibility == "hidden" or problem.required_bytes(workload) >= _LARGE_BYTES
        if is_few:
            others = lot.sample(others, min(_SAMPLED_PROFILES, len(others)))
        groups += [(fresh, near, repeat)] + [(fresh, near)] * (_FRESH_CALLS - 1)
        groups += [(_Step(place=index, profile=p, kind="fresh"),) for p in others]
    lot.shuffle(groups)
    yield from (step for group in groups for step in group)


class _Checking:
    """One pass over the cases."""

    def __init__(self, session: Session, side: DeviceSide) -> None:
        self._session = session
        self._side = side
        self._turn = 0
        self.cases = 0
        self.worst_error = 0.0
        self.rms_ratio = 0.0

    def take(self, step: _Step) -> None:
        """Do one case.

        Raises:
            SubjectFailed: it failed.
        """
        if step.kind == "repeat":
            self._repeat(step)
            return
        is_near = step.kind == "near"
        self._session.stage(step.place, profile=step.profile, is_near=is_near)
        self._run(step.place)
        name, is_hidden = self._case(step)
        reason = Reason.STALE_RESULT if is_near else Reason.WRONG_RESULT
        found = self._session.judge(step.place, case=name, is_hidden=is_hidden, reason=reason)
        self.cases += found.outputs
        self.worst_error = max(self.worst_error, found.worst_error)
        workload = self._session.placements[step.place].workload
        if step.kind == "fresh" and step.profile == workload.profile:
            self._refuse_imprecise(step.place, name, found.rms)

    def _repeat(self, step: _Step) -> None:
        self._session.keep(step.place)
        self._run(step.place)
        differing = self._session.differing(step.place)
        if differing:
            where, _ = self._case(step)
            msg = f"{where}: output {differing!r} differs between two calls on the same input"
            raise SubjectFailed(Reason.NOT_DETERMINISTIC, msg)

    def _run(self, index: int) -> None:
        self._turn += 1
        self._session.poison(index, self._turn % 2)
        for slot in range(self._session.placements[index].slots):
            self._side.run(index, slot)

    def _refuse_imprecise(self, index: int, name: str, rms: dict[str, float]) -> None:
        problem = self._session.problem
        workload = self._session.placements[index].workload
        for tensor in problem.outputs:
            count = 1
            for size in problem.shape(tensor, workload):
                count *= size
            if count < _RMS_ELEMENTS:
                return
        ratio = rms_ratio(problem, rms, self._session.trusted_rms(index))
        self.rms_ratio = max(self.rms_ratio, ratio)
        if ratio > problem.tolerance.rms_factor:
            msg = (
                f"{name}: the root-mean-square error is {ratio:.1f} times that of a plain"
                f" implementation in the same precision; at most"
                f" {problem.tolerance.rms_factor:g} is allowed"
            )
            raise SubjectFailed(Reason.IMPRECISE, msg)

    def _case(self, step: _Step) -> tuple[str, bool]:
        """Return how the case is named to the writer, and whether that is only a category."""
        workload = self._session.placements[step.place].workload
        if workload.visibility == "hidden":
            return "hidden shape", True
        if step.profile != workload.profile:
            return f"hidden contents ({step.profile})", True
        if step.kind == "near":
            return "near duplicate", True
        return f"{workload.name}/{step.profile}", False
