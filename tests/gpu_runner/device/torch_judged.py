"""Judgements and expectations of both oracles, compared."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from gpu_runner.device.torch_compare import DeviceExpected, judge_one
from gpu_runner.oracle.compare import Judgement, judge
from gpu_runner.oracle.elements import from_float64, numpy_dtype
from gpu_runner.oracle.reference import Expected
from gpu_runner.problem import DType, Problem
from tests.gpu_runner.device.torch_cases import on_device, oracle_of, tensor_of
from tests.gpu_runner.oracle.judged import expected_of, problem_of


def judged(
    problem: Problem,
    expected: Expected,
    raw: Mapping[str, np.ndarray],
    *,
    case: str = "small/normal",
    is_hidden: bool = False,
) -> Judgement:
    """The device's judgement, after the host has agreed with it."""
    types = {t.name: t.dtype for t in problem.outputs}
    mine = judge_one(
        problem,
        on_device(expected),
        {name: lent(array, types[name]) for name, array in raw.items()},
        case=case,
        is_hidden=is_hidden,
    )
    expect_equal(mine, judge(problem, expected, raw, case=case, is_hidden=is_hidden))
    return mine


def lent(array: np.ndarray, dtype: DType) -> torch.Tensor:
    """The tensor of a raw array; one of another type is lent as it is, to be refused."""
    if array.dtype != numpy_dtype(dtype):
        return torch.from_numpy(array.copy())
    return tensor_of(array, dtype)


def verdict(numbers, answers, *, bounds=0.5, dtype: DType = DType.FLOAT32) -> Judgement:
    raw = {"y0": from_float64(np.asarray(answers, dtype=np.float64), dtype)}
    return judged(problem_of(dtype), expected_of(numbers, bounds=bounds), raw)


def expect_equal(mine: Judgement, right: Judgement) -> None:
    """Equal but for the order of sums."""
    assert mine.mismatch == right.mismatch
    assert mine.worst_error == right.worst_error
    assert mine.rms == pytest.approx(right.rms, rel=1e-12, abs=0, nan_ok=True)


def stacked_of(slots: list[Expected], doubts: torch.Tensor | None = None) -> DeviceExpected:
    each = [on_device(slot) for slot in slots]
    return DeviceExpected(
        outputs={n: torch.stack([e.outputs[n] for e in each]) for n in each[0].outputs},
        bounds={n: torch.stack([e.bounds[n] for e in each]) for n in each[0].bounds},
        is_stacked=True,
        doubts=doubts,
    )


def expect_agreement(mine: DeviceExpected, right: Expected) -> None:
    """Answers and bounds as the host gives them, NaN where it does."""
    for name, number in right.outputs.items():
        limit = right.bounds[name]
        found = mine.outputs[name].numpy()
        with np.errstate(invalid="ignore"):
            apart = np.abs(found - number) / np.maximum(np.abs(number), limit)
        is_same = (found == number) | (np.isnan(found) & np.isnan(number))
        assert np.where(is_same, 0.0, apart).max(initial=0.0) < 1e-11
        is_plain = np.isfinite(number)
        np.testing.assert_allclose(mine.bounds[name].numpy()[is_plain], limit[is_plain], rtol=1e-6)


def rounded(problem: Problem, expected: Expected) -> dict[str, np.ndarray]:
    """The truth rounded to the outputs' types, raw."""
    return {t.name: from_float64(expected.outputs[t.name], t.dtype) for t in problem.outputs}


def as_tensors(problem: Problem, raw: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {t.name: tensor_of(raw[t.name], t.dtype) for t in problem.outputs}


def expect_same_judgement(problem, mine, right, raw) -> bool:
    """Judge on both sides; return whether the answer is right."""
    oracle = oracle_of(problem)
    found = oracle.judge(mine, as_tensors(problem, raw), case="c", is_hidden=False)
    wanted = judge(problem, right, raw, case="c", is_hidden=False)
    assert (found.mismatch is None) == (wanted.mismatch is None)
    if found.mismatch is not None and wanted.mismatch is not None:
        assert found.mismatch.index == wanted.mismatch.index
        assert found.mismatch.output == wanted.mismatch.output
        assert found.mismatch.actual == wanted.mismatch.actual
    assert found.worst_error == pytest.approx(wanted.worst_error, rel=1e-6, abs=1e-6)
    assert found.rms == pytest.approx(wanted.rms, rel=1e-6, abs=1e-9)
    return found.mismatch is None
