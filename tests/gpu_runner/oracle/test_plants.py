import numpy as np
import pytest

from gpu_runner.oracle.compare import judge
from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import as_float64, from_float64
from gpu_runner.oracle.plants import Case, Coarse, Dropped, Unwritten, plants
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import Axis, DType, Problem, Tensor
from tests.builders import make_problem, make_workload

KEY = bytes(range(16))
WORKLOAD = make_workload(axes={"B": 4, "N": 32})


def typed(dtype: DType, out: DType | None = None) -> Problem:
    return make_problem(
        inputs=(Tensor(name="x", shape=("B", "N"), dtype=dtype),),
        outputs=(Tensor(name="y", shape=("B", "N"), dtype=out or dtype),),
        reference="def run(x):\n    return x * 3\n",
    )


def case_of(problem: Problem, workload=WORKLOAD) -> Case:
    inputs = {
        t.name: from_float64(np.zeros(problem.shape(t, workload)), t.dtype) for t in problem.inputs
    }
    Contents(problem, workload, KEY).fill(inputs, call=0)
    expected = Oracle(problem).expected(workload, inputs)
    return Case(workload=workload, name="w/normal", inputs=inputs, expected=expected)


def names(problem: Problem) -> list[str]:
    return [plant.name for plant in plants(problem)]


@pytest.mark.parametrize(
    ("dtype", "lower"),
    [
        (DType.FLOAT64, ["float32 arithmetic"]),
        (DType.FLOAT32, ["float16 arithmetic", "bfloat16 arithmetic"]),
        (DType.FLOAT16, ["bfloat16 arithmetic"]),
        (DType.BFLOAT16, ["float8 arithmetic"]),
        (DType.INT8, []),
    ],
)
def test_the_next_lower_precision_is_that_of_the_output(dtype, lower):
    found = [name for name in names(typed(DType.FLOAT32, dtype)) if "arithmetic" in name]
    assert found == lower


def test_the_finest_output_decides_the_precision():
    problem = make_problem(
        outputs=(
            Tensor(name="y", shape=("B", "N"), dtype=DType.BFLOAT16),
            Tensor(name="z", shape=("B",), dtype=DType.FLOAT32),
        )
    )
    assert names(problem)[:2] == ["float16 arithmetic", "bfloat16 arithmetic"]


def test_every_reduced_axis_and_every_last_axis_has_a_dropped_term():
    problem = make_problem(
        axes=tuple(Axis(name=n, kind="var") for n in "MNK"),
        inputs=(
            Tensor(name="x", shape=("M", "K"), dtype=DType.FLOAT32),
            Tensor(name="w", shape=("K", "N"), dtype=DType.FLOAT32),
        ),
        outputs=(Tensor(name="y", shape=("M", "N"), dtype=DType.FLOAT32),),
        reference="def run(x, w):\n    return x @ w\n",
        flops="0",
    )
    dropped = [name for name in names(problem) if "dropped" in name]
    assert dropped == ["last K of x dropped", "last K of w dropped", "last N of w dropped"]


def test_every_output_has_an_unwritten_element():
    problem = make_problem(
        outputs=tuple(Tensor(name=n, shape=("B", "N"), dtype=DType.FLOAT32) for n in ("y", "z"))
    )
    assert names(problem)[-2:] == ["last element of y not written", "last element of z not written"]


@pytest.mark.parametrize(
    ("dtype", "is_certain"), [(DType.INT32, False), (DType.INT64, False), (DType.INT8, True)]
)
def test_a_dropped_entry_of_a_gathered_table_is_not_certainly_wrong(dtype, is_certain):
    problem = make_problem(
        inputs=(
            Tensor(name="x", shape=("B", "N"), dtype=DType.FLOAT32),
            Tensor(name="rows", shape=("B",), dtype=dtype),
        ),
        reference="def run(x, rows):\n    return x + rows[:, None]\n",
    )
    assert {p.is_certain for p in plants(problem) if isinstance(p, Dropped)} == {is_certain}
    assert all(p.is_certain for p in plants(problem) if not isinstance(p, Dropped))


@pytest.mark.parametrize(("bits", "least"), [(11, 2.0**-13), (8, 2.0**-10), (4, 2.0**-6)])
def test_coarse_arithmetic_errs_by_about_its_unit_roundoff(bits, least):
    problem = typed(DType.FLOAT32)
    case = case_of(problem)
    answer = Coarse(name="coarse", bits=bits).outputs(problem, Oracle(problem), case)["y"]
    error = np.abs(answer / case.expected.outputs["y"] - 1).max()
    assert least < error < 3 * 2.0**-bits


def test_coarse_arithmetic_with_the_bits_of_the_type_is_right():
    problem = typed(DType.FLOAT32)
    case = case_of(problem)
    answer = Coarse(name="fine", bits=24).outputs(problem, Oracle(problem), case)
    assert judge(problem, case.expected, answer, case="c", is_hidden=False).mismatch is None


def test_coarse_arithmetic_leaves_whole_numbers_alone():
    problem = typed(DType.INT8, DType.INT32)
    case = case_of(problem)
    answer = Coarse(name="coarse", bits=4).outputs(problem, Oracle(problem), case)["y"]
    np.testing.assert_array_equal(answer, case.expected.outputs["y"])


def test_a_dropped_entry_is_read_as_zero_and_the_case_stays_as_it_was():
    problem = typed(DType.FLOAT32)
    case = case_of(problem)
    before = case.inputs["x"].copy()
    plant = Dropped(name="d", tensor=problem.inputs[0], position=0)
    answer = plant.outputs(problem, Oracle(problem), case)["y"]
    assert (answer[-1] == 0).all()
    np.testing.assert_allclose(answer[:-1], before[:-1] * 3, rtol=1e-6)
    np.testing.assert_array_equal(case.inputs["x"], before)


def test_an_unwritten_element_is_zero_and_the_rest_right():
    problem = typed(DType.BFLOAT16)
    case = case_of(problem)
    plant = Unwritten(name="u", tensor=problem.outputs[0])
    answer = as_float64(plant.outputs(problem, Oracle(problem), case)["y"], DType.BFLOAT16)
    assert answer[-1, -1] == 0.0
    judgement = judge(
        problem,
        case.expected,
        {"y": from_float64(answer, DType.BFLOAT16)},
        case="c",
        is_hidden=False,
    )
    assert judgement.mismatch is not None
    assert judgement.mismatch.index == (3, 31)
    assert judgement.mismatch.wrong_fraction == 1 / 128


@pytest.mark.parametrize("axes", [{"B": 0, "N": 4}, {"B": 4, "N": 0}])
def test_empty_workloads_plant_nothing_and_do_not_fail(axes):
    problem = typed(DType.FLOAT32)
    case = case_of(problem, make_workload(axes=axes))
    for plant in plants(problem):
        assert plant.outputs(problem, Oracle(problem), case)["y"].shape == (axes["B"], axes["N"])


def test_every_plant_of_a_softmax_is_refused():
    problem = make_problem()
    case = case_of(problem)
    for plant in plants(problem):
        answer = plant.outputs(problem, Oracle(problem), case)
        judgement = judge(problem, case.expected, answer, case="c", is_hidden=False)
        assert judgement.mismatch is not None, plant.name
