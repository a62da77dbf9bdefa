import pytest
from pydantic import ValidationError

from gpu_runner.problem import Axis, DType, InputRule, Problem, Scalar, Tensor, Workload
from tests.builders import make_problem, make_workload


def make_gated(**changes) -> Problem:
    """[B, 2D] in, [B, D] out, one scalar."""
    values = {
        "name": "gated",
        "axes": (
            Axis(name="B", kind="var"),
            Axis(name="D", kind="const", value=6),
            Axis(name="H", kind="expr", expression="2 * D"),
        ),
        "inputs": (Tensor(name="x", shape=("B", "H"), dtype=DType.BFLOAT16),),
        "outputs": (Tensor(name="y", shape=("B", "D"), dtype=DType.FLOAT32),),
        "scalars": (Scalar(name="eps", default=1e-5), Scalar(name="k", kind="int")),
        "constraints": ("B % 2 == 0",),
        "reference": "def run(x, eps, k): ...",
        "flops": "3 * B * D",
    }
    return Problem(**{**values, **changes})


def make_point(**changes) -> Workload:
    return Workload(**{"name": "w", "axes": {"B": 4}, "scalars": {"k": 3}, **changes})


def test_sizes_cover_every_axis_in_declaration_order():
    assert list(make_gated().sizes(make_point()).items()) == [("B", 4), ("D", 6), ("H", 12)]


def test_shapes_bytes_and_flops_follow_from_the_workload():
    problem, point = make_gated(), make_point()
    assert problem.shape(problem.inputs[0], point) == (4, 12)
    assert problem.required_bytes(point) == 4 * 12 * 2 + 4 * 6 * 4
    assert problem.required_flops(point) == 72.0


def test_scalars_come_in_call_order_with_their_types():
    values = make_gated().scalar_values(make_point())
    assert values == (1e-5, 3)
    assert [type(v) for v in values] == [float, int]


def test_a_scalar_without_value_or_default_is_named():
    with pytest.raises(ValueError, match="no value for the scalar 'k'"):
        make_gated().scalar_values(make_point(scalars={}))


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({}, r"\['B'\] are missing"),
        ({"B": 2, "Q": 1}, r"\['Q'\] are missing or not var"),
        ({"B": 2, "D": 6}, r"\['D'\]"),
        ({"B": 3}, "breaks the constraint 'B % 2 == 0'"),
    ],
)
def test_a_workload_that_does_not_fit_is_refused(axes, words):
    with pytest.raises(ValueError, match=words):
        make_gated().sizes(make_point(axes=axes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": (Tensor(name="x", shape=("Q",), dtype="float32"),)}, "unknown axis 'Q'"),
        ({"outputs": (Tensor(name="x", shape=("B",), dtype="float32"),)}, "'x' more than once"),
        ({"constraints": ("Z > 1",)}, "unknown axis 'Z'"),
        ({"flops": "B * Q"}, "unknown axis 'Q'"),
        ({"rules": (InputRule(input="w"),)}, "rule for 'w': no such input"),
        ({"inputs": ()}, "at least 1"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_a_problem_whose_names_do_not_resolve_is_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        make_gated(**changes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "const"}, "needs 'value'"),
        ({"kind": "var", "value": 3}, "must not have 'value'"),
        ({"kind": "expr", "value": 3, "expression": "2"}, "must not have 'value'"),
        ({"kind": "expr"}, "needs 'expression'"),
    ],
)
def test_an_axis_has_the_fields_of_its_kind(fields, words):
    with pytest.raises(ValidationError, match=words):
        Axis(name="B", **fields)


def test_a_problem_is_frozen_and_survives_json():
    problem = make_gated()
    assert Problem.model_validate_json(problem.model_dump_json()) == problem
    with pytest.raises(ValidationError, match="frozen"):
        setattr(problem, "name", "other")  # noqa: B010 - the type checker knows it is frozen


def test_every_element_type_knows_its_width_and_its_roundoff():
    widths = {d: d.item_bytes for d in DType}
    assert widths[DType.BFLOAT16] == 2
    assert widths[DType.INT8] == 1
    assert sum(widths.values()) == 31
    assert DType.FLOAT16.unit_roundoff == 2.0**-11
    assert not DType.INT8.is_float
    assert DType.INT32.unit_roundoff == 0.0


def test_builders_give_a_problem_that_fits_their_workload():
    assert make_problem().required_bytes(make_workload()) == 2 * 4 * 8 * 128
