import re
import subprocess
import sys

import numpy as np
import pytest

from gpu_runner.errors import ReferenceFailed
from gpu_runner.oracle.elements import as_float64, from_float64, numpy_dtype
from gpu_runner.oracle.reference import Expected, Oracle
from gpu_runner.problem import Axis, DType, Problem, Scalar, Tensor, Tolerance, Workload
from tests.builders import SOFTMAX_REFERENCE, make_problem, make_workload

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


# Answers ---------------------------------------------------------------------------------------


def test_answers_are_computed_in_double_precision():
    y = expected_of(SOFTMAX_REFERENCE).outputs["y"]
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, softmax64(X["x"]), rtol=1e-15)


@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float])
def test_raw_inputs_of_every_float_type_are_understood(dtype):
    problem = problem_of(PLAIN, inputs=(Tensor(name="x", shape=("B", "N"), dtype=dtype),))
    raw = from_float64(X["x"].astype(np.float64), dtype)
    y = Oracle(problem).expected(make_workload(), {"x": raw}).outputs["y"]
    np.testing.assert_array_equal(y, as_float64(raw, dtype) * 2)


def test_inputs_are_not_modified_by_a_reference_that_works_in_place():
    before = X["x"].copy()
    expected_of("def run(x):\n    x *= 2\n    return x\n")
    np.testing.assert_array_equal(X["x"], before)


def test_scalars_follow_the_tensors_in_order_with_their_kinds():
    scalars = (Scalar(name="power", kind="int"), Scalar(name="eps", default=0.5))
    reference = (
        "def run(x, power, eps):\n    assert type(power) is int\n    return x**power + eps\n"
    )
    workload = make_workload(scalars={"power": 3})
    y = expected_of(reference, scalars=scalars, workload=workload).outputs["y"]
    np.testing.assert_allclose(y, X["x"].astype(np.float64) ** 3 + 0.5)


def test_nan_and_infinity_pass_through():
    x = X["x"].copy()
    x[0, 3], x[1, 4] = np.nan, -np.inf
    reference = SOFTMAX_REFERENCE.split("def bound")[0]
    y = expected_of(reference, {"x": x}).outputs["y"]
    assert np.isnan(y[0]).all()
    assert y[1, 4] == 0.0
    assert np.isfinite(y[1:]).all()


@pytest.mark.parametrize(
    "answer",
    ["(x, x.max(-1))", "[x, x.max(-1)]", "{'top': x.max(-1), 'y': x}"],
)
def test_several_outputs_come_as_a_tuple_a_list_or_by_name(answer):
    problem = two_outputs(f"def run(x):\n    return {answer}\n")
    outputs = Oracle(problem).expected(make_workload(), X).outputs
    np.testing.assert_array_equal(outputs["y"], X["x"])
    np.testing.assert_array_equal(outputs["top"], X["x"].max(-1))


def test_an_output_without_axes_may_be_a_plain_number():
    outputs = (Tensor(name="y", shape=(), dtype=DType.FLOAT32),)
    expected = expected_of("def run(x):\n    return float(x.sum())\n", outputs=outputs)
    assert expected.outputs["y"].shape == ()
    assert expected.outputs["y"] == pytest.approx(X["x"].sum(dtype=np.float64))


def test_whole_and_boolean_answers_become_numbers():
    outputs = (Tensor(name="y", shape=("B", "N"), dtype=DType.BOOL),)
    expected = expected_of("def run(x):\n    return x > 0\n", outputs=outputs)
    np.testing.assert_array_equal(expected.outputs["y"], (X["x"] > 0).astype(float))
    assert (expected.bounds["y"] == 0.5).all()


def test_the_source_runs_once_for_many_questions():
    oracle = Oracle(problem_of("calls = []\n\n\ndef run(x):\n    calls.append(1)\n    return x\n"))
    for _ in range(3):
        oracle.expected(make_workload(), X)
    assert len(oracle._module["calls"]) == 3


def test_empty_workloads_have_empty_answers():
    workload = make_workload(axes={"B": 0, "N": 4})
    inputs = {"x": np.empty((0, 4), np.float32)}
    for reference in (PLAIN, CHUNKED + PLAIN):
        assert expected_of(reference, inputs, workload=workload).outputs["y"].shape == (0, 4)


# Bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float])
def test_the_default_bound_is_relative_in_the_outputs_own_roundoff(dtype):
    expected = expected_of(
        PLAIN,
        outputs=(Tensor(name="y", shape=("B", "N"), dtype=dtype),),
        tolerance=Tolerance(relative_units=6, absolute=1e-3),
    )
    y = np.abs(expected.outputs["y"])
    np.testing.assert_allclose(expected.bounds["y"], 6 * dtype.unit_roundoff * y + 1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float])
def test_rounding_the_truth_uses_at_most_a_quarter_of_the_default_bound(dtype):
    """Also among subnormals and at zero: a correctly rounded answer has the margin of 4."""
    outputs = (Tensor(name="y", shape=("B", "N"), dtype=dtype),)
    scales = np.exp2(np.linspace(-160, 3, 8 * 128)).reshape(8, 128)
    inputs = (Tensor(name="x", shape=("B", "N"), dtype=DType.FLOAT64),)
    expected = expected_of(PLAIN, {"x": scales / 3}, inputs=inputs, outputs=outputs)
    y = expected.outputs["y"]
    rounded = as_float64(from_float64(y, dtype), dtype)
    assert (np.abs(rounded - y) <= expected.bounds["y"] / 4).all()
    assert (expected.bounds["y"] > 0).all()


