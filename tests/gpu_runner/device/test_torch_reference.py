import numpy as np
import pytest
import torch

from gpu_runner.device.torch_reference import TorchReference
from gpu_runner.errors import ReferenceFailed
from gpu_runner.oracle.elements import as_float64
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import Axis, DType, InputRule, Problem, Tensor, Tolerance
from tests.builders import make_problem, make_workload
from tests.gpu_runner.device.torch_cases import filled, plain_problem, raw_of, strided
from tests.gpu_runner.oracle.drawn import linear_problem, linear_workload, one_input

WORKLOAD = make_workload(axes={"B": 6, "N": 10})


def native_of(problem: Problem, **changes) -> TorchReference:
    return TorchReference(problem, "cpu", **changes)


def answered(problem: Problem, workload=WORKLOAD, **changes):
    """Numbers, bounds and inputs of one call."""
    inputs = filled(problem, workload)
    return (*native_of(problem, **changes).answer(workload, inputs), inputs)


def expect_agreement(problem: Problem, workload=WORKLOAD, **changes) -> None:
    """Numbers and bounds as the host gives them."""
    outputs, bounds, inputs = answered(problem, workload, **changes)
    right = Oracle(problem).expected(workload, raw_of(problem, inputs))
    for name, wanted in right.outputs.items():
        assert outputs[name].dtype == torch.float64
        np.testing.assert_allclose(outputs[name].numpy(), wanted, rtol=1e-12)
        np.testing.assert_allclose(bounds[name].numpy(), right.bounds[name], rtol=1e-12)


def failure(problem: Problem) -> str:
    with pytest.raises(ReferenceFailed) as caught:
        answered(problem)
    return str(caught.value)


@pytest.mark.parametrize("dtype", list(DType))
def test_every_type_is_answered_in_float64_with_the_hosts_bounds(dtype):
    expect_agreement(one_input(dtype))


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT32])
def test_the_problems_tolerance_is_the_default_bound(dtype):
    tolerance = Tolerance(relative_units=9, absolute=0.25)
    expect_agreement(one_input(dtype, tolerance=tolerance))


def test_a_references_own_bound_gets_the_last_rounding():
    expect_agreement(make_problem())


def test_a_product_agrees():
    expect_agreement(linear_problem(), linear_workload())


def test_a_bound_of_whole_numbers_is_half_at_least():
    reference = "def run(x):\n    return x\n\n\ndef bound(x, expected):\n    return x * 0 + 0.25\n"
    _, bounds, _ = answered(plain_problem(reference, DType.INT8))
    assert (bounds["y"] == 0.5).all()


TWO = (
    Tensor(name="y", shape=("B", "N"), dtype=DType.FLOAT32),
    Tensor(name="top", shape=("B",), dtype=DType.FLOAT16),
)


@pytest.mark.parametrize(
    "body",
    [
        "return x * 2, x.max(axis=-1)",
        "return [x * 2, x.max(axis=-1)]",
        "return {'top': x.max(axis=-1), 'y': x * 2}",
    ],
)
@pytest.mark.parametrize(
    "bound",
    ["", "def bound(x, expected):\n    y, top = expected\n    return abs(y), None\n"],
)
def test_several_outputs_come_in_any_form(body, bound):
    expect_agreement(plain_problem(f"def run(x):\n    {body}\n\n\n{bound}", outputs=TWO))


def test_scalars_are_passed_in_call_order():
    problem = plain_problem("def run(x, a, b):\n    return x * a - b\n")
    problem = Problem.model_validate(
        {
            **problem.model_dump(),
            "scalars": ({"name": "a", "default": 2.5}, {"name": "b", "kind": "int"}),
        }
    )
    expect_agreement(problem, make_workload(axes={"B": 6, "N": 10}, scalars={"b": 3}))


