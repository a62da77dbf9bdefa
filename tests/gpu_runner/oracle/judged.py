"""Problems and expectations whose numbers a test chooses, for judges of either engine."""

import numpy as np

from gpu_runner.oracle.reference import Expected
from gpu_runner.problem import DType, Problem, Tensor
from tests.builders import make_problem


def problem_of(dtype: DType = DType.FLOAT32, outputs: int = 1) -> Problem:
    return make_problem(
        outputs=tuple(Tensor(name=f"y{i}", shape=("B", "N"), dtype=dtype) for i in range(outputs))
    )


def expected_of(*numbers, bounds: float | np.ndarray = 0.5) -> Expected:
    outputs = {f"y{i}": np.asarray(n, dtype=np.float64) for i, n in enumerate(numbers)}
    return Expected(
        outputs=outputs,
        bounds={n: np.broadcast_to(bounds, v.shape).astype(np.float64) for n, v in outputs.items()},
    )
