"""Questions to the oracle that several tests of references need."""

import numpy as np
import pytest

from gpu_runner.errors import ReferenceFailed
from gpu_runner.oracle.reference import Expected, Oracle
from gpu_runner.problem import DType, Problem, Tensor
from tests.builders import make_problem, make_workload

X = {"x": np.linspace(-3, 3, 8 * 128, dtype=np.float32).reshape(8, 128)}
PLAIN = "def run(x):\n    return x * 2\n"
CHUNKED = "ROWWISE = 'B'\n"


def problem_of(reference: str, **changes) -> Problem:
    return make_problem(reference=reference, **changes)


def expected_of(reference: str, given=None, *, workload=None, **changes) -> Expected:
    problem = problem_of(reference, **changes)
    return Oracle(problem).expected(workload or make_workload(), X if given is None else given)


def two_outputs(reference: str, **changes) -> Problem:
    outputs = (
        Tensor(name="y", shape=("B", "N"), dtype=DType.FLOAT32),
        Tensor(name="top", shape=("B",), dtype=DType.FLOAT32),
    )
    return problem_of(reference, **{"outputs": outputs, **changes})


def failure(reference: str, **changes) -> str:
    with pytest.raises(ReferenceFailed) as caught:
        expected_of(reference, **changes)
    return str(caught.value)


def softmax64(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