def test_whole_outputs_must_be_exact_unless_the_tolerance_says_otherwise():
    outputs = (Tensor(name="y", shape=("B", "N"), dtype=DType.INT32),)
    strict = expected_of("def run(x):\n    return x // 1\n", outputs=outputs)
    loose = expected_of(
        "def run(x):\n    return x // 1\n", outputs=outputs, tolerance=Tolerance(absolute=1)
    )
    assert (strict.bounds["y"] == 0.5).all()
    assert (loose.bounds["y"] == 1.0).all()


def test_a_references_own_bound_is_taken_and_the_final_rounding_added():
    reference = PLAIN + "\n\ndef bound(x, expected):\n    return abs(expected) * 1e-6\n"
    expected = expected_of(reference)
    y = np.abs(expected.outputs["y"])
    np.testing.assert_allclose(expected.bounds["y"], (1e-6 + 2.0**-24) * y, rtol=1e-9)


def test_a_bound_is_told_inputs_scalars_and_answer():
    reference = (
        "def run(x, eps):\n    return x + eps\n\n\n"
        "def bound(x, eps, expected):\n    return abs(expected - x) + eps\n"
    )
    expected = expected_of(reference, scalars=(Scalar(name="eps", default=0.25),))
    np.testing.assert_allclose(expected.bounds["y"], 0.5, atol=1e-6)


def test_one_output_may_keep_the_default_bound():
    reference = (
        "def run(x):\n    return x, x.max(-1)\n\n\n"
        "def bound(x, expected):\n    y, top = expected\n    return None, top * 0 + 3\n"
    )
    expected = Oracle(two_outputs(reference)).expected(make_workload(), X)
    assert expected.bounds["y"].max() < 1e-5
    np.testing.assert_allclose(expected.bounds["top"], 3, rtol=1e-6)


def test_a_bound_below_half_of_a_whole_number_is_half():
    reference = "def run(x):\n    return x // 1\n\n\ndef bound(x, expected):\n    return x * 0\n"
    outputs = (Tensor(name="y", shape=("B", "N"), dtype=DType.INT8),)
    assert (expected_of(reference, outputs=outputs).bounds["y"] == 0.5).all()


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ("x[:, :1]", r"bounds 'y' in the shape \(8, 1\), not \(8, 128\)"),
        ("-abs(x) - 1", r"bounds 'y' at \(0, 0\) by no number from 0 up"),
        ("x * float('nan')", r"bounds 'y' at \(0, 0\) by no number"),
        ("(x, x)", r"bound\(\) answers 2 values for the outputs \['y'\]"),
        ("1 / 0", r"raised ZeroDivisionError in bound\(\), line 6"),
    ],
)
def test_a_senseless_bound_is_refused(bound, words):
    text = failure(PLAIN + f"\n\ndef bound(x, expected):\n    return {bound}\n")
    assert re.search(words, text), text


def test_a_bound_need_not_be_finite_where_the_answer_is_not():
    x = X["x"].copy()
    x[2] = np.nan
    expected = expected_of(SOFTMAX_REFERENCE, {"x": x})
    assert np.isnan(expected.bounds["y"][2]).all()
    assert np.isfinite(expected.bounds["y"][3]).all()


# Rows in chunks --------------------------------------------------------------------------------


@pytest.mark.parametrize("elements", [1, 128, 129, 300, 1 << 20])
def test_chunks_do_not_change_answers_or_bounds(elements):
    whole = expected_of(SOFTMAX_REFERENCE)
    problem = problem_of(SOFTMAX_REFERENCE + "\n" + CHUNKED)
    chunked = Oracle(problem, chunk_elements=elements).expected(make_workload(), X)
    np.testing.assert_allclose(chunked.outputs["y"], whole.outputs["y"], rtol=1e-14)
    np.testing.assert_allclose(chunked.bounds["y"], whole.bounds["y"], rtol=1e-14)


def test_chunks_see_part_of_row_inputs_and_all_of_others():
    reference = CHUNKED + (
        "shapes = []\n\n\ndef run(x, w):\n    shapes.append((x.shape, w.shape))\n    return x * w\n"
    )
    tensors = (
        Tensor(name="x", shape=("B", "N"), dtype=DType.FLOAT32),
        Tensor(name="w", shape=("N",), dtype=DType.FLOAT32),
    )
    problem = problem_of(reference, inputs=tensors)
    oracle = Oracle(problem, chunk_elements=384)
    inputs = {**X, "w": np.arange(128, dtype=np.float32)}
    y = oracle.expected(make_workload(), inputs).outputs["y"]
    np.testing.assert_array_equal(y, X["x"].astype(np.float64) * inputs["w"])
    assert oracle._module["shapes"] == [((3, 128), (128,)), ((3, 128), (128,)), ((2, 128), (128,))]


def test_rows_without_inputs_of_their_own_are_allowed():
    reference = "import numpy as np\n\nROWWISE = 'B'\n\n\ndef run(x):\n    return x\n"
    assert Oracle(problem_of(reference)).rowwise_axis == "B"
    assert Oracle(problem_of(PLAIN)).rowwise_axis is None


def test_rows_must_be_the_first_axis_of_every_output():
    assert "declares ROWWISE = 'N', not the first axis of 'y'" in failure("ROWWISE='N'\n" + PLAIN)
    text = failure(
        "ROWWISE = 'B'\n" + PLAIN,
        inputs=(Tensor(name="x", shape=("N", "B"), dtype=DType.FLOAT32),),
    )
    assert "also an inner axis of 'x'" in text


def test_chunks_apply_to_the_reference_in_own_precision_too():
    problem = problem_of(SOFTMAX_REFERENCE + "\n" + CHUNKED)
    chunked = Oracle(problem, chunk_elements=200).same_precision(make_workload(), X)["y"]
    whole = Oracle(problem_of(SOFTMAX_REFERENCE)).same_precision(make_workload(), X)["y"]
    np.testing.assert_allclose(chunked, whole, rtol=1e-6)


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
