"""What is right: a problem's reference run in float64, and how far from it an answer may be.

The reference is the target's own source, trusted like configuration; it runs in the supervisor,
never where a candidate can see it. torch is imported only by a reference that asks for it.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import numpy as np

from gpu_runner.errors import ReferenceFailed
from gpu_runner.oracle.elements import (
    Numbers,
    Raw,
    as_float64,
    from_float64,
    smallest_subnormal,
)
from gpu_runner.problem import DType, Problem, Tensor, Tolerance, Workload

CHUNK_ELEMENTS: Final = 1 << 17
"""A megabyte of float64: stays in a core's second cache, and long enough to share out."""
_INTEGER_BOUND = 0.5
_FLOAT_KINDS: Final = "f"
_WHOLE_KINDS: Final = "iub"

Arrays = Mapping[str, Raw]
_Run = Callable[..., Any]
_Chunk = slice | tuple[()]
_MOST_THREADS = 4
_FEWEST_SHARED_CHUNKS = 4
"""Fewer chunks are done before a second thread has started on its own."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Right answers and elementwise bounds, by output name; float64, in the output's shape."""

    outputs: dict[str, Numbers]
    bounds: dict[str, Numbers]
    """Above zero wherever the answer is finite."""


class Oracle:
    """Answers what a call should give.

    A reference may define beside `run(*inputs, *scalars)`:

    - `bound(*inputs, *scalars, expected=...)`: elementwise absolute bounds of the error made before
      the answer is rounded to its output type; that rounding is added here. `expected` and the
      result are one array, or a tuple in the order of the outputs, None for the default bound.
    - `ROWWISE = "B"`: calls are independent along this axis, the first of all outputs. Evaluation
      then goes in chunks that stay in cache; inputs without the axis are passed whole.

    A numpy reference gets every input as float64. A torch reference gets floats as float64,
    integers and bools as their own types, since published ones index with them.
    """

    def __init__(self, problem: Problem, *, chunk_elements: int = CHUNK_ELEMENTS) -> None:
        """Bind a problem; its source runs at the first question."""
        self._problem = problem
        self._chunk_elements = chunk_elements

    def expected(self, workload: Workload, inputs: Arrays) -> Expected:
        """Return answers and bounds for raw inputs.

        Raises:
            ReferenceFailed: the reference raised, or answered with a wrong shape, a wrong type, or
                no finite number for finite inputs; names which and the remedy.
        """
        outputs = self._empty(workload)
        bounds = self._empty(workload)
        scalars = self._problem.scalar_values(workload)

        def answer(chunk: _Chunk) -> None:
            with np.errstate(all="ignore"):  # NaN and infinity are looked for, not warned of
                arrays = self._arrays(inputs, chunk)
                answered = self._ask("run", *arrays, *scalars)
                numbers = self._numbers(answered, workload, chunk, is_strict=True)
                limits = self._bounds(arrays, scalars, numbers, workload, chunk)
                for tensor, number, limit in zip(
                    self._problem.outputs, numbers, limits, strict=True
                ):
                    if not np.isfinite(number.sum()):
                        self._expect_finite(number, tensor, inputs)
                    outputs[tensor.name][chunk] = number
                    bounds[tensor.name][chunk] = limit

        chunks = list(self._chunks(workload))
        if len(chunks) >= _FEWEST_SHARED_CHUNKS and self._problem.array_type == "numpy":
            # Subjects are frozen while answers are computed, so every processor is free for it.
            list(self._threads.map(answer, chunks))
        else:
            for chunk in chunks:
                answer(chunk)
        return Expected(outputs=outputs, bounds=bounds)

    def same_precision(self, workload: Workload, inputs: Arrays) -> dict[str, Raw]:
        """Return what the reference answers in the tensors' own precision, raw.

        16-bit floats are computed in float32 and rounded at the end, as a good kernel does.

        Raises:
            ReferenceFailed: as `expected`.
        """
        results = {
            tensor.name: np.empty(
                self._problem.shape(tensor, workload),
                dtype=from_float64(np.zeros(()), tensor.dtype).dtype,
            )
            for tensor in self._problem.outputs
        }
        for chunk in self._chunks(workload):
            arrays = self._arrays(inputs, chunk, is_narrow=True)
            answer = self._ask("run", *arrays, *self._problem.scalar_values(workload))
            numbers = self._numbers(answer, workload, chunk, is_strict=False)
            for tensor, number in zip(self._problem.outputs, numbers, strict=True):
                results[tensor.name][chunk] = from_float64(number, tensor.dtype)
        return results

    @property
    def rowwise_axis(self) -> str | None:
        """The axis that the reference declares independent, or None.

        Raises:
            ReferenceFailed: the declaration does not hold for the problem's tensors.
        """
        axis = self._module.get("ROWWISE")
        if axis is None:
            return None
        for tensor in self._problem.outputs:
            if axis not in tensor.shape[:1]:
                self._fail(f"declares ROWWISE = {axis!r}, not the first axis of {tensor.name!r}")
        for tensor in (*self._problem.inputs, *self._problem.outputs):
            if axis in tensor.shape[1:]:
                self._fail(f"declares ROWWISE = {axis!r}, also an inner axis of {tensor.name!r}")
        return str(axis)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1))

    @cached_property
    def _module(self) -> dict[str, Any]:
        name = f"<reference of {self._problem.name}>"
        module: dict[str, Any] = {"__name__": "reference", "__file__": name}
        with _Blame(self._problem.name, name, "while it was read"):
            exec(compile(self._problem.reference, name, "exec"), module)  # noqa: S102 - the target's own code
        if not callable(module.get("run")):
            self._fail("does not define run(*inputs, *scalars)")
        return module

    def _ask(self, function: str, *arguments: Any, **named: Any) -> Any:
        call: _Run = self._module[function]
        place = f"<reference of {self._problem.name}>"
        with _Blame(self._problem.name, place, f"in {function}()"), np.errstate(all="ignore"):
            return call(*arguments, **named)

    def _chunks(self, workload: Workload) -> Iterator[_Chunk]:
        """Yield slices of the row-wise axis; the empty tuple, which indexes all, without one."""
        axis = self.rowwise_axis
        if axis is None:
            yield ()
            return
        rows = self._problem.sizes(workload)[axis]
        tensors = (*self._problem.inputs, *self._problem.outputs)
        widths = [
            int(np.prod(self._problem.shape(tensor, workload)[1:]))
            for tensor in tensors
            if tensor.shape[:1] == (axis,)
        ]
        step = max(1, self._chunk_elements // max(1, *widths))
        for start in range(0, max(rows, 1), step):
            yield slice(start, min(start + step, rows))

    def _arrays(self, inputs: Arrays, chunk: _Chunk, *, is_narrow: bool = False) -> list[Any]:
        axis = self.rowwise_axis
        arrays: list[Any] = []
        for tensor in self._problem.inputs:
            raw = inputs[tensor.name]
            part = raw[chunk] if axis is not None and tensor.shape[:1] == (axis,) else raw
            arrays.append(self._array(np.asarray(part), tensor.dtype, is_narrow=is_narrow))
        return arrays

    def _array(self, raw: Raw, dtype: DType, *, is_narrow: bool) -> Any:
        if self._problem.array_type == "numpy":
            values = as_float64(raw, dtype)
            is_single = is_narrow and dtype.is_float and dtype is not DType.FLOAT64
            return values.astype(np.float32) if is_single else values
        import torch  # noqa: PLC0415 - only a reference written for torch may cost its import

        if not dtype.is_float:
            return torch.from_numpy(raw.copy())
        values = as_float64(raw, dtype)
        is_single = is_narrow and dtype is not DType.FLOAT64
        return torch.from_numpy(values).to(torch.float32 if is_single else torch.float64)

    def _empty(self, workload: Workload) -> dict[str, Numbers]:
        return {t.name: np.empty(self._problem.shape(t, workload)) for t in self._problem.outputs}

    def _numbers(
        self,
        answer: Any,
        workload: Workload,
        chunk: _Chunk,
        *,
        is_strict: bool,
    ) -> list[Numbers]:
        """Return one float64 array for each output, of the shape it must have."""
        parts = self._parts(answer, "run")
        is_torch = self._problem.array_type == "torch"
        numbers = []
        for tensor, part in zip(self._problem.outputs, parts, strict=True):
            values = _to_numpy(part)
            may_be_narrow = is_torch or not is_strict
            is_float = values.dtype == np.float64 or (may_be_narrow and values.dtype.kind == "f")
            if not is_float and values.dtype.kind not in _WHOLE_KINDS:
                hint = "the inputs are float64: drop the cast" if values.dtype.kind == "f" else ""
                self._fail(f"answers {tensor.name!r} in {values.dtype}, not float64", hint)
            shape = self._chunk_shape(tensor, workload, chunk)
            if values.shape != shape:
                self._fail(f"answers {tensor.name!r} in the shape {values.shape}, not {shape}")
            numbers.append(values.astype(np.float64, copy=False))
        return numbers

    def _parts(self, answer: Any, function: str) -> Sequence[Any]:
        names = [tensor.name for tensor in self._problem.outputs]
        if isinstance(answer, Mapping):
            if set(answer) != set(names):
                self._fail(f"{function}() answers {sorted(answer)}, not the outputs {names}")
            return [answer[name] for name in names]
        parts = list(answer) if isinstance(answer, tuple | list) else [answer]
        if len(parts) != len(names):
            self._fail(f"{function}() answers {len(parts)} values for the outputs {names}")
        return parts

    def _chunk_shape(self, tensor: Tensor, workload: Workload, chunk: _Chunk) -> tuple[int, ...]:
        shape = self._problem.shape(tensor, workload)
        if isinstance(chunk, slice):
            return (chunk.stop - chunk.start, *shape[1:])
        return shape

    def _bounds(
        self,
        arrays: list[Any],
        scalars: tuple[float | int, ...],
        numbers: list[Numbers],
        workload: Workload,
        chunk: _Chunk,
    ) -> list[Numbers]:
        defaults = self._problem.tolerance
        tensors = self._problem.outputs
        if not callable(self._module.get("bound")):
            return [_default_bound(n, t, defaults) for n, t in zip(numbers, tensors, strict=True)]
        told = [_like(n, arrays) for n in numbers]
        answer = self._ask(
            "bound", *arrays, *scalars, expected=told[0] if len(told) == 1 else tuple(told)
        )
        limits = []
        for tensor, number, part in zip(
            tensors, numbers, self._parts(answer, "bound"), strict=True
        ):
            if part is None:
                limits.append(_default_bound(number, tensor, defaults))
                continue
            limit = _to_numpy(part)
            shape = self._chunk_shape(tensor, workload, chunk)
            if limit.shape != shape:
                self._fail(f"bounds {tensor.name!r} in the shape {limit.shape}, not {shape}")
            self._expect_bound(limit, number, tensor)
            limits.append(_with_rounding(limit, number, tensor.dtype))
        return limits

    def _expect_bound(self, limit: Numbers, number: Numbers, tensor: Tensor) -> None:
        if limit.size and not (limit.min() >= 0 and np.isfinite(limit.sum())):
            is_bad = np.isfinite(number) & ~(np.isfinite(limit) & (limit >= 0))
            if is_bad.any():
                self._fail(f"bounds {tensor.name!r} at {_first(is_bad)} by no number from 0 up")

    def _expect_finite(self, number: Numbers, tensor: Tensor, inputs: Arrays) -> None:
        for given in self._problem.inputs:
            if given.dtype.is_float:
                values = as_float64(inputs[given.name], given.dtype)
                if not np.isfinite(values).all():
                    return
        is_bad = ~np.isfinite(number)
        if is_bad.any():
            value = number[is_bad].reshape(-1)[0]
            self._fail(
                f"answers {value} in {tensor.name!r} at {_first(is_bad)} for finite inputs",
                "compute it without overflow, or leave this profile out of the problem's profiles",
            )

    def _fail(self, text: str, remedy: str = "") -> NoReturn:
        raise ReferenceFailed(_sentence(self._problem.name, text, remedy))


class _Blame:
    """Translates whatever the reference raises; it is foreign code and may raise anything."""

    def __init__(self, problem: str, place: str, when: str) -> None:
        self._problem = problem
        self._place = place
        self._when = when

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception):
            return
        line = 0
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self._place:
                line = trace.tb_lineno
            trace = trace.tb_next
        if isinstance(error, SyntaxError):
            line = error.lineno or 0
        where = f"{self._when}, line {line}" if line else self._when
        text = f"raised {type(error).__name__} {where}: {error}"
        raise ReferenceFailed(_sentence(self._problem, text, "")) from error


