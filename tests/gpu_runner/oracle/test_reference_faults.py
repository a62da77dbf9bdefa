import subprocess
import sys

import numpy as np
import pytest

from gpu_runner.errors import ReferenceFailed
from gpu_runner.oracle.elements import as_float64, from_float64, numpy_dtype
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import Axis, DType, Tensor, Workload
from tests.builders import SOFTMAX_REFERENCE, make_workload
from tests.gpu_runner.oracle.asked import PLAIN, X, expected_of, failure, problem_of, softmax64

# Own precision ---------------------------------------------------------------------------------


def test_own_precision_of_float32_is_float32_arithmetic():
    y = Oracle(problem_of(SOFTMAX_REFERENCE)).same_precision(make_workload(), X)["y"]
    assert y.dtype == np.float32
    error = np.abs(y.astype(np.float64) / softmax64(X["x"]) - 1)
    assert 0 < error.max() < 1e-5


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_own_precision_of_sixteen_bits_computes_in_float32_and_rounds_once(dtype):
    tensors = [Tensor(name=n, shape=("B", "N"), dtype=dtype) for n in ("x", "y")]
    reference = "def run(x):\n    assert x.itemsize in (4, 8), x.dtype\n    return x / 3\n"
    problem = problem_of(reference, inputs=(tensors[0],), outputs=(tensors[1],))
    raw = from_float64(X["x"].astype(np.float64), dtype)
    y = Oracle(problem).same_precision(make_workload(), {"x": raw})["y"]
    assert y.dtype == numpy_dtype(dtype)
    third = (as_float64(raw, dtype).astype(np.float32) / np.float32(3)).astype(np.float64)
    np.testing.assert_array_equal(y, from_float64(third, dtype))


def test_own_precision_of_whole_numbers_is_exact():
    tensors = (
        Tensor(name="a", shape=("B", "N"), dtype=DType.INT8),
        Tensor(name="b", shape=("B", "N"), dtype=DType.INT8),
    )
    outputs = (Tensor(name="y", shape=("B",), dtype=DType.INT32),)
    problem = problem_of(
        "def run(a, b):\n    return (a * b).sum(-1)\n", inputs=tensors, outputs=outputs
    )
    generator = np.random.default_rng(5)
    inputs = {n: generator.integers(-128, 128, (8, 128), dtype=np.int8) for n in ("a", "b")}
    y = Oracle(problem).same_precision(make_workload(), inputs)["y"]
    exact = (inputs["a"].astype(np.int64) * inputs["b"]).sum(-1)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, exact)


# What a reference can do wrong ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("def run(x:\n    return x\n", "raised SyntaxError while it was read, line 1"),
        ("import nonexistent_module\n", "raised ModuleNotFoundError while it was read, line 1"),
        ("def compute(x):\n    return x\n", "does not define run(*inputs, *scalars)"),
        ("run = 3\n", "does not define run("),
        (
            "def run(x):\n    y = x\n    return y.nope\n",
            "raised AttributeError in run(), line 3: 'numpy.ndarray' object has no attribute",
        ),
        (
            "class Odd(Exception): ...\n\n\ndef run(x):\n    raise Odd('no')\n",
            "raised Odd in run()",
        ),
        ("def run(x, y):\n    return x\n", "raised TypeError in run()"),
        ("def run(x):\n    return x[:, :5]\n", "in the shape (8, 5), not (8, 128)"),
        ("def run(x):\n    return x.T\n", "in the shape (128, 8), not (8, 128)"),
        ("def run(x):\n    return x, x\n", "answers 2 values for the outputs ['y']"),
        ("def run(x):\n    return {'z': x}\n", "answers ['z'], not the outputs ['y']"),
        ("def run(x):\n    return None\n", "answers 'y' in object"),
        ("def run(x):\n    return 'text'\n", "answers 'y' in <U4"),
        ("def run(x):\n    return x + 1j\n", "answers 'y' in complex128"),
        (
            "import numpy as np\n\n\ndef run(x):\n    return x.astype(np.float32)\n",
            "answers 'y' in float32, not float64; the inputs are float64: drop the cast",
        ),
        ("def run(x):\n    return x / (x - x)\n", "for finite inputs"),
        (
            "import numpy as np\n\n\ndef run(x):\n    return np.log(x)\n",
            "answers nan in 'y' at (0, 0)",
        ),
        (
            "import numpy as np\n\n\ndef run(x):\n    return np.exp(x * 1e4)\n",
            "answers inf in 'y' at",
        ),
    ],
)
def test_a_wrong_reference_is_blamed_with_reason_and_remedy(reference, words):
    text = failure(reference)
    assert words in text
    assert text.startswith("the reference of problem 'softmax' ")
    assert "; " in text


