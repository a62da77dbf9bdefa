"""Wrong implementations that a comparison must refuse, made from the reference itself. Pure.

Each stands for a way in which a kernel is fast and wrong: arithmetic in the next lower precision, a
term left out of a reduction, an element never written.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from gpu_runner.oracle.elements import Numbers, Raw, as_float64, from_float64
from gpu_runner.oracle.reference import Expected, Oracle
from gpu_runner.problem import DType, Problem, Tensor, Workload

_LOWER: Final[dict[DType, tuple[tuple[str, int], ...]]] = {
    DType.FLOAT64: (("float32", 24),),
    DType.FLOAT32: (("float16", 11), ("bfloat16", 8)),
    DType.FLOAT16: (("bfloat16", 8),),
    DType.BFLOAT16: (("float8", 4),),
}
"""By output type: the next lower precisions and their significant bits."""
_INDEX_TYPES: Final = (DType.INT32, DType.INT64)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call with its right answer."""

    workload: Workload
    name: str
    """`rows_4096/normal`."""
    inputs: Mapping[str, Raw]
    expected: Expected


@dataclass(frozen=True, kw_only=True)
class Plant(ABC):
    """A wrong implementation."""

    name: str
    is_certain: bool = True
    """Whether it is wrong for sure; a gathered table's last entry may never be asked for."""

    @abstractmethod
    def outputs(self, problem: Problem, oracle: Oracle, case: Case) -> dict[str, Raw]:
        """Return what the wrong implementation answers."""


@dataclass(frozen=True, kw_only=True)
class Coarse(Plant):
    """Floats rounded to fewer bits on the way in and on the way out."""

    bits: int

    def outputs(self, problem: Problem, oracle: Oracle, case: Case) -> dict[str, Raw]:
        """Return the coarse answer."""
        inputs = dict(case.inputs)
        for tensor in problem.inputs:
            if tensor.dtype.is_float:
                values = _rounded(as_float64(inputs[tensor.name], tensor.dtype), self.bits)
                inputs[tensor.name] = from_float64(values, tensor.dtype)
        numbers = oracle.expected(case.workload, inputs).outputs
        return {
            tensor.name: from_float64(
                _rounded(numbers[tensor.name], self.bits)
                if tensor.dtype.is_float
                else numbers[tensor.name],
                tensor.dtype,
            )
            for tensor in problem.outputs
        }


@dataclass(frozen=True, kw_only=True)
class Dropped(Plant):
    """The last entry along one axis of an input is left out: read as zero."""

    tensor: Tensor
    position: int

    def outputs(self, problem: Problem, oracle: Oracle, case: Case) -> dict[str, Raw]:
        """Return the answer without those terms."""
        changed = case.inputs[self.tensor.name].copy()
        if changed.shape[self.position]:
            changed[(slice(None),) * self.position + (-1,)] = 0
        numbers = oracle.expected(case.workload, {**case.inputs, self.tensor.name: changed}).outputs
        return {t.name: from_float64(numbers[t.name], t.dtype) for t in problem.outputs}


@dataclass(frozen=True, kw_only=True)
class Unwritten(Plant):
    """The last element of an output is left at zero."""

    tensor: Tensor

    def outputs(self, problem: Problem, oracle: Oracle, case: Case) -> dict[str, Raw]:  # noqa: ARG002 - the right answer suffices
        """Return the right answer, the last element excepted."""
        numbers = {**case.expected.outputs}
        numbers[self.tensor.name] = numbers[self.tensor.name].copy()
        numbers[self.tensor.name].reshape(-1)[-1:] = 0.0
        return {t.name: from_float64(numbers[t.name], t.dtype) for t in problem.outputs}


def plants(problem: Problem) -> tuple[Plant, ...]:
    """Return the wrong implementations that fit a problem."""
    return (*_coarse(problem), *_dropped(problem), *_unwritten(problem))


def _coarse(problem: Problem) -> Iterator[Plant]:
    types = [tensor.dtype for tensor in problem.outputs if tensor.dtype.is_float]
    if types:
        finest = min(types, key=lambda dtype: dtype.unit_roundoff)
        for name, bits in _LOWER[finest]:
            yield Coarse(name=f"{name} arithmetic", bits=bits)


def _dropped(problem: Problem) -> Iterator[Plant]:
    kept = {axis for tensor in problem.outputs for axis in tensor.shape}
    is_certain = all(tensor.dtype not in _INDEX_TYPES for tensor in problem.inputs)
    for tensor in problem.inputs:
        for position, axis in enumerate(tensor.shape):
            if axis not in kept or position == len(tensor.shape) - 1:
                yield Dropped(
                    name=f"last {axis} of {tensor.name} dropped",
                    is_certain=is_certain,
                    tensor=tensor,
                    position=position,
                )


def _unwritten(problem: Problem) -> Iterator[Plant]:
    for tensor in problem.outputs:
        yield Unwritten(name=f"last element of {tensor.name} not written", tensor=tensor)


def _rounded(values: Numbers, bits: int) -> Numbers:
    """Round to so many significant bits; the exponent is unlimited."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        mantissa, exponent = np.frexp(values)
        return np.asarray(np.ldexp(np.rint(mantissa * 2.0**bits), exponent - bits))
