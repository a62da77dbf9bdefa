import numpy as np
import pytest

from gpu_runner.oracle.admission import OWN_PRECISION, Admission, Unfitting, admit
from gpu_runner.problem import (
    Axis,
    DType,
    InputRule,
    Problem,
    ProfileName,
    Tensor,
    Tolerance,
    Workload,
)
from tests.builders import make_problem, make_workload

MANY = (ProfileName.NORMAL, ProfileName.LARGE, ProfileName.ZEROS, ProfileName.ONE_HOT)
WORKLOADS = (
    make_workload(),
    make_workload(name="wide", axes={"B": 2, "N": 1000}),
    make_workload(name="odd", axes={"B": 3, "N": 33}, visibility="hidden"),
)
MEAN_OF_SOFTMAX = """
import numpy as np


def run(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).mean(axis=-1)
"""
ADD = "def run(x, b):\n    return x + b\n"
IGNORES_BIAS = "def run(x, b):\n    return x * 2\n"
GATHER = "def run(x, rows):\n    return x[rows.astype(int)]\n"


def softmax32(workload: Workload, inputs) -> dict[str, np.ndarray]:
    x = inputs["x"]
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return {"y": e / e.sum(axis=-1, keepdims=True)}


def two_inputs(reference: str, *, kind=DType.FLOAT32, shape=("N",), **changes) -> Problem:
    values = {
        "inputs": (
            Tensor(name="x", shape=("B", "N"), dtype=DType.FLOAT32),
            Tensor(name="b", shape=shape, dtype=kind),
        ),
        "reference": reference,
        "tolerance": Tolerance(relative_units=16, absolute=1e-5),
    }
    return make_problem(**{**values, **changes})


def refusal(problem: Problem, workloads=WORKLOADS, trusted=None) -> str:
    with pytest.raises(Unfitting) as caught:
        admit(problem, workloads, trusted or {})
    return str(caught.value)


# Good targets ----------------------------------------------------------------------------------


def test_a_softmax_is_admitted_with_room_to_spare():
    admission = admit(make_problem(profiles=MANY), WORKLOADS, {"plain": softmax32})
    assert set(admission.margins) == {OWN_PRECISION, "plain"}
    assert min(admission.margins.values()) >= 4
    assert admission.caught == (
        "zeros",
        "any constant",
        "float16 arithmetic",
        "bfloat16 arithmetic",
        "last N of x dropped",
        "last element of y not written",
    )


def test_admission_is_repeatable():
    first, second = (admit(make_problem(profiles=MANY), WORKLOADS, {}) for _ in range(2))
    assert first == second


def test_an_exact_operation_has_the_largest_margin():
    problem = make_problem(
        inputs=(Tensor(name="x", shape=("B", "N"), dtype=DType.INT8),),
        outputs=(Tensor(name="y", shape=("B",), dtype=DType.INT32),),
        reference="def run(x):\n    return x.sum(-1)\n",
    )
    assert admit(problem, WORKLOADS, {}).margins == {OWN_PRECISION: 1e6}


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.BFLOAT16])
def test_sixteen_bit_targets_are_admitted_with_the_default_tolerance(dtype):
    tensors = [Tensor(name=n, shape=("B", "N"), dtype=dtype) for n in ("x", "y")]
    problem = make_problem(
        inputs=(tensors[0],),
        outputs=(tensors[1],),
        reference="def run(x):\n    return x / (1 + abs(x))\n",
    )
    assert admit(problem, WORKLOADS, {}).margins[OWN_PRECISION] >= 3.9


def test_a_right_answer_in_a_shape_with_one_answer_only_is_no_fault():
    """A softmax over one element is always 1; hidden shapes may have such corners."""
    corner = make_workload(name="one", axes={"B": 5, "N": 1}, visibility="hidden")
    assert isinstance(admit(make_problem(), (*WORKLOADS, corner), {}), Admission)


