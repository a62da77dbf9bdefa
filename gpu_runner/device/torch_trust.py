"""Whether a device's evaluation of a reference may be believed: it is compared with the host's.

The comparison is on small contents of the same problem, drawn for it alone. What fails to run or
disagrees is left to the host from then on, with the reason kept.
"""

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import TracebackType
from typing import Final, Self

import torch
from torch import Tensor

from gpu_runner.device.torch_contents import DeviceContents
from gpu_runner.device.torch_elements import to_raw, torch_dtype
from gpu_runner.device.torch_reference import Answer, TorchReference
from gpu_runner.oracle.elements import Raw
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import Problem, ProfileName, Workload

TRUSTED_DIFFERENCE: Final = 1e-9
"""Relative to the answer, or to its bound where that is more. float64 leaves 1e-13."""
_BOUND_SHARE: Final = 1e-6
"""Bounds are estimates: a thousandth of one, which cancellation may cost it, is let pass."""
_SAMPLE_SIZES: Final = (37, 32, 16, 5, 2, 1, 64, 256, 1024)
_SAMPLE_ELEMENTS: Final = 1 << 16
_SAMPLE_NAME: Final = "sample of a workload"
"""No Name, so no workload of a target has it, and none shares its stream of contents."""


class Trust(IntEnum):
    """How a workload's reference is evaluated."""

    HOST = 0
    SINGLE = 1
    """On the device, call by call."""
    STACKED = 2
    """On the device, several slots in one evaluation."""


class Attempt:
    """Takes whatever an evaluation raises as a no: foreign code may raise anything."""

    failure = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, Exception):
            self.failure = f"{type(error).__name__}: {error}"
            return True
        return False


class HostOracle:
    """The host's oracle, asked about tensors of a device."""

    def __init__(self, problem: Problem, device: str) -> None:
        """Bind a problem and the device that answers are wanted on."""
        self._problem = problem
        self._device = device
        self._oracle = Oracle(problem)

    def answer(self, workload: Workload, inputs: Mapping[str, Tensor]) -> Answer:
        """Return answers and bounds on the device.

        Raises:
            ReferenceFailed: as `Oracle.expected`.
        """
        told = self._oracle.expected(workload, self._raw(inputs))
        outputs, bounds = (
            {name: torch.from_numpy(values).to(self._device) for name, values in side.items()}
            for side in (told.outputs, told.bounds)
        )
        return outputs, bounds

    def narrow(self, workload: Workload, inputs: Mapping[str, Tensor]) -> dict[str, Raw]:
        """Return what `Oracle.same_precision` does, still on the host."""
        return self._oracle.same_precision(workload, self._raw(inputs))

    def _raw(self, inputs: Mapping[str, Tensor]) -> dict[str, Raw]:
        return {t.name: to_raw(inputs[t.name], t.dtype) for t in self._problem.inputs}