def test_the_reference_may_write_into_what_it_gets():
    problem = plain_problem("def run(x):\n    x[0] = 7.0\n    return x\n", DType.FLOAT64)
    outputs, _, inputs = answered(problem)
    assert (outputs["y"][0] == 7).all()
    assert (inputs["x"][0] != 7).all()


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("def run(x):\n    return x[:, 1:]\n", r"answers 'y' in the shape \(6, 9\)"),
        ("def run(x):\n    return x, x\n", r"answers 2 values for the outputs \['y'\]"),
        (
            "import numpy as np\n\n\ndef run(x):\n    return x.astype(np.float32)\n",
            "answers 'y' in torch.float32",
        ),
        (
            "def run(x):\n    return x\n\n\ndef bound(x, expected):\n    return x[0]\n",
            r"bounds 'y' in the shape \(10,\)",
        ),
    ],
)
def test_answers_that_do_not_fit_are_refused(reference, words):
    problem = plain_problem(reference)
    with pytest.raises(ReferenceFailed, match=words):
        answered(problem)
    assert problem.name in failure(problem)


def test_what_a_reference_raises_is_passed_on():
    with pytest.raises(ZeroDivisionError):
        answered(plain_problem("def run(x):\n    return x * (1 / 0)\n"))


# Parts -----------------------------------------------------------------------------------------

ROWWISE = """
import numpy as np

ROWWISE = "B"
SEEN = []


def run(x, w):
    SEEN.append(x.shape[0])
    return x * w


def bound(x, w, expected):
    return np.abs(x) * 1e-3
"""


def rowwise_problem(reference: str = ROWWISE) -> Problem:
    return make_problem(
        inputs=(
            Tensor(name="x", shape=("B", "N"), dtype=DType.FLOAT32),
            Tensor(name="w", shape=("N",), dtype=DType.FLOAT32),
        ),
        rules=(InputRule(input="w", role="parameter", low=2, high=3),),
        reference=reference,
    )


def seen_by(native: TorchReference) -> list[int]:
    return [*native._module["SEEN"]]