def test_a_table_that_is_gathered_from_may_have_entries_nobody_asks_for():
    problem = make_problem(
        axes=(
            Axis(name="B", kind="var"),
            Axis(name="N", kind="var"),
            Axis(name="P", kind="const", value=1 << 16),
        ),
        inputs=(
            Tensor(name="rows", shape=("B",), dtype=DType.INT64),
            Tensor(name="table", shape=("P", "N"), dtype=DType.FLOAT32),
        ),
        outputs=(Tensor(name="y", shape=("B", "N"), dtype=DType.FLOAT32),),
        reference="def run(rows, table):\n    return table[rows.astype(int)] * 2\n",
        rules=(InputRule(input="rows", low=0, high=4095),),
        tolerance=Tolerance(relative_units=4),
        flops="0",
    )
    admission = admit(problem, (make_workload(axes={"B": 8, "N": 16}),), {})
    assert "last P of table dropped" not in admission.caught


def test_workloads_too_large_to_verify_are_left_out():
    huge = make_workload(name="huge", axes={"B": 1 << 16, "N": 1 << 16})
    assert isinstance(admit(make_problem(), (*WORKLOADS, huge), {}), Admission)


def test_trusted_implementations_see_every_workload_and_profile():
    seen = set()

    def spy(workload, inputs):
        seen.add((workload.name, bool((inputs["x"] == 0).all())))
        return softmax32(workload, inputs)

    admit(make_problem(profiles=MANY), WORKLOADS, {"spy": spy})
    names = {"small", "wide", "odd"}
    assert seen == {*((name, False) for name in names), ("small", True)}


# Degenerate targets -----------------------------------------------------------------------------


def test_a_constant_output_is_refused():
    problem = make_problem(
        outputs=(Tensor(name="y", shape=("B",), dtype=DType.FLOAT32),), reference=MEAN_OF_SOFTMAX
    )
    text = refusal(problem)
    assert "output 'y' of workload 'small' is within tolerance of the constant 0.0078125" in text
    assert "choose an operation whose answer depends on its inputs" in text


def test_a_single_number_that_never_changes_is_refused():
    problem = make_problem(
        outputs=(Tensor(name="y", shape=(), dtype=DType.FLOAT32),),
        reference=MEAN_OF_SOFTMAX.replace("mean(axis=-1)", "mean()"),
    )
    assert "within tolerance of the constant" in refusal(problem)


def test_one_constant_output_among_several_is_refused_by_name():
    problem = make_problem(
        outputs=(
            Tensor(name="y", shape=("B", "N"), dtype=DType.FLOAT32),
            Tensor(name="total", shape=("B",), dtype=DType.FLOAT32),
        ),
        reference="def run(x):\n    return x * 2, x[:, 0] * 0 + 3\n",
    )
    assert "output 'total' of workload 'small' is within tolerance of the constant 3" in refusal(
        problem
    )


def test_an_absolute_tolerance_above_the_answers_is_refused():
    problem = make_problem(
        reference=make_problem().reference.split("def bound")[0],
        tolerance=Tolerance(relative_units=64, absolute=1e-2),
    )
    text = refusal(problem, (make_workload(name="long", axes={"B": 2, "N": 32768}),))
    assert "output 'y' of workload 'long' is within tolerance of zero" in text
    assert "and its bound 0.01; lower tolerance.absolute" in text


def test_every_public_workload_must_tell_zeros_from_answers():
    """The exploit that answers zeros for long rows only needs one such workload."""
    problem = make_problem(
        reference=make_problem().reference.split("def bound")[0],
        tolerance=Tolerance(relative_units=64, absolute=5e-3),
    )
    workloads = (make_workload(), make_workload(name="long", axes={"B": 2, "N": 32768}))
    assert "'long' is within tolerance of zero" in refusal(problem, workloads)


def test_an_ignored_input_is_refused_by_name():
    text = refusal(two_inputs(IGNORES_BIAS))
    assert "(last N of b dropped)" in text or "input 'b' does not matter" in text


def test_an_input_that_hardly_matters_is_refused():
    text = refusal(
        two_inputs(
            "def run(x, b):\n    return x + 1e-4 * b.sum()\n",
            shape=(),
            tolerance=Tolerance(relative_units=32, absolute=1e-4),
        )
    )
    assert "the input 'b' does not matter" in text
    assert "of what is wanted (100 bounds of y)" in text
    assert "remove it from the problem" in text


def test_an_ignored_whole_input_is_refused():
    text = refusal(two_inputs(IGNORES_BIAS, kind=DType.INT32, shape=("B",)))
    assert "the input 'b' does not matter" in text


