"""The check job: is a candidate right, on every shape and profile, within its own memory?

Cases run in a secret order in one subject, so that no stage can be told from another. For Python
candidates the library's own operators are unplugged, here and whenever they are timed: a candidate
that would call them has nothing to call.
"""

import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpu_runner.errors import SubjectFailed
from gpu_runner.host.arena import ArenaMode
from gpu_runner.jobs import Check, Checked, Reason
from gpu_runner.languages import Artefact
from gpu_runner.oracle.compare import judge, rms_ratio
from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.reference import Expected
from gpu_runner.problem import Problem, ProfileName, Workload
from gpu_runner.tasks.sides import POISONS, Place, Side, build_for, unplugged_ops
from gpu_runner.tasks.verify import Case, Verifier

_FENCED_ELEMENTS = 1 << 20
"""Shapes up to this many bytes also run flush against unmapped pages."""
_FRESH_CALLS = 4
"""Calls a public workload on fresh contents of its own profile, near duplicates in between."""
_HIDDEN_PROFILES = 3
"""Profiles beside its own that a hidden shape is tried with, drawn by lot for each check."""
_RMS_ELEMENTS = 4096
"""Fewer elements say little about a root-mean-square error."""


_CALL_TIMEOUT_S = 20.0
_MAYBE_LIBRARY = frozenset(
    {
        Reason.WRONG_RESULT,
        Reason.STALE_RESULT,
        Reason.IMPRECISE,
        Reason.ENTRY_FAILED,
        Reason.OUTPUT_NOT_WRITTEN,
    }
)
"""What a candidate may look like that calls an operator which is unplugged."""


@dataclass(frozen=True, kw_only=True)
class _Step:
    place: int
    profile: ProfileName
    kind: str
    """`fresh`, `near` (after a fresh call of the same place), `repeat` (bitwise, after one)."""


def check(job: Check, *, workspace: Path) -> Checked:
    """Run every case.

    Raises:
        SubjectFailed: the first case that fails, as the reason for a rejection.
        ReferenceFailed: the target's reference is at fault.
        ToolchainMissing: nothing here can build this language.
    """
    started = time.monotonic()
    artefact = build_for(job.problem, job.candidate, workspace=workspace, timeout_s=job.timeout_s)
    places = _places(job.problem, job.workloads)
    verifier = Verifier(job.problem)
    session = _Session(job.problem, places, verifier)
    unplugged = unplugged_ops(job.problem, artefact.language)
    try:
        with _open(job, artefact, places, unplugged, workspace) as side:
            session.run(side, _steps(job.problem, places))
    except SubjectFailed as error:
        if unplugged and error.reason in _MAYBE_LIBRARY:
            _refuse_library_call(
                job, artefact, verifier, workspace, is_plain=session.is_at_plain_case
            )
        raise
    return Checked(
        job_id=job.job_id,
        cases=verifier.outputs,
        worst_error=verifier.worst_error,
        rms_ratio=session.rms_ratio,
        seconds=time.monotonic() - started,
    )


def _open(
    job: Check,
    artefact: Artefact,
    places: tuple[Place, ...],
    unplugged: tuple[str, ...],
    workspace: Path,
) -> Side:
    return Side(
        artefact,
        job.problem,
        places,
        threads=job.threads,
        call_timeout_s=min(_CALL_TIMEOUT_S, job.timeout_s / 4),
        unplugged_ops=unplugged,
        zygote=workspace,
    )


def _places(problem: Problem, workloads: tuple[Workload, ...]) -> tuple[Place, ...]:
    fenced = [w for w in workloads if problem.required_bytes(w) <= _FENCED_ELEMENTS]
    return (
        *(Place(workload=w, slots=2) for w in workloads),
        *(Place(workload=w, mode=ArenaMode.FENCED_END) for w in fenced),
        *(Place(workload=w, mode=ArenaMode.FENCED_START) for w in fenced),
    )


