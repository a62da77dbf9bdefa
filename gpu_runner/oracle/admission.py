"""May this target be run at all? The calibration gate and the search for degenerate tasks. Pure.

A target is admitted when its comparison can tell right from wrong: trusted implementations pass
with room to spare, planted wrong ones are refused, every input matters, and neither zeros nor any
constant would do. Otherwise a fast wrong kernel, or one that computes nothing, would win.

Source: MEASUREMENT C3 (calibration) and C4 (dependence); EXPLOITS A5, 60 to 62.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np

from gpu_runner.errors import ReferenceFailed, RunnerError
from gpu_runner.jobs import Mismatch
from gpu_runner.oracle.compare import Judgement, judge
from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import Raw, numpy_dtype
from gpu_runner.oracle.plants import Case, plants
from gpu_runner.oracle.reference import Expected, Oracle
from gpu_runner.problem import Problem, ProfileName, Tensor, Workload

Trusted = Callable[[Workload, Mapping[str, Raw]], Mapping[str, Raw]]

OWN_PRECISION: Final = "reference in own precision"
"""The trusted implementation that is always there."""
_LEAST_MARGIN: Final = 3.9
"""Four, less the second rounding of an answer that is computed in float32 and stored in 16 bits."""
_HEADROOM: Final = 4.4
"""What a bound over the largest error seen should be: four, and a tenth for contents not seen."""
_MOST_MARGIN: Final = 1e6
"""An exact answer has no margin; this stands for it."""
_LEAST_CHANGE: Final = 100.0
_COARSE_CHANGE: Final = 0.125
"""An input must move a float output by 100 bounds, or by an eighth of itself in units of the
roundoff where that is less: no change is 100 bounds of a bfloat16."""
_NEAR_SHARE: Final = 0.1
"""A near-duplicate must move it by this share of the above."""
_NEAR_TRIES: Final = 6
_ROUNDING_UNITS: Final = 1e3
_ROUNDING_SHARE: Final = 0.05
"""Up to so many roundoffs, and this share of the answers, a difference may be rounding; it is
taken over all elements, since single ones may nearly cancel."""
_MOST_ELEMENTS: Final = 1 << 22
_MOST_OPERATIONS: Final = 4e9
_KEY: Final = b"admission is repeatable"
_KEPT_ELEMENTS: Final = 1 << 23
_NO_LIMIT: Final = 1 << 62
_SAME_ROWS: Final = 1e-3


class Unfitting(RunnerError):
    """The target cannot tell right from wrong; the message says why and what to change."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What the gate found."""

    margins: dict[str, float]
    """Trusted implementation to bound over error, the least over all cases, at most 1e6."""
    caught: tuple[str, ...]
    """Planted wrong implementations that the comparison refused."""


def is_affordable(problem: Problem, workload: Workload) -> bool:
    """Return whether the gate can verify this workload in about a second."""
    operations = problem.required_flops(workload)
    return elements_of(problem, workload) <= _MOST_ELEMENTS and operations <= _MOST_OPERATIONS


def elements_of(problem: Problem, workload: Workload) -> int:
    """Return the elements of all inputs and outputs of one call."""
    tensors = (*problem.inputs, *problem.outputs)
    return sum(int(np.prod(problem.shape(tensor, workload))) for tensor in tensors)


def admit(
    problem: Problem,
    workloads: tuple[Workload, ...],
    trusted: Mapping[str, Trusted],
) -> Admission:
    """Pass a target through the gate.

    Args:
        problem: the task.
        workloads: public and hidden; those too large to verify in a second are left out.
        trusted: implementations known to be right, by name: they take a workload and raw inputs and
            return raw outputs. The reference in its tensors' own precision is always added.

    Raises:
        Unfitting: the target must not be run; names the reason and the remedy.
    """
    if not workloads:
        msg = f"problem {problem.name!r} has no workload; add one under workloads:"
        raise Unfitting(msg)
    gate = _Gate(problem, workloads)
    try:
        gate.expect_independent_rows()
        gate.expect_varied_answers()
        everyone = {OWN_PRECISION: gate.oracle.same_precision, **trusted}
        margins = {name: gate.margin(name, call) for name, call in everyone.items()}
        caught = gate.expect_refusals()
        gate.expect_dependence()
        gate.expect_telling_duplicates()
    except ReferenceFailed as error:
        raise Unfitting(str(error)) from error
    return Admission(margins=margins, caught=caught)