def test_an_operation_that_swallows_single_changes_is_refused():
    """A coarse sum of many numbers does not notice one of them, only a whole new tensor."""
    problem = make_problem(
        inputs=(Tensor(name="x", shape=("B", "N"), dtype=DType.INT64),),
        outputs=(Tensor(name="y", shape=("N",), dtype=DType.INT32),),
        reference="def run(x):\n    return x.sum(0) // 2e6\n",
        rules=(InputRule(input="x", low=0, high=40_000),),
    )
    text = refusal(problem, (make_workload(name="deep", axes={"B": 40_000, "N": 1}),))
    assert "one changed element or row hardly moves the answer of 'deep'" in text
    assert "a stale result would pass" in text


# Tolerances -------------------------------------------------------------------------------------


def test_a_tolerance_too_tight_for_a_right_answer_is_refused_with_the_figure_to_set():
    reference = "def run(x):\n    return (x * 3 + 5) * x - 7 * x\n"
    text = refusal(make_problem(reference=reference, tolerance=Tolerance(relative_units=2)))
    assert "'reference in own precision'" in text
    assert "raise tolerance.relative_units to" in text


def test_the_figure_to_set_is_enough():
    reference = "def run(x):\n    return x * 3 * 1.1 * 1.3\n"
    text = refusal(make_problem(reference=reference, tolerance=Tolerance(relative_units=4)))
    units = float(text.split("relative_units to ")[1].split(",")[0])
    problem = make_problem(reference=reference, tolerance=Tolerance(relative_units=units))
    assert admit(problem, WORKLOADS, {}).margins[OWN_PRECISION] >= 3.9


def test_a_tolerance_that_half_precision_meets_is_refused():
    problem = make_problem(
        reference="def run(x):\n    return x * 2\n", tolerance=Tolerance(relative_units=2.0**14)
    )
    text = refusal(problem)
    assert "accepts a wrong answer (float16 arithmetic)" in text
    assert "lower tolerance.relative_units or tolerance.absolute" in text


def test_a_trusted_implementation_of_another_function_is_told_apart_from_rounding():
    def shifted(workload, inputs):
        return {"y": softmax32(workload, inputs)["y"] + np.float32(0.25)}

    text = refusal(make_problem(), trusted={"torch eager": shifted})
    assert "'torch eager' and the reference disagree on odd/normal: y[0, 0] is 0." in text
    assert text.endswith("correct the one that is wrong")


def test_a_trusted_implementation_in_lower_precision_is_blamed_on_the_tolerance():
    def coarse(workload, inputs):
        y = softmax32(workload, inputs)["y"]
        return {"y": (y * np.float32(1 + 2.0**-15)).astype(np.float32)}

    text = refusal(make_problem(), trusted={"library": coarse})
    assert "'library' errs by" in text
    assert "raise tolerance.relative_units to" in text
    assert "or widen bound(...) in the reference" in text


# Broken targets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("def run(x):\n    raise ValueError('shape unsupported')\n", "raised ValueError in run()"),
        ("def run(x):\n    return x[:1]\n", "in the shape (1, 128), not (8, 128)"),
        ("def run(x):\n    return x * float('nan')\n", "answers nan in 'y' at (0, 0)"),
        ("def walk(x):\n    return x\n", "does not define run"),
        ("ROWWISE = 'N'\n\n\ndef run(x):\n    return x\n", "ROWWISE = 'N', not the first axis"),
    ],
)
def test_a_broken_reference_makes_the_target_unfit(reference, words):
    text = refusal(make_problem(reference=reference))
    assert words in text
    assert "correct its source" in text or "; " in text


def test_rows_that_depend_on_each_other_are_found():
    reference = "ROWWISE = 'B'\n\n\ndef run(x):\n    return x - x.mean(axis=0)\n"
    text = refusal(make_problem(reference=reference, tolerance=Tolerance(absolute=1e-5)))
    assert "declares ROWWISE = 'B', yet 'y' differs when rows of 'B' are computed apart" in text
    assert "remove ROWWISE" in text


def test_a_target_without_workloads_is_refused():
    assert "has no workload; add one under workloads:" in refusal(make_problem(), ())


def test_every_refusal_names_the_problem():
    assert refusal(two_inputs(IGNORES_BIAS)).startswith("problem 'softmax': ")
