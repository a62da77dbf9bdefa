"""A problem's reference run in float64 on a device: answers and bounds as `oracle/reference` gives.

A numpy reference runs on arrays over tensors (`torch_numpy`), a torch reference on tensors. Here
anything may fail, and nothing is believed: `torch_oracle` compares with the host and falls back.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NoReturn

import torch
from torch import Tensor

from gpu_runner.device.torch_elements import as_float64, from_numbers
from gpu_runner.device.torch_numpy import read_source, to_array, to_tensor
from gpu_runner.errors import ReferenceFailed
from gpu_runner.oracle.elements import smallest_subnormal
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import DType, Problem, Workload
from gpu_runner.problem import Tensor as Spec

TEMPORARY_BYTES: Final = 8 << 30
"""How much memory an evaluation may take before it goes in parts, where it can."""
_TEMPORARIES: Final = 12
"""Arrays of float64, of the size of all tensors together, that a reference keeps at once."""
_INTEGER_BOUND: Final = 0.5

Named = Mapping[str, Tensor]
Answer = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Numbers and bounds by output name, float64."""
_Scalars = tuple[float | int, ...]
_Shapes = list[tuple[int, ...]]
_Rows = slice | tuple[()]


class TorchReference:
    """Evaluates a reference on one device; raises whatever the reference raises."""

    def __init__(
        self, problem: Problem, device: str, *, temporary_bytes: int = TEMPORARY_BYTES
    ) -> None:
        """Bind a problem; its source runs at the first question."""
        self.places_new_tensors = False
        """Whether tensors that the reference makes are put on the device: a wait for each."""
        self._problem = problem
        self._device = device
        self._temporary_bytes = temporary_bytes

    def answer(self, workload: Workload, inputs: Named) -> Answer:
        """Return answers and bounds for the inputs of one call."""
        scalars = self._problem.scalar_values(workload)
        parts = []
        for rows in self._chunks(workload):
            arrays = self._arrays(inputs, rows)
            parts.append(self._evaluate(arrays, scalars, self._shapes(workload, rows)))
        return self._named([part[0] for part in parts]), self._named([part[1] for part in parts])

    def answer_stacked(self, workload: Workload, inputs: Named) -> Answer:
        """Return answers and bounds [slots, *shape] for inputs [slots, *shape].

        As many slots as memory allows are evaluated at once, which costs as many kernels as one.
        """
        scalars = self._problem.scalar_values(workload)
        shapes = self._shapes(workload, ())
        slots = inputs[self._problem.inputs[0].name].shape[0]
        group = max(1, self._temporary_bytes // max(1, self._bytes_of_a_call(workload)))

        def evaluate(*arrays: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            return self._evaluate(arrays, scalars, shapes)

        parts = []
        for start in range(0, slots, group):
            part = {name: values[start : start + group] for name, values in inputs.items()}
            parts.append(torch.vmap(evaluate)(*self._arrays(part, ())))
        return self._named([part[0] for part in parts]), self._named([part[1] for part in parts])

    def narrow(self, workload: Workload, inputs: Named) -> dict[str, Tensor]:
        """Return what the reference answers in the tensors' own precision, rounded to their types.

        16-bit floats are computed in float32, as a good kernel does.
        """
        scalars = self._problem.scalar_values(workload)
        parts = []
        for rows in self._chunks(workload):
            told = self._told(self._arrays(inputs, rows, is_narrow=True))
            shapes = self._shapes(workload, rows)
            parts.append(self._run(told, scalars, shapes, is_narrow=True))
        numbers = self._named(parts)
        return {t.name: from_numbers(numbers[t.name], t.dtype) for t in self._problem.outputs}

    @property
    def _is_numpy(self) -> bool:
        return self._problem.array_type == "numpy"

    @cached_property
    def _module(self) -> dict[str, Any]:
        place = f"<reference of {self._problem.name}>"
        if self._is_numpy:
            return read_source(self._problem.reference, place)
        module: dict[str, Any] = {"__name__": "reference", "__file__": place}
        exec(compile(self._problem.reference, place, "exec"), module)  # noqa: S102 - the target's own code
        return module

    @cached_property
    def _rowwise_axis(self) -> str | None:
        return Oracle(self._problem).rowwise_axis

    def _bytes_of_a_call(self, workload: Workload) -> int:
        tensors = (*self._problem.inputs, *self._problem.outputs)
        elements = sum(math.prod(self._problem.shape(t, workload)) for t in tensors)
        return elements * DType.FLOAT64.item_bytes * _TEMPORARIES

    def _chunks(self, workload: Workload) -> Iterator[_Rows]:
        """Yield slices of the row-wise axis; the empty tuple, which indexes all, where one does."""
        needed = self._bytes_of_a_call(workload)
        axis = self._rowwise_axis if needed > self._temporary_bytes else None
        if axis is None:
            yield ()
            return
        rows = self._problem.sizes(workload)[axis]
        step = max(1, rows * self._temporary_bytes // needed)
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows))

    def _arrays(self, inputs: Named, rows: _Rows, *, is_narrow: bool = False) -> list[Tensor]:
        arrays = []
        for tensor in self._problem.inputs:
            values = inputs[tensor.name]
            if isinstance(rows, slice) and tensor.shape[:1] == (self._rowwise_axis,):
                values = values[rows]
            arrays.append(self._array(values, tensor.dtype, is_narrow=is_narrow))
        return arrays

    def _array(self, values: Tensor, dtype: DType, *, is_narrow: bool) -> Tensor:
        """Return the reference's own copy: float64, but for a torch reference's integers."""
        if not dtype.is_float and not self._is_numpy:
            return values.clone()
        if is_narrow and dtype.is_float and dtype is not DType.FLOAT64:
            return values.to(torch.float32, copy=True)
        return as_float64(values, dtype)

    def _shapes(self, workload: Workload, rows: _Rows) -> _Shapes:
        shapes = [self._problem.shape(tensor, workload) for tensor in self._problem.outputs]
        if isinstance(rows, slice):
            return [(rows.stop - rows.start, *shape[1:]) for shape in shapes]
        return shapes

    def _told(self, arrays: Sequence[Tensor]) -> list[Any]:
        return [to_array(array) for array in arrays] if self._is_numpy else list(arrays)

    def _placing(self) -> contextlib.AbstractContextManager[Any]:
        if self.places_new_tensors:
            return torch.device(self._device)
        return contextlib.nullcontext()

    def _evaluate(
        self, arrays: Sequence[Tensor], scalars: _Scalars, shapes: _Shapes
    ) -> tuple[list[Tensor], list[Tensor]]:
        told = self._told(arrays)
        numbers = self._run(told, scalars, shapes, is_narrow=False)
        if not callable(self._module.get("bound")):
            return numbers, [self._default(*pair) for pair in self._paired(numbers)]
        expected = self._told(numbers)
        with self._placing():
            answer = self._module["bound"](
                *told, *scalars, expected=expected[0] if len(expected) == 1 else tuple(expected)
            )
        limits = []
        for part, (tensor, number) in zip(self._parts(answer), self._paired(numbers), strict=True):
            if part is None:
                limits.append(self._default(tensor, number))
                continue
            limit = to_tensor(part, self._device).to(torch.float64)
            if limit.shape != number.shape:
                self._fail(f"bounds {tensor.name!r} in the shape {tuple(limit.shape)}")
            limits.append(_with_rounding(limit, number, tensor.dtype))
        return numbers, limits

    def _run(
        self, told: list[Any], scalars: _Scalars, shapes: _Shapes, *, is_narrow: bool
    ) -> list[Tensor]:
        with self._placing():
            answer = self._module["run"](*told, *scalars)
        may_be_narrow = is_narrow or not self._is_numpy
        numbers = []
        for tensor, shape, part in zip(
            self._problem.outputs, shapes, self._parts(answer), strict=True
        ):
            number = to_tensor(part, self._device)
            is_wide = number.dtype == torch.float64 or not number.is_floating_point()
            if number.is_complex() or not (is_wide or may_be_narrow):
                self._fail(f"answers {tensor.name!r} in {number.dtype}")
            if number.shape != shape:
                self._fail(f"answers {tensor.name!r} in the shape {tuple(number.shape)}")
            numbers.append(number if is_narrow else number.to(torch.float64))
        return numbers

    def _parts(self, answer: Any) -> list[Any]:
        names = [tensor.name for tensor in self._problem.outputs]
        if isinstance(answer, Mapping):
            return [answer[name] for name in names]
        parts = list(answer) if isinstance(answer, tuple | list) else [answer]
        if len(parts) != len(names):
            self._fail(f"answers {len(parts)} values for the outputs {names}")
        return parts

    def _paired(self, numbers: list[Tensor]) -> list[tuple[Spec, Tensor]]:
        return list(zip(self._problem.outputs, numbers, strict=True))

    def _default(self, tensor: Spec, number: Tensor) -> Tensor:
        tolerance = self._problem.tolerance
        if not tensor.dtype.is_float:
            return torch.full_like(number, tolerance.absolute or _INTEGER_BOUND)
        limit = number.abs() * (tolerance.relative_units * tensor.dtype.unit_roundoff)
        return limit + (tolerance.absolute + _subnormal_slack(tensor.dtype))

    def _named(self, parts: list[list[Tensor]]) -> dict[str, Tensor]:
        """Join each output's parts along the first axis, and name them."""
        several = zip(*parts, strict=True)
        return {
            tensor.name: torch.cat(pieces) if len(pieces) > 1 else pieces[0]
            for tensor, pieces in zip(self._problem.outputs, several, strict=True)
        }

    def _fail(self, text: str) -> NoReturn:
        raise ReferenceFailed(f"the reference of problem {self._problem.name!r} {text}")


def _with_rounding(limit: Tensor, number: Tensor, dtype: DType) -> Tensor:
    """Add the rounding of the answer to its output type."""
    if not dtype.is_float:
        return limit.clamp(min=_INTEGER_BOUND)
    return number.abs() * dtype.unit_roundoff + limit + _subnormal_slack(dtype)


def _subnormal_slack(dtype: DType) -> float:
    """Return two steps around zero, as the host's oracle allows."""
    return 2.0 * smallest_subnormal(dtype)