def _sentence(problem: str, text: str, remedy: str) -> str:
    return f"the reference of problem {problem!r} {text}; {remedy or 'correct its source'}"


def _to_numpy(part: Any) -> Any:
    if hasattr(part, "detach"):
        tensor = part.detach().cpu()
        # numpy has no bfloat16; float64 holds every float exactly.
        return tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy()
    return np.asarray(part)


def _like(number: Numbers, arrays: list[Any]) -> Any:
    if any(hasattr(array, "detach") for array in arrays):
        import torch  # noqa: PLC0415 - loaded already: the inputs are its tensors

        return torch.from_numpy(number)
    return number


def _default_bound(number: Numbers, tensor: Tensor, tolerance: Tolerance) -> Numbers:
    dtype = tensor.dtype
    if not dtype.is_float:
        return np.full(number.shape, tolerance.absolute or _INTEGER_BOUND)
    limit = np.abs(number)
    limit *= tolerance.relative_units * dtype.unit_roundoff
    limit += tolerance.absolute + _subnormal_slack(dtype)
    return np.asarray(limit)


def _with_rounding(limit: Numbers, number: Numbers, dtype: DType) -> Numbers:
    """Add the rounding of the answer to its output type."""
    if not dtype.is_float:
        return np.maximum(limit, _INTEGER_BOUND)
    rounding = np.abs(number)
    rounding *= dtype.unit_roundoff
    rounding += limit
    rounding += _subnormal_slack(dtype)
    return np.asarray(rounding)


def _subnormal_slack(dtype: DType) -> float:
    """Return two steps around zero.

    There a right rounding errs by half a step however small the answer is; four times that keeps
    the margin that admission asks of right answers.
    """
    return 2.0 * smallest_subnormal(dtype)


def _first(where: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(where)[0])