class _Gate:
    """The checks over one problem; each raises Unfitting."""

    def __init__(self, problem: Problem, workloads: tuple[Workload, ...]) -> None:
        self.oracle = Oracle(problem)
        self._problem = problem
        by_size = sorted(workloads, key=problem.required_bytes)
        self._workloads = [w for w in by_size if is_affordable(self._problem, w)] or by_size[:1]
        shown = [w for w in self._workloads if w.visibility == "public"]
        self._public = shown or self._workloads[-1:]
        self._known: dict[tuple[str, int], Case] = {}
        self._kept = 0

    def margin(self, name: str, call: Trusted) -> float:
        """Return bound over error of a trusted implementation, at worst over all cases."""
        worst, where = 0.0, ""
        for case in self._cases():
            judgement = self._judge(case, call(case.workload, case.inputs))
            if not self._is_rounding(judgement):
                self._blame_disagreement(name, judgement.mismatch)
            if judgement.worst_error > worst:
                worst, where = judgement.worst_error, case.name
        if worst * _LEAST_MARGIN > 1.0:
            factor = _HEADROOM * worst
            units = self._problem.tolerance.relative_units * factor
            self._refuse(
                f"the trusted implementation {name!r} errs by {worst:.2g} of the bound on {where}, "
                "so a right kernel that rounds differently may be called wrong",
                f"raise tolerance.relative_units to {units:.2g}, or widen bound(...) in the "
                f"reference {factor:.2g} times, so that a quarter is reached",
            )
        return min(1.0 / worst, _MOST_MARGIN) if worst > 0 else _MOST_MARGIN

    def expect_refusals(self) -> tuple[str, ...]:
        """Return the names of the planted wrong implementations, all refused."""
        caught = []
        for plant in plants(self._problem):
            closest = 0.0
            for case in self._cases():
                answer = plant.outputs(self._problem, self.oracle, case)
                judgement = self._judge(case, answer)
                closest = max(closest, judgement.worst_error)
                if judgement.mismatch is not None:
                    caught.append(plant.name)
                    break
            else:
                if plant.is_certain:
                    self._refuse(
                        f"the comparison accepts a wrong answer ({plant.name}): its error is at "
                        f"most {closest:.2g} of the bound",
                        "lower tolerance.relative_units or tolerance.absolute, or define "
                        "bound(...) in the reference from an error analysis",
                    )
        return ("zeros", "any constant", *caught)

    def expect_varied_answers(self) -> None:
        """Refuse outputs that zeros or some constant would match on a public workload."""
        for workload in self._public:
            profile = self._ordinary_profile(workload)
            cases = [self._case(workload, profile, call) for call in (0, 1)]
            for tensor in self._problem.outputs:
                self._expect_varied(tensor, workload, [case.expected for case in cases])

    def expect_dependence(self) -> None:
        """Refuse inputs that no output depends on."""
        for tensor in self._problem.inputs:
            most = 0.0
            for case in self._cases():
                other = self._case(case.workload, self._ordinary_profile(case.workload), 2)
                changed = {**case.inputs, tensor.name: other.inputs[tensor.name]}
                most = max(most, self._change(case, changed))
                if most >= 1.0:
                    break
            else:
                self._refuse(
                    f"the input {tensor.name!r} does not matter: other contents move the answer by "
                    f"{most:.2g} of what is wanted ({self._wanted()})",
                    "use it in the reference, draw it from a wider range under rules:, or remove "
                    "it from the problem",
                )

    def expect_telling_duplicates(self) -> None:
        """Refuse a task whose near-duplicates have the same answer: stale results would pass."""
        for workload in self._public:
            case = self._case(workload, self._ordinary_profile(workload), 0)
            contents = Contents(self._problem, workload, _KEY)
            for call in range(_NEAR_TRIES):
                near = {name: raw.copy() for name, raw in case.inputs.items()}
                contents.perturb(case.inputs, near, call=call)
                if self._change(case, near) >= _NEAR_SHARE:
                    break
            else:
                self._refuse(
                    f"one changed element or row hardly moves the answer of {workload.name!r}, so "
                    f"a stale result would pass (wanted: {_NEAR_SHARE:g} of {self._wanted()})",
                    "tighten the tolerance, or choose a workload that reduces fewer elements",
                )

    def expect_independent_rows(self) -> None:
        """Refuse a ROWWISE declaration that changes the answer."""
        axis = self.oracle.rowwise_axis
        several = [w for w in self._workloads if axis and self._problem.sizes(w)[axis] > 1]
        if axis is None or not several:
            return
        case = self._case(several[0], self._ordinary_profile(several[0]), 0)
        whole = Oracle(self._problem, chunk_elements=_NO_LIMIT)
        single = Oracle(self._problem, chunk_elements=1)
        answers = [o.expected(case.workload, case.inputs) for o in (whole, single)]
        for tensor in self._problem.outputs:
            together, alone = (answer.outputs[tensor.name] for answer in answers)
            apart = np.abs(together - alone) > _SAME_ROWS * answers[0].bounds[tensor.name]
            if apart.any():
                self._refuse(
                    f"the reference declares ROWWISE = {axis!r}, yet {tensor.name!r} differs when "
                    f"rows of {axis!r} are computed apart",
                    "remove ROWWISE from the reference",
                )

    def _cases(self) -> Iterator[Case]:
        """Yield every workload under its own profile, then the smallest under every profile."""
        seen = set()
        for workload in self._workloads:
            seen.add((workload.name, workload.profile))
            yield self._case(workload, workload.profile, 0)
        small = self._public[0]
        for profile in self._problem.profiles:
            if (small.name, profile) not in seen:
                yield self._case(small, profile, 0)

    def _case(self, workload: Workload, profile: ProfileName, call: int) -> Case:
        name = f"{workload.name}/{profile.value}"
        if (name, call) in self._known:
            return self._known[name, call]
        inputs = {
            t.name: np.empty(self._problem.shape(t, workload), numpy_dtype(t.dtype))
            for t in self._problem.inputs
        }
        Contents(self._problem, workload, _KEY).fill(inputs, call=call, profile=profile)
        expected = self.oracle.expected(workload, inputs)
        case = Case(workload=workload, name=name, inputs=inputs, expected=expected)
        self._kept += elements_of(self._problem, workload)
        if self._kept <= _KEPT_ELEMENTS:
            self._known[name, call] = case
        return case

    def _expect_varied(self, tensor: Tensor, workload: Workload, answers: list[Expected]) -> None:
        numbers = np.concatenate([a.outputs[tensor.name].reshape(-1) for a in answers])
        bounds = np.concatenate([a.bounds[tensor.name].reshape(-1) for a in answers])
        if not numbers.size:
            return
        where = f"output {tensor.name!r} of workload {workload.name!r}"
        if (np.abs(numbers) <= bounds).all():
            at = int(np.argmax(np.abs(numbers)))
            self._refuse(
                f"{where} is within tolerance of zero: the largest answer is "
                f"{abs(numbers[at]):.2g} and its bound {bounds[at]:.2g}",
                "lower tolerance.absolute, or the bound, far below the answers",
            )
        low, high = float((numbers - bounds).max()), float((numbers + bounds).min())
        if not tensor.dtype.is_float:
            low, high = math.ceil(low), math.floor(high)
        if low <= high:
            self._refuse(
                f"{where} is within tolerance of the constant {(low + high) / 2:.6g} whatever the "
                "inputs, so a kernel that computes nothing would pass",
                "choose an operation whose answer depends on its inputs",
            )

    def _change(self, case: Case, inputs: Mapping[str, Raw]) -> float:
        """Return how far other inputs move the answer; 1 is as far as is wanted."""
        other = self.oracle.expected(case.workload, inputs)
        most = 0.0
        for tensor in self._problem.outputs:
            before, after = case.expected.outputs[tensor.name], other.outputs[tensor.name]
            with np.errstate(invalid="ignore", over="ignore"):
                moved = np.abs(after - before) / case.expected.bounds[tensor.name]
            moved[np.isnan(before) != np.isnan(after)] = np.inf
            bounds = float(np.nan_to_num(moved, nan=0.0, posinf=np.inf).max(initial=0.0))
            most = max(most, bounds / _wanted_bounds(tensor))
        return most

    def _wanted(self) -> str:
        wanted = {t.name: f"{_wanted_bounds(t):g} bounds" for t in self._problem.outputs}
        return ", ".join(f"{bounds} of {name}" for name, bounds in wanted.items())

    def _ordinary_profile(self, workload: Workload) -> ProfileName:
        covered = self._problem.profiles
        return ProfileName.NORMAL if ProfileName.NORMAL in covered else workload.profile

    def _is_rounding(self, judgement: Judgement) -> bool:
        """Return whether a difference may be rounding, and not another function."""
        if judgement.mismatch is None:
            return True
        return math.isfinite(judgement.worst_error) and all(
            judgement.rms[tensor.name]
            <= min(_ROUNDING_UNITS * tensor.dtype.unit_roundoff, _ROUNDING_SHARE)
            for tensor in self._problem.outputs
        )

    def _judge(self, case: Case, outputs: Mapping[str, Raw]) -> Judgement:
        return judge(self._problem, case.expected, outputs, case=case.name, is_hidden=False)

    def _blame_disagreement(self, name: str, mismatch: Mismatch | None) -> NoReturn:
        where = mismatch or Mismatch(case="", output="")
        self._refuse(
            f"the trusted implementation {name!r} and the reference disagree on {where.case}: "
            f"{where.output}{list(where.index or ())} is {where.actual}, the reference says "
            f"{where.expected}",
            "correct the one that is wrong",
        )

    def _refuse(self, reason: str, remedy: str) -> NoReturn:
        msg = f"problem {self._problem.name!r}: {reason}; {remedy}"
        raise Unfitting(msg)


def _wanted_bounds(tensor: Tensor) -> float:
    """Return by how many bounds an output must move; a whole number by one of them."""
    if not tensor.dtype.is_float:
        return 1.0
    return min(_LEAST_CHANGE, _COARSE_CHANGE / tensor.dtype.unit_roundoff)