def _steps(problem: Problem, places: tuple[Place, ...]) -> tuple[_Step, ...]:
    """Return the cases in a secret order; a near duplicate or repeat follows its original."""
    lot = random.SystemRandom()
    groups: list[tuple[_Step, ...]] = []
    for index, place in enumerate(places):
        own = place.workload.profile
        fresh = _Step(place=index, profile=own, kind="fresh")
        if place.mode is not ArenaMode.TIMED:
            groups.append((fresh,))
            continue
        near = _Step(place=index, profile=own, kind="near")
        repeat = _Step(place=index, profile=own, kind="repeat")
        is_public = place.workload.visibility == "public"
        calls = _FRESH_CALLS if is_public else 1
        others = [p for p in problem.profiles if p != own]
        if not is_public:
            others = lot.sample(others, min(_HIDDEN_PROFILES, len(others)))
        groups += [(fresh, near, repeat)] + [(fresh, near)] * (calls - 1)
        groups += [(_Step(place=index, profile=p, kind="fresh"),) for p in others]
    lot.shuffle(groups)
    return tuple(step for group in groups for step in group)


class _Session:
    """The state of one pass over the cases: keys, alternating slots and poisons."""

    def __init__(self, problem: Problem, places: tuple[Place, ...], verifier: Verifier) -> None:
        self._problem = problem
        self._places = places
        self._verifier = verifier
        key = secrets.token_bytes(16)
        self._contents = {
            place.workload.name: Contents(problem, place.workload, key) for place in places
        }
        self._poisons: Iterator[int] = _alternate()
        self._calls = 0
        self._slots = [0] * len(places)
        self.is_at_plain_case = False
        """Whether the case at hand, or the last one, is a public shape with its own contents."""
        self.rms_ratio = 0.0

    def run(self, side: Side, steps: tuple[_Step, ...]) -> None:
        side.wait_ready()
        for step in steps:
            workload = self._places[step.place].workload
            is_own = step.kind == "fresh" and step.profile == workload.profile
            self.is_at_plain_case = is_own and workload.visibility == "public"
            match step.kind:
                case "fresh":
                    self._fresh(side, step)
                case "near":
                    self._near(side, step)
                case _:
                    self._repeat(side, step)
        side.refuse_movement()

    def _fresh(self, side: Side, step: _Step) -> None:
        slot = self._next_slot(step.place)
        inputs = side.inputs(step.place, slot)
        self._calls += 1
        self._source(step).fill(inputs, call=self._calls, profile=step.profile)
        self._call_and_judge(side, step, slot, Reason.WRONG_RESULT)

    def _near(self, side: Side, step: _Step) -> None:
        before = side.inputs(step.place, self._slots[step.place])
        slot = self._next_slot(step.place)
        self._calls += 1
        self._source(step).perturb(before, side.inputs(step.place, slot), call=self._calls)
        self._call_and_judge(side, step, slot, Reason.STALE_RESULT)

    def _repeat(self, side: Side, step: _Step) -> None:
        slot = self._slots[step.place]
        first = {n: v.tobytes() for n, v in side.outputs(step.place, slot).items()}
        side.call(step.place, slot, poison=next(self._poisons))
        for name, view in side.outputs(step.place, slot).items():
            if view.tobytes() != first[name]:
                where = self._case(step).name
                msg = f"{where}: output {name!r} differs between two calls on the same input"
                raise SubjectFailed(Reason.NOT_DETERMINISTIC, msg)

    def _call_and_judge(self, side: Side, step: _Step, slot: int, reason: Reason) -> None:
        workload = self._places[step.place].workload
        inputs = side.inputs(step.place, slot)
        expected = self._verifier.expect(workload, inputs)
        side.call(step.place, slot, poison=next(self._poisons))
        outputs = side.outputs(step.place, slot)
        case = self._case(step, reason)
        rms = self._verifier.refuse_wrong(expected, outputs, case)
        if step.kind == "fresh" and step.profile == workload.profile:
            trusted = self._trusted_rms(workload, inputs, expected)
            self._refuse_imprecise(rms, trusted, case)

    def _trusted_rms(
        self, workload: Workload, inputs: dict[str, np.ndarray], expected: Expected
    ) -> dict[str, float]:
        """Return each output's rms error of the reference in its own precision; {}: says little."""
        few = any(
            np.prod(self._problem.shape(tensor, workload)) < _RMS_ELEMENTS
            for tensor in self._problem.outputs
        )
        if few or self._problem.array_type != "numpy":
            return {}
        plain = self._verifier.oracle.same_precision(workload, inputs)
        judgement = judge(self._problem, expected, plain, case="plain", is_hidden=False)
        return dict(judgement.rms)

    def _refuse_imprecise(
        self, rms: dict[str, float], trusted: dict[str, float], case: Case
    ) -> None:
        if not trusted:
            return
        ratio = rms_ratio(self._problem, rms, trusted)
        self.rms_ratio = max(self.rms_ratio, ratio)
        if ratio > self._problem.tolerance.rms_factor:
            msg = (
                f"{case.name}: the root-mean-square error is {ratio:.1f} times that of a plain"
                f" implementation in the same precision; at most"
                f" {self._problem.tolerance.rms_factor:g} is allowed"
            )
            raise SubjectFailed(Reason.IMPRECISE, msg)

    def _case(self, step: _Step, reason: Reason = Reason.WRONG_RESULT) -> Case:
        place = self._places[step.place]
        if place.workload.visibility == "hidden":
            return Case(name="hidden shape", is_hidden=True, reason=reason)
        if step.profile != place.workload.profile:
            return Case(name=f"hidden contents ({step.profile})", is_hidden=True, reason=reason)
        if step.kind == "near":
            return Case(name="near duplicate", is_hidden=True, reason=reason)
        return Case(name=f"{place.workload.name}/{step.profile}", reason=reason)

    def _source(self, step: _Step) -> Contents:
        return self._contents[self._places[step.place].workload.name]

    def _next_slot(self, place: int) -> int:
        self._slots[place] = (self._slots[place] + 1) % self._places[place].slots
        return self._slots[place]


