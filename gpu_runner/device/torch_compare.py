"""Judges answers on a device, by the rules of `oracle/compare`, for all slots in one pass.

One small transfer brings the worst ratio of every slot and output to the host. Only where a slot
fails, or holds a NaN or an infinity, is it looked at again, which costs a second one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from gpu_runner.device.torch_elements import as_float64
from gpu_runner.errors import ReferenceFailed
from gpu_runner.oracle.compare import Finding, Judgement, conclude
from gpu_runner.oracle.elements import largest_finite
from gpu_runner.problem import DType, Problem
from gpu_runner.problem import Tensor as Spec


@dataclass(frozen=True, kw_only=True)
class DeviceExpected:
    """Right answers and elementwise bounds, by output name; float64 tensors on the device."""

    outputs: dict[str, Tensor]
    """In the output's shape; where stacked, [slots, *shape]."""
    bounds: dict[str, Tensor]
    """Above zero wherever the answer is finite."""
    is_stacked: bool = False
    doubts: Tensor | None = None
    """[outputs, slots]: zero where answers and bounds are in order; not yet read by the host."""


def judge_stacked(
    problem: Problem,
    expected: DeviceExpected,
    actual: Mapping[str, Tensor],
    *,
    case: str,
    is_hidden: bool,
) -> list[Judgement]:
    """Compare the outputs of several slots with the right ones, all slots in one pass.

    Args:
        problem: names the outputs.
        expected: the oracle's answers, stacked.
        actual: outputs [slots, *shape] by name, strides arbitrary.
        case: how a mismatch names the case; for a hidden one its category, `hidden shape`.
        is_hidden: report the category and nothing else.

    Returns:
        One judgement for each slot.

    Raises:
        ReferenceFailed: the reference had no finite answer, or no bound, for finite inputs.
        ValueError: an output is missing, or of a wrong shape or type: the caller owns the buffers.
    """
    sums = torch.stack([_sums(t, expected, actual) for t in problem.outputs])
    doubts = sums.new_zeros(0) if expected.doubts is None else expected.doubts
    read = torch.cat((sums.reshape(-1), doubts.reshape(-1))).cpu()
    if bool(read[sums.numel() :].any()):
        _blame(problem, expected, doubts)
    told = read[: sums.numel()].view(sums.shape).tolist()
    findings = _findings(problem, expected, actual, told)
    return [
        conclude(problem, found, case=case, is_hidden=is_hidden)
        for found in zip(*findings, strict=True)
    ]


def judge_one(
    problem: Problem,
    expected: DeviceExpected,
    actual: Mapping[str, Tensor],
    *,
    case: str,
    is_hidden: bool,
) -> Judgement:
    """Compare one call's outputs with the right ones; arguments and errors as `judge_stacked`."""
    stacked = DeviceExpected(
        outputs={name: values[None] for name, values in expected.outputs.items()},
        bounds={name: values[None] for name, values in expected.bounds.items()},
        is_stacked=True,
        doubts=expected.doubts,
    )
    lifted = {name: values[None] for name, values in actual.items()}
    (judgement,) = judge_stacked(problem, stacked, lifted, case=case, is_hidden=is_hidden)
    return judgement


def doubts_about(
    answers: Mapping[str, Tensor], bounds: Mapping[str, Tensor], inputs: Tensor
) -> Tensor:
    """Return what `DeviceExpected.doubts` holds, without waiting for the device.

    Args:
        answers: [slots, *shape] by output name.
        bounds: as the answers.
        inputs: [slots], whether every float input of the slot is finite.
    """
    rows = []
    for name, number in answers.items():
        limit = bounds[name]
        is_finite = number.isfinite()
        is_odd = ~is_finite & inputs.view(-1, *(1,) * (number.dim() - 1))
        is_odd |= is_finite & ~(limit.isfinite() & (limit >= 0))
        rows.append(is_odd.flatten(1).any(dim=1))
    return torch.stack(rows).to(torch.float64)


