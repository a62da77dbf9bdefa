"""Compiles a recipe's text and calls it on buffers that end where memory ends.

A read or write beyond a tensor, before or behind it by up to a page, ends the test process.
"""

import ctypes
import mmap
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from gpu_runner.languages.header import problem_header
from gpu_runner.problem import DType, Problem, Workload

NUMPY = {DType.FLOAT32: np.float32, DType.INT8: np.int8}
_FLAGS = ("-std=c++17", "-O1", "-march=native", "-fopenmp", "-Wall", "-Wextra", "-Werror")
_PAGE = mmap.PAGESIZE
_UNWRITTEN = 0xFFC0DEAD
_LIBC = ctypes.CDLL(None, use_errno=True)

Arrays = dict[str, np.ndarray]
Kernel = Callable[[Workload, Mapping[str, np.ndarray]], Arrays]


def compiled(
    problem: Problem, text: str, folder: Path, *, threads: int = 1, flags: tuple[str, ...] = ()
) -> Kernel:
    """Return a function from inputs to outputs; later flags outdo the usual ones."""
    (folder / "problem.h").write_text(problem_header(problem))
    (folder / "kernel.cpp").write_text(text)
    command = ["g++", *_FLAGS, *flags, "-shared", "-fPIC", "kernel.cpp", "-o", "kernel.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    library = ctypes.CDLL(str(folder / "kernel.so"))

    def call(workload: Workload, inputs: Mapping[str, np.ndarray]) -> Arrays:
        held = [Fenced(problem.shape(t, workload), NUMPY[t.dtype]) for t in problem.inputs]
        given = [Fenced(problem.shape(t, workload), NUMPY[t.dtype]) for t in problem.outputs]
        for tensor, memory in zip(problem.inputs, held, strict=True):
            memory.array[...] = inputs[tensor.name]
        for memory in given:
            memory.array.view(np.uint32)[...] = _UNWRITTEN
        words = [struct.pack("Q", memory.address) for memory in (*held, *given)]
        words += [struct.pack("q", size) for size in problem.sizes(workload).values()]
        words += [
            struct.pack("d" if isinstance(value, float) else "q", value)
            for value in problem.scalar_values(workload)
        ]
        arguments = ctypes.create_string_buffer(b"".join([*words, struct.pack("q", threads)]))
        assert library.kp_run(arguments) == 0
        for tensor, memory in zip(problem.outputs, given, strict=True):
            left = np.count_nonzero(memory.array.view(np.uint32) == _UNWRITTEN)
            assert left == 0, f"{left} elements of {tensor.name} were not written"
        return {
            tensor.name: memory.array.copy()
            for tensor, memory in zip(problem.outputs, given, strict=True)
        }

    return call


class Fenced:
    """An array whose last byte is the last one before an unmapped page."""

    def __init__(self, shape: tuple[int, ...], dtype: type) -> None:
        count = int(np.prod(shape))
        size = count * np.dtype(dtype).itemsize
        pages = -(-size // _PAGE)
        self._map = mmap.mmap(-1, (pages + 2) * _PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for fence in (start, start + (pages + 1) * _PAGE):
            assert _LIBC.mprotect(ctypes.c_void_p(fence), _PAGE, 0) == 0
        offset = (pages + 1) * _PAGE - size
        self.address = start + offset
        self.array: np.ndarray = np.frombuffer(self._map, dtype, count, offset).reshape(shape)


def contents(problem: Problem, workload: Workload, profile: str, seed: int) -> Arrays:
    """Return inputs of one profile; parameters follow their rules."""
    rng = np.random.default_rng(seed)
    rules = {rule.input: rule for rule in problem.rules}
    made = {}
    for tensor in problem.inputs:
        shape, rule = problem.shape(tensor, workload), rules.get(tensor.name)
        if tensor.dtype is DType.INT8:
            made[tensor.name] = rng.integers(-127, 128, shape).astype(np.int8)
        elif rule is not None and rule.role == "parameter":
            made[tensor.name] = rng.uniform(rule.low, rule.high, shape).astype(np.float32)
        else:
            made[tensor.name] = _activation(rng, shape, profile).astype(np.float32)
    return made


def _activation(rng: np.random.Generator, shape: tuple[int, ...], profile: str) -> np.ndarray:
    values = rng.standard_normal(shape)
    match profile:
        case "offset":
            return values + 1e3
        case "large":
            return values * 1e4
        case "constant":
            return np.full(shape, 1.7)
        case "log_uniform":
            values = np.exp2(rng.uniform(-20, 20, shape)) * rng.choice([-1.0, 1.0], shape)
        case "nan_one":
            values.flat[rng.integers(values.size)] = np.nan
        case "inf_mask":
            values[rng.random(shape) < 0.3] = -np.inf
            values[..., 0] = 0.5
        case "sparse":
            values[rng.random(shape) < 0.9] = 0
    return values


def worst_error(problem: Problem, workload: Workload, inputs: Arrays, actual: Arrays) -> float:
    """Return the largest error over its bound; infinite where NaN is at the wrong places."""
    names: dict[str, Callable[..., object]] = {}
    exec(problem.reference, names)
    wide = [inputs[t.name].astype(np.float64) for t in problem.inputs]
    scalars = problem.scalar_values(workload)
    with np.errstate(all="ignore"):
        expected = names["run"](*wide, *scalars)
        bounds = names["bound"](*wide, *scalars, expected=expected)
        worst = 0.0
        for tensor, right, bound in zip(problem.outputs, _all(expected), _all(bounds), strict=True):
            got = actual[tensor.name].astype(np.float64)
            if not np.array_equal(np.isnan(got), np.isnan(right)):
                return np.inf
            error = np.abs(got - right)
            error[np.isnan(right) | (got == right)] = 0
            ratio = np.divide(error, bound, out=np.zeros_like(error), where=error > 0)
            worst = max(worst, float(ratio.max()))
    return worst


def _all(value: object) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)
