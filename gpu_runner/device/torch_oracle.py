"""The oracle on a device: draws contents, says what is right, and judges; sibling of `oracle/`.

The reference runs on the device where that has been seen to agree with the host's oracle on small
contents of the same workload; where it has not, the host answers: slow but true.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gpu_runner.device.torch_compare import (
    DeviceExpected,
    doubts_about,
    judge_one,
    judge_stacked,
)
from gpu_runner.device.torch_contents import DeviceContents
from gpu_runner.device.torch_elements import from_raw
from gpu_runner.device.torch_reference import TEMPORARY_BYTES, TorchReference
from gpu_runner.device.torch_trust import (
    Attempt,
    HostOracle,
    Trial,
    Trust,
    identity,
    stacked_of,
)
from gpu_runner.oracle.compare import Judgement
from gpu_runner.problem import Problem, ProfileName, Workload


class TorchOracle:
    """Contents, answers and judgements of one problem on one device.

    The methods named `*_slots` serve several calls at once. They take one mapping for each slot and
    may be given `stacked`: the same memory as tensors [slots, *shape], every slot contiguous. Then
    the number of kernels does not grow with the slots. Of these, only `judge_slots` waits for the
    device, once, unless something is wrong.
    """

    def __init__(
        self,
        problem: Problem,
        device: str,
        key: bytes,
        *,
        temporary_bytes: int = TEMPORARY_BYTES,
    ) -> None:
        """Bind a problem to a device, `cuda` or `cpu`, and a secret key of at least 16 bytes."""
        self._problem = problem
        self._device = device
        self._key = key
        self._host = HostOracle(problem, device)
        self._native = TorchReference(problem, device, temporary_bytes=temporary_bytes)
        self._trial = Trial(problem, device, key, self._native, self._host)
        self._contents: dict[tuple[object, ...], DeviceContents] = {}

    @property
    def is_native(self) -> bool:
        """Whether every question so far was answered on the device; `reason` says why not."""
        return not self._trial.reason

    @property
    def reason(self) -> str:
        """Why the host answers; empty while the device does."""
        return self._trial.reason

    def fill(
        self,
        workload: Workload,
        into: Mapping[str, Tensor],
        *,
        call: int,
        profile: ProfileName | None = None,
    ) -> None:
        """Write the inputs of one call; see `DeviceContents.fill`."""
        self._contents_of(workload).fill(into, call=call, profile=profile)

    def fill_slots(
        self,
        workload: Workload,
        into: Sequence[Mapping[str, Tensor]],
        *,
        call: int,
        profile: ProfileName | None = None,
        stacked: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write fresh inputs into every slot; no slot has those of another, nor those of `fill`."""
        contents = self._contents_of(workload)
        if stacked is not None:
            contents.fill_stacked(stacked, call=call, profile=profile)
            return
        for slot, tensors in enumerate(into):
            contents.fill(tensors, call=call, slot=slot, profile=profile)

    def perturb(
        self,
        workload: Workload,
        source: Mapping[str, Tensor],
        into: Mapping[str, Tensor],
        *,
        call: int,
    ) -> None:
        """Write a near-duplicate; see `DeviceContents.perturb`."""
        self._contents_of(workload).perturb(source, into, call=call)

    def expect(self, workload: Workload, inputs: Mapping[str, Tensor]) -> DeviceExpected:
        """Return answers and bounds for one call; waits for the device.

        Raises:
            ReferenceFailed: the reference raised, or answered with a wrong shape, a wrong type, or
                no finite number for finite inputs; names which and the remedy.
        """
        if self._trial.verdict(workload) is not Trust.HOST:
            with Attempt() as attempt:
                outputs, bounds = self._native.answer(workload, inputs)
                is_odd = self._doubts(_lifted(inputs), _lifted(outputs), _lifted(bounds)).any()
                if not bool(is_odd):
                    return DeviceExpected(outputs=outputs, bounds=bounds)
            if attempt.failure:
                self._trial.distrust(attempt.failure)
        outputs, bounds = self._host.answer(workload, inputs)
        return DeviceExpected(outputs=outputs, bounds=bounds)

    def expect_slots(
        self,
        workload: Workload,
        inputs: Sequence[Mapping[str, Tensor]],
        *,
        stacked: Mapping[str, Tensor] | None = None,
    ) -> DeviceExpected:
        """Return stacked answers and bounds for several slots.

        Raises:
            ReferenceFailed: as `expect`; where the reference gives no finite number for finite
                inputs, `judge_slots` raises it.
        """
        if self._trial.verdict(workload) is Trust.STACKED:
            with Attempt():
                given = stacked if stacked is not None else stacked_of(inputs)
                outputs, bounds = self._native.answer_stacked(workload, given)
                doubts = self._doubts(given, outputs, bounds)
                return DeviceExpected(
                    outputs=outputs, bounds=bounds, is_stacked=True, doubts=doubts
                )
            self._trial.distrust_stacks()
        each = [self.expect(workload, one) for one in inputs]
        return DeviceExpected(
            outputs=stacked_of([one.outputs for one in each]),
            bounds=stacked_of([one.bounds for one in each]),
            is_stacked=True,
        )

    def same_precision_rms(
        self, workload: Workload, inputs: Mapping[str, Tensor], expected: DeviceExpected
    ) -> dict[str, float]:
        """Return the relative error of the reference in its tensors' own precision, by output.

        Raises:
            ReferenceFailed: as `expect`.
        """
        outputs: dict[str, Tensor] = {}
        if self._trial.verdict(workload) is not Trust.HOST:
            with Attempt() as attempt:
                outputs = self._native.narrow(workload, inputs)
            if attempt.failure:
                self._trial.distrust(attempt.failure)
        if not outputs:
            raw = self._host.narrow(workload, inputs)
            outputs = {
                t.name: from_raw(raw[t.name], t.dtype, self._device) for t in self._problem.outputs
            }
        judgement = judge_one(
            self._problem, expected, outputs, case="own precision", is_hidden=True
        )
        return judgement.rms

    def judge(
        self,
        expected: DeviceExpected,
        actual: Mapping[str, Tensor],
        *,
        case: str,
        is_hidden: bool,
    ) -> Judgement:
        """Compare one call's outputs with the right ones; see `oracle.compare.judge`."""
        return judge_one(self._problem, expected, actual, case=case, is_hidden=is_hidden)

    def judge_slots(
        self,
        expected: DeviceExpected,
        actual: Sequence[Mapping[str, Tensor]],
        *,
        case: str,
        is_hidden: bool,
        stacked: Mapping[str, Tensor] | None = None,
    ) -> list[Judgement]:
        """Compare every slot's outputs with what `expect_slots` gave; one judgement a slot.

        Raises:
            ReferenceFailed: the reference gave no finite number for finite inputs.
            ValueError: an output is missing, or of a wrong shape or type.
        """
        given = stacked if stacked is not None else stacked_of(actual)
        return judge_stacked(self._problem, expected, given, case=case, is_hidden=is_hidden)

    def host_difference(self, workload: Workload) -> float:
        """Return how far the device's evaluation is from the host's, on small fresh contents.

        The workload's axes are shortened; all profiles of the problem are drawn.

        Returns:
            The worst difference, relative to the answer or to its bound where that is more;
            infinite where the device cannot evaluate the reference, and then `reason` says why.
        """
        return self._trial.difference(workload)

    def _contents_of(self, workload: Workload) -> DeviceContents:
        known = (workload.profile, *identity(workload))
        if known not in self._contents:
            self._contents[known] = DeviceContents(self._problem, workload, self._key, self._device)
        return self._contents[known]

    def _doubts(
        self,
        inputs: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
        bounds: Mapping[str, Tensor],
    ) -> Tensor:
        first = inputs[self._problem.inputs[0].name]
        is_finite = torch.ones(first.shape[0], dtype=torch.bool, device=first.device)
        for tensor in self._problem.inputs:
            if tensor.dtype.is_float:
                is_finite &= inputs[tensor.name].isfinite().flatten(1).all(dim=1)
        return doubts_about(outputs, bounds, is_finite)


def _lifted(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: one[None] for name, one in values.items()}