class Trial:
    """Decides, for each workload, whether the device's evaluation is believed."""

    def __init__(
        self, problem: Problem, device: str, key: bytes, native: TorchReference, host: HostOracle
    ) -> None:
        """Bind the two sides; nothing is evaluated before the first question."""
        self.reason = ""
        """Why the host answers, where it does."""
        self._problem = problem
        self._device = device
        self._key = key
        self._native = native
        self._host = host
        self._known: dict[tuple[object, ...], Trust] = {}

    def verdict(self, workload: Workload) -> Trust:
        """Return how to evaluate a workload; the first time, after a look at a small one."""
        if self.reason:
            return Trust.HOST
        asked = (workload.profile, *identity(workload))
        if asked not in self._known:
            small = sample(self._problem, workload)
            looked_at = (workload.profile, *identity(small))
            if looked_at not in self._known:
                self._known[looked_at] = self._look(small)
            self._known[asked] = self._known[looked_at]
        return self._known[asked]

    def distrust(self, reason: str) -> None:
        """Leave everything to the host from now on; the first reason is kept."""
        self.reason = self.reason or reason

    def distrust_stacks(self) -> None:
        """Evaluate call by call from now on."""
        self._known = dict.fromkeys(self._known, Trust.SINGLE)

    def difference(self, workload: Workload) -> float:
        """Return the worst difference over the problem's profiles; infinite where it fails."""
        small = sample(self._problem, workload)
        return self._worst(small, {workload.profile, *self._problem.profiles})

    def _look(self, small: Workload) -> Trust:
        # What is special about a profile is seen once; later workloads bring other shapes.
        profiles = {small.profile, *(() if self._known else self._problem.profiles)}
        worst = self._worst(small, profiles)
        if worst > TRUSTED_DIFFERENCE:
            self.distrust(f"it differs from numpy by {worst:.1e}")
            return Trust.HOST
        return self._together(small)

    def _worst(self, small: Workload, profiles: set[ProfileName]) -> float:
        """Compare under each profile; find out whether new tensors have to be placed."""
        places = (False,) if self._device == "cpu" else (False, True)
        for placed in places:
            self._native.places_new_tensors = placed
            with Attempt() as attempt:
                return max(self._difference_in(small, profile) for profile in sorted(profiles))
        self.distrust(attempt.failure)
        return math.inf

    def _difference_in(self, small: Workload, profile: ProfileName) -> float:
        inputs = self._drawn(small, profile, call=0)
        right = self._host.answer(small, inputs)
        return difference(self._native.answer(small, inputs), right)

    def _together(self, small: Workload) -> Trust:
        """See whether two slots evaluated at once give what each gives alone."""
        slots = [self._drawn(small, small.profile, call=call) for call in (0, 1)]
        with Attempt():
            outputs, bounds = self._native.answer_stacked(small, stacked_of(slots))
            for slot, inputs in enumerate(slots):
                one = ({n: v[slot] for n, v in side.items()} for side in (outputs, bounds))
                alone = self._native.answer(small, inputs)
                if difference((next(one), next(one)), alone) > TRUSTED_DIFFERENCE:
                    return Trust.SINGLE
            return Trust.STACKED
        return Trust.SINGLE

    def _drawn(self, small: Workload, profile: ProfileName, *, call: int) -> dict[str, Tensor]:
        inputs = {
            t.name: torch.empty(
                self._problem.shape(t, small), dtype=torch_dtype(t.dtype), device=self._device
            )
            for t in self._problem.inputs
        }
        contents = DeviceContents(self._problem, small, self._key, self._device)
        contents.fill(inputs, call=call, profile=profile)
        return inputs


def sample(problem: Problem, workload: Workload) -> Workload:
    """Return a small workload of the same kind, whose contents are of a stream of their own."""
    best = workload.model_copy(update={"name": _SAMPLE_NAME})
    least = _elements(problem, best)
    for size in _SAMPLE_SIZES:
        axes = {name: min(value, size) for name, value in workload.axes.items()}
        small = best.model_copy(update={"axes": axes})
        try:
            elements = _elements(problem, small)
        except ValueError:  # a constraint of the problem wants more
            continue
        if elements <= _SAMPLE_ELEMENTS:
            return small
        if elements < least:
            best, least = small, elements
    return best


def identity(workload: Workload) -> tuple[object, ...]:
    """Return what tells a workload from others, hashable."""
    axes, scalars = sorted(workload.axes.items()), sorted(workload.scalars.items())
    return workload.name, tuple(axes), tuple(scalars)


def stacked_of(slots: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return copies [slots, *shape] of what every slot has."""
    names = [name for name in slots[0] if all(name in slot for slot in slots)]
    return {name: torch.stack([slot[name] for slot in slots]) for name in names}


def difference(given: Answer, right: Answer) -> float:
    """Return the worst difference of answers, and of bounds as far as they matter.

    Relative to the answer or to its bound where that is more; infinite where a NaN or an infinity
    meets another value.
    """
    worst = 0.0
    for name, number in right[0].items():
        limit, told = right[1][name], given[0][name]
        if number.numel() == 0:
            continue
        is_same = (told == number) | (told.isnan() & number.isnan())
        apart = (told - number).abs() / torch.maximum(number.abs(), limit)
        apart = torch.where(is_same, 0.0, apart.nan_to_num(nan=torch.inf, posinf=torch.inf))
        loose = (given[1][name] - limit).abs() / limit * _BOUND_SHARE
        loose = loose.nan_to_num(nan=torch.inf, posinf=torch.inf)
        loose = torch.where(number.isfinite(), loose, 0.0)
        worst = max(worst, float(torch.maximum(apart, loose).amax()))
    return worst


def _elements(problem: Problem, workload: Workload) -> int:
    tensors = (*problem.inputs, *problem.outputs)
    return sum(math.prod(problem.shape(tensor, workload)) for tensor in tensors)
