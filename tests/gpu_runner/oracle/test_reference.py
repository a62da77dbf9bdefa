import re

import numpy as np
import pytest

from gpu_runner.oracle.elements import as_float64, from_float64
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import DType, Scalar, Tensor, Tolerance
from tests.builders import SOFTMAX_REFERENCE, make_workload
from tests.gpu_runner.oracle.asked import (
    CHUNKED,
    PLAIN,
    X,
    expected_of,
    failure,
    problem_of,
    softmax64,
    two_outputs,
)

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