def _sums(tensor: Spec, expected: DeviceExpected, actual: Mapping[str, Tensor]) -> Tensor:
    """Return [worst ratio, squares of errors, squares of answers] x slots, NaN where special."""
    number = expected.outputs[tensor.name]
    values = actual.get(tensor.name)
    if values is None or values.shape != number.shape:
        found = "nothing" if values is None else f"the shape {tuple(values.shape[1:])}"
        msg = f"output {tensor.name!r} needs the shape {tuple(number.shape[1:])}; given: {found}"
        raise ValueError(msg)
    error = as_float64(values, tensor.dtype).flatten(1)
    if error.numel() == 0:
        return error.new_zeros(3, number.shape[0])
    number = number.flatten(1)
    error -= number
    errors = torch.linalg.vector_norm(error, dim=1).square()
    error.abs_().div_(expected.bounds[tensor.name].flatten(1))
    answers = torch.linalg.vector_norm(number, dim=1).square()
    return torch.stack((error.amax(dim=1), errors, answers))


def _findings(
    problem: Problem,
    expected: DeviceExpected,
    actual: Mapping[str, Tensor],
    told: list[list[list[float]]],
) -> list[list[Finding]]:
    """Return the findings [outputs][slots]; what is not plainly right is looked at again."""
    findings = []
    again: list[tuple[int, int]] = []
    for place, sums in enumerate(told):
        shape = tuple(expected.outputs[problem.outputs[place].name].shape[1:])
        row = []
        for slot, (worst, errors, answers) in enumerate(zip(*sums, strict=True)):
            row.append(Finding(shape=shape, worst=worst, errors=errors, answers=answers))
            if not (worst <= 1.0 and math.isfinite(errors)):
                again.append((place, slot))
        findings.append(row)
    if again:
        details = [_details(problem.outputs[p], expected, actual, slot) for p, slot in again]
        for (place, slot), detail in zip(again, torch.stack(details).tolist(), strict=True):
            findings[place][slot] = Finding(
                shape=findings[place][slot].shape,
                worst=detail[0],
                errors=detail[1],
                answers=detail[2],
                wrong=int(detail[3]),
                first=int(detail[4]),
                given=detail[5],
                right=detail[6],
                bound=detail[7],
            )
    return findings


def _details(
    tensor: Spec, expected: DeviceExpected, actual: Mapping[str, Tensor], slot: int
) -> Tensor:
    """Judge every element of one output of one slot; return the fields of a finding, in order."""
    number = expected.outputs[tensor.name][slot].reshape(-1)
    limit = expected.bounds[tensor.name][slot].reshape(-1)
    answer = as_float64(actual[tensor.name][slot], tensor.dtype).reshape(-1)
    is_wrong = _wrong(answer, number, limit, tensor.dtype)
    is_plain = answer.isfinite() & number.isfinite()
    error = torch.where(is_plain, (answer - number).abs(), 0.0)
    worst = torch.where(is_plain, error / limit, 0.0).amax()
    worst = torch.where((is_wrong & ~is_plain).any(), torch.inf, worst)
    first = is_wrong.to(torch.uint8).argmax()
    fields = (
        worst,
        error.square().sum(),
        torch.where(is_plain, number, 0.0).square().sum(),
        is_wrong.sum().to(torch.float64),
        first.to(torch.float64),
        *(values.take(first) for values in (answer, number, limit)),
    )
    return torch.stack(fields)


def _wrong(answer: Tensor, number: Tensor, limit: Tensor, dtype: DType) -> Tensor:
    is_right = (answer - number).abs() <= limit
    is_right |= answer.isnan() & number.isnan()
    # Beyond the type's largest number, rounding gives an infinity, and so may the answer.
    top = largest_finite(dtype) if dtype.is_float else math.inf
    is_beyond = number.isinf() | (number.abs() + limit.nan_to_num(nan=0.0) > top)
    is_right |= answer.isinf() & is_beyond & (answer.sign() == number.sign())
    return ~is_right


def _blame(problem: Problem, expected: DeviceExpected, doubts: Tensor) -> NoReturn:
    """Say where the reference answered with no number, or no bound, for finite inputs."""
    place, slot = (int(i) for i in doubts.nonzero()[0])
    name = problem.outputs[place].name
    number, limit = expected.outputs[name][slot], expected.bounds[name][slot]
    is_bad = number.isfinite() & ~(limit.isfinite() & (limit >= 0))
    if not bool(is_bad.any()):
        is_bad = ~number.isfinite()
    at = tuple(int(i) for i in is_bad.nonzero()[0])
    msg = (
        f"the reference of problem {problem.name!r} answers {float(number[at])} in {name!r} at "
        f"{at}, within {float(limit[at])}, for finite inputs; compute it without overflow, or "
        "leave this profile out of the problem's profiles"
    )
    raise ReferenceFailed(msg)
