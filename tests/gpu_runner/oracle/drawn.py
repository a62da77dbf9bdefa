"""Problems, contents and near-duplicates that several tests of contents need."""

import numpy as np

from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import numpy_dtype
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import (
    Axis,
    DType,
    InputRule,
    Problem,
    ProfileName,
    Tensor,
    Workload,
)
from tests.builders import make_problem, make_workload

KEY = bytes(range(16))

LINEAR = """
import numpy as np


def run(x, w, b):
    return np.einsum("mk,nk->mn", x, w) + b


def bound(x, w, b, expected):
    size = np.einsum("mk,nk->mn", np.abs(x), np.abs(w)) + np.abs(b)
    return 2.0**-24 * (8 + 2 * np.sqrt(x.shape[1])) * size
"""
RELU = "import numpy as np\n\n\ndef run(x):\n    return np.maximum(x, 0)\n"
MAXIMUM = "def run(x):\n    return x.max(axis=-1)\n"


def linear_problem(dtype: DType = DType.FLOAT32, **changes) -> Problem:
    values = {
        "name": "linear",
        "axes": tuple(Axis(name=n, kind="var") for n in ("M", "N", "K")),
        "inputs": (
            Tensor(name="x", shape=("M", "K"), dtype=dtype),
            Tensor(name="w", shape=("N", "K"), dtype=dtype),
            Tensor(name="b", shape=("N",), dtype=dtype),
        ),
        "outputs": (Tensor(name="y", shape=("M", "N"), dtype=dtype),),
        "reference": LINEAR,
        "rules": (
            InputRule(input="w", role="parameter", low=-0.5, high=1.5),
            InputRule(input="b", role="parameter", low=-1, high=1),
        ),
        "library_ops": (),
        "flops": "2 * M * N * K",
    }
    return make_problem(**{**values, **changes})


def linear_workload(**changes) -> Workload:
    return make_workload(**{"axes": {"M": 5, "N": 7, "K": 33}, **changes})


def one_input(dtype: DType, *rules: InputRule, **changes) -> Problem:
    """ReLU of one input of a type, answered in the same type."""
    values = {
        "inputs": (Tensor(name="x", shape=("B", "N"), dtype=dtype),),
        "outputs": (Tensor(name="y", shape=("B", "N"), dtype=dtype),),
        "rules": rules,
        "reference": RELU,
    }
    return make_problem(**{**values, **changes})


def arrays(problem: Problem, workload: Workload) -> dict[str, np.ndarray]:
    return {
        t.name: np.zeros(problem.shape(t, workload), dtype=numpy_dtype(t.dtype))
        for t in problem.inputs
    }


def filled(
    problem: Problem,
    workload: Workload,
    *,
    call: int = 0,
    profile: ProfileName | None = None,
    key: bytes = KEY,
) -> dict[str, np.ndarray]:
    into = arrays(problem, workload)
    Contents(problem, workload, key).fill(into, call=call, profile=profile)
    return into


def near(problem, workload, source, *, call: int) -> dict[str, np.ndarray]:
    into = arrays(problem, workload)
    Contents(problem, workload, KEY).perturb(source, into, call=call)
    return into


def moved(problem, workload, before, after) -> float:
    """By how many bounds the right answer moves."""
    oracle = Oracle(problem)
    first, second = oracle.expected(workload, before), oracle.expected(workload, after)
    return max(
        float((np.abs(second.outputs[n] - first.outputs[n]) / first.bounds[n]).max())
        for n in first.outputs
    )