def _alternate() -> Iterator[int]:
    while True:
        yield from POISONS


def _refuse_library_call(
    job: Check, artefact: Artefact, verifier: Verifier, workspace: Path, *, is_plain: bool
) -> None:
    """Raise LIBRARY_CALL if plain cases are right with the library's operators and wrong without.

    Each way round takes a process. Whoever failed a plain case is probably wrong with them too, and
    whoever failed another one right without them: that way is tried first, and often the only one.
    """
    unplugged = job.problem.library_ops
    for plugs in ((), unplugged) if is_plain else (unplugged, ()):
        is_right = _is_right(job, artefact, verifier, plugs, workspace)
        if is_right == bool(plugs):  # right without them, or wrong with them
            return
    ops = ", ".join(unplugged)
    msg = f"gives no right answer without the library's own operators ({ops}); write the kernel"
    raise SubjectFailed(Reason.LIBRARY_CALL, msg)


def _is_right(
    job: Check,
    artefact: Artefact,
    verifier: Verifier,
    unplugged: tuple[str, ...],
    workspace: Path,
) -> bool:
    public = [w for w in job.workloads if w.visibility == "public"]
    places = tuple(Place(workload=w) for w in public)
    key = secrets.token_bytes(16)
    try:
        with _open(job, artefact, places, unplugged, workspace) as side:
            side.wait_ready()
            for index, workload in enumerate(public):
                inputs = side.inputs(index, 0)
                Contents(job.problem, workload, key).fill(inputs, call=1)
                expected = verifier.expect(workload, inputs)
                side.call(index, poison=POISONS[0])
                verifier.refuse_wrong(expected, side.outputs(index, 0), Case(name=workload.name))
    except SubjectFailed:
        return False
    return True