def test_the_original_exception_is_kept():
    with pytest.raises(ReferenceFailed) as caught:
        expected_of("def run(x):\n    return x / [] \n")
    assert caught.value.__cause__ is not None


def test_an_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        expected_of("def run(x):\n    raise KeyboardInterrupt\n")


def test_infinite_answers_for_infinite_inputs_are_no_fault():
    x = X["x"].copy()
    x[0, 0] = np.inf
    assert np.isinf(expected_of(PLAIN, {"x": x}).outputs["y"][0, 0])


# Torch -----------------------------------------------------------------------------------------

TORCH = "import torch\n\n\ndef run(x):\n    return torch.softmax(x, -1)\n"


def test_a_torch_reference_gets_double_tensors():
    expected = expected_of(TORCH, array_type="torch")
    np.testing.assert_allclose(expected.outputs["y"], softmax64(X["x"]), rtol=1e-14)


def test_a_torch_reference_may_answer_in_its_own_types():
    reference = "import torch\n\n\ndef run(x):\n    return (x * 2).to(torch.bfloat16)\n"
    expected = expected_of(reference, array_type="torch")
    bits = from_float64(X["x"].astype(np.float64) * 2, DType.BFLOAT16)
    np.testing.assert_array_equal(expected.outputs["y"], as_float64(bits, DType.BFLOAT16))


def test_a_torch_reference_may_index_with_whole_inputs():
    tensors = (
        Tensor(name="x", shape=("B", "N"), dtype=DType.FLOAT32),
        Tensor(name="rows", shape=("B",), dtype=DType.INT64),
    )
    problem = problem_of(
        "def run(x, rows):\n    return x[rows]\n", inputs=tensors, array_type="torch"
    )
    rows = np.array([7, 0, 3, 3, 1, 2, 5, 6])
    y = Oracle(problem).expected(make_workload(), {**X, "rows": rows}).outputs["y"]
    np.testing.assert_array_equal(y, X["x"][rows])


def test_a_torch_reference_may_bound_with_tensors():
    reference = TORCH + (
        "\n\ndef bound(x, expected):\n    assert torch.is_tensor(expected)\n"
        "    return expected * 0 + 2\n"
    )
    np.testing.assert_allclose(expected_of(reference, array_type="torch").bounds["y"], 2)


def test_a_torch_reference_runs_in_own_precision():
    reference = "def run(x):\n    assert x.element_size() == 4\n    return x / 3\n"
    problem = problem_of(reference, array_type="torch")
    y = Oracle(problem).same_precision(make_workload(), X)["y"]
    np.testing.assert_array_equal(y, X["x"] / np.float32(3))


def test_torch_is_not_imported_for_a_numpy_reference():
    """The supervisor must start fast and hold no torch; only a torch reference may load it."""
    code = (
        "import sys, numpy as np\n"
        "from gpu_runner.oracle import admission, compare, contents, elements, reference\n"
        "from gpu_runner import decision, definitions, statistics\n"
        "from tests.builders import make_problem, make_workload\n"
        "x = {'x': np.ones((8, 128), np.float32)}\n"
        "reference.Oracle(make_problem()).expected(make_workload(), x)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shapes_follow_the_workload():
    problem = problem_of(
        PLAIN,
        axes=(
            Axis(name="B", kind="var"),
            Axis(name="N", kind="const", value=4),
            Axis(name="H", kind="expr", expression="N * 2"),
        ),
        inputs=(Tensor(name="x", shape=("B", "H"), dtype=DType.FLOAT32),),
        outputs=(Tensor(name="y", shape=("B", "H"), dtype=DType.FLOAT32),),
        flops="0",
    )
    workload = Workload(name="w", axes={"B": 3})
    y = Oracle(problem).expected(workload, {"x": np.ones((3, 8), np.float32)}).outputs["y"]
    assert y.shape == (3, 8)