@pytest.mark.parametrize(
    ("temporary_bytes", "rows"),
    [(1 << 30, [6]), (1, [1] * 6), (96 * 130 // 2, [3, 3]), (96 * 130 * 4 // 6, [4, 2])],
)
def test_rows_are_answered_in_parts_where_memory_is_short(temporary_bytes, rows):
    problem = rowwise_problem()
    inputs = filled(problem, WORKLOAD)
    native = native_of(problem, temporary_bytes=temporary_bytes)
    outputs, bounds = native.answer(WORKLOAD, inputs)
    assert seen_by(native) == rows
    right = Oracle(problem).expected(WORKLOAD, raw_of(problem, inputs))
    np.testing.assert_array_equal(outputs["y"].numpy(), right.outputs["y"])
    np.testing.assert_allclose(bounds["y"].numpy(), right.bounds["y"], rtol=1e-14)


def test_without_independent_rows_a_call_is_answered_at_once():
    problem = rowwise_problem(ROWWISE.replace('ROWWISE = "B"', ""))
    native = native_of(problem, temporary_bytes=1)
    native.answer(WORKLOAD, filled(problem, WORKLOAD))
    assert seen_by(native) == [6]


@pytest.mark.parametrize(("temporary_bytes", "calls"), [(1 << 30, 1), (1, 5), (96 * 130 * 2, 3)])
def test_slots_are_answered_together_as_far_as_memory_reaches(temporary_bytes, calls):
    problem = rowwise_problem()
    native = native_of(problem, temporary_bytes=temporary_bytes)
    stacked, slots = strided(problem, WORKLOAD, 5)
    for slot, inputs in enumerate(slots):
        for name, values in filled(problem, WORKLOAD, call=slot).items():
            inputs[name].copy_(values)
    outputs, bounds = native.answer_stacked(WORKLOAD, stacked)
    assert seen_by(native) == [6] * calls
    for slot, inputs in enumerate(slots):
        right = Oracle(problem).expected(WORKLOAD, raw_of(problem, inputs))
        np.testing.assert_array_equal(outputs["y"][slot].numpy(), right.outputs["y"])
        np.testing.assert_allclose(bounds["y"][slot].numpy(), right.bounds["y"], rtol=1e-14)


def test_stacked_answers_do_not_touch_the_inputs():
    problem = linear_problem()
    stacked, _ = strided(problem, linear_workload(), 3)
    for values in stacked.values():
        values.fill_(0.5)
    native_of(problem).answer_stacked(linear_workload(), stacked)
    assert all((values == 0.5).all() for values in stacked.values())


# Own precision ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.FLOAT64])
@pytest.mark.parametrize("temporary_bytes", [1 << 30, 1])
def test_the_own_precision_is_float32_rounded_to_the_type(dtype, temporary_bytes):
    problem = rowwise_problem()
    tensors = [t.model_copy(update={"dtype": dtype}) for t in problem.inputs]
    output = problem.outputs[0].model_copy(update={"dtype": dtype})
    problem = problem.model_copy(update={"inputs": tuple(tensors), "outputs": (output,)})
    inputs = filled(problem, WORKLOAD)
    mine = native_of(problem, temporary_bytes=temporary_bytes).narrow(WORKLOAD, inputs)
    right = Oracle(problem).same_precision(WORKLOAD, raw_of(problem, inputs))
    np.testing.assert_array_equal(raw_of(problem, mine)["y"], right["y"])


def test_the_own_precision_of_whole_numbers_is_exact():
    problem = one_input(DType.INT8)
    inputs = filled(problem, WORKLOAD)
    mine = native_of(problem).narrow(WORKLOAD, inputs)
    assert torch.equal(mine["y"], inputs["x"].clamp(min=0))


# torch references --------------------------------------------------------------------------------

GATHER = """
import torch


def run(table, index):
    return table[index] + torch.ones(1, dtype=table.dtype)


def bound(table, index, expected):
    return expected.abs() * 1e-3
"""


def gather_problem() -> Problem:
    return make_problem(
        name="gather",
        axes=tuple(Axis(name=n, kind="var") for n in ("V", "B", "N")),
        inputs=(
            Tensor(name="table", shape=("V", "N"), dtype=DType.BFLOAT16),
            Tensor(name="index", shape=("B",), dtype=DType.INT64),
        ),
        outputs=(Tensor(name="y", shape=("B", "N"), dtype=DType.BFLOAT16),),
        rules=(InputRule(input="index", low=0, high=4),),
        reference=GATHER,
        array_type="torch",
    )


def test_a_torch_reference_gets_integers_as_such():
    expect_agreement(gather_problem(), make_workload(axes={"V": 5, "B": 7, "N": 9}))


def test_a_torch_reference_answers_stacked_slots():
    problem, workload = gather_problem(), make_workload(axes={"V": 5, "B": 7, "N": 9})
    each = [filled(problem, workload, call=call) for call in range(3)]
    stacked = {n: torch.stack([one[n] for one in each]) for n in each[0]}
    outputs, _ = native_of(problem).answer_stacked(workload, stacked)
    for slot, inputs in enumerate(each):
        right = Oracle(problem).expected(workload, raw_of(problem, inputs))
        np.testing.assert_array_equal(outputs["y"][slot].numpy(), right.outputs["y"])


def test_a_torch_reference_may_answer_in_its_own_precision():
    problem = gather_problem()
    workload = make_workload(axes={"V": 5, "B": 7, "N": 9})
    inputs = filled(problem, workload)
    mine = native_of(problem).narrow(workload, inputs)["y"]
    right = Oracle(problem).same_precision(workload, raw_of(problem, inputs))["y"]
    np.testing.assert_array_equal(mine.double().numpy(), as_float64(right, DType.BFLOAT16))


def test_new_tensors_are_placed_where_asked():
    source = "import torch\n\n\ndef run(x):\n    return x * torch.ones(()).to(x.dtype)\n"
    problem = plain_problem(source, array_type="torch")
    native = native_of(problem)
    native.places_new_tensors = True
    outputs, _ = native.answer(WORKLOAD, filled(problem, WORKLOAD))
    assert outputs["y"].device.type == "cpu"
