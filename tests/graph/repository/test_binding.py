"""Axis sizes from shapes, and the sources that say so."""

import ctypes
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.problem import Axis, DType, Problem, Scalar, Tensor
from graph.errors import ShipFailed
from graph.repository.binding import bind, definition, example_call, struct_fields
from graph.targets import devices_of, load_target, target_names
from tests.builders import make_problem

TARGETS = [(name, device) for name in target_names() for device in sorted(devices_of(name))]

HELPERS = """
from collections.abc import Sequence

def _extents(name, shape, rank):
    if len(shape) != rank:
        raise ValueError(f"{name} has {len(shape)} dimensions, not {rank}")
    return shape

def _expect(name, shape, expected):
    if tuple(shape) != tuple(expected):
        raise ValueError(f"{name} has the shape {tuple(shape)}, not {tuple(expected)}")

def _solve(size, line):
    return (size - line(0)) // (line(1) - line(0))

def ceil_div(a, b):
    return -(-a // b)
"""


def axis(name: str, **changes: Any) -> Axis:
    kind = "const" if "value" in changes else "expr" if "expression" in changes else "var"
    return Axis(name=name, kind=kind, **changes)


def tensor(name: str, *shape: str, dtype: DType = DType.FLOAT32) -> Tensor:
    return Tensor(name=name, shape=shape, dtype=dtype)


def sizes_of(problem: Problem, *shapes: Sequence[int]) -> dict[str, int]:
    """Run the generated statements."""
    binding = bind(problem)
    body = "".join(f"    {line}\n" for line in binding.size_lines)
    names = ", ".join(f'"{a}": {a}' for a in binding.axes)
    head = definition("sizes_of", binding.shape_parameters, "dict[str, int]")
    module: dict[str, Any] = {}
    exec(f"{HELPERS}\n{head}\n{body}    return {{{names}}}\n", module)
    found: dict[str, int] = module["sizes_of"](*shapes)
    return found


def test_extents_of_the_first_tensor_are_the_sizes():
    assert sizes_of(make_problem(), (8, 128)) == {"B": 8, "N": 128}


def test_a_wrong_rank_is_refused_by_the_tensors_name():
    with pytest.raises(ValueError, match="x has 3 dimensions, not 2"):
        sizes_of(make_problem(), (1, 8, 128))


def test_tensors_that_disagree_are_refused():
    problem = load_target("rmsnorm").problem
    assert sizes_of(problem, (8, 64), (8, 64), (64,)) == {"M": 8, "H": 64}
    with pytest.raises(ValueError, match=r"weight has the shape \(63,\), not \(64,\)"):
        sizes_of(problem, (8, 64), (8, 64), (63,))
    with pytest.raises(ValueError, match="residual has the shape"):
        sizes_of(problem, (8, 64), (9, 64), (64,))


def test_an_axis_behind_an_expression_is_solved_for():
    problem = load_target("silu_and_mul").problem
    assert sizes_of(problem, (3, 14)) == {"M": 3, "D": 7, "D2": 14}
    with pytest.raises(ValueError, match="D2 is 15"):
        sizes_of(problem, (3, 15))


def test_an_expression_of_known_axes_is_computed_or_checked():
    problem = make_problem(
        axes=(axis("B"), axis("N"), axis("P", expression="ceil_div(N, 4)")),
        inputs=(tensor("x", "B", "N"), tensor("scale", "P")),
        outputs=(tensor("y", "B", "N"),),
    )
    assert sizes_of(problem, (2, 9), (3,)) == {"B": 2, "N": 9, "P": 3}
    with pytest.raises(ValueError, match="P is 2"):
        sizes_of(problem, (2, 9), (2,))


def test_fixed_axes_need_their_size():
    problem = make_problem(
        axes=(axis("B"), axis("N", value=16), axis("Z", value=5)),
        outputs=(tensor("y", "B", "Z"),),
    )
    assert sizes_of(problem, (2, 16)) == {"B": 2, "N": 16, "Z": 5}
    with pytest.raises(ValueError, match="N is 8, not 16"):
        sizes_of(problem, (2, 8))


def test_a_repeated_axis_has_to_be_square():
    problem = make_problem(
        inputs=(tensor("x", "N", "N"),), axes=(axis("N"),), outputs=(tensor("y", "N"),), flops="N"
    )
    assert sizes_of(problem, (4, 4)) == {"N": 4}
    with pytest.raises(ValueError, match="x has the shape"):
        sizes_of(problem, (4, 5))


def test_a_scalar_tensor_has_no_extent():
    problem = make_problem(inputs=(tensor("x", "B", "N"), tensor("scale")))
    assert sizes_of(problem, (2, 3), ()) == {"B": 2, "N": 3}
    with pytest.raises(ValueError, match="scale has the shape"):
        sizes_of(problem, (2, 3), (1,))


@pytest.mark.parametrize("expression", ["N * N", "max(N, 4)", "7 - N"])
def test_an_axis_that_only_a_curve_knows_is_refused(expression):
    problem = make_problem(
        axes=(axis("B"), axis("N"), axis("Q", expression=expression)),
        inputs=(tensor("x", "B", "Q"),),
    )
    with pytest.raises(ShipFailed, match="axis 'N' does not follow from the shapes"):
        bind(problem)


def test_an_axis_of_outputs_alone_is_refused():
    problem = make_problem(axes=(axis("B"), axis("N"), axis("K")), outputs=(tensor("y", "B", "K"),))
    with pytest.raises(ShipFailed, match="'K'"):
        bind(problem)


def test_outputs_take_the_element_type_of_an_input_where_one_has_theirs():
    outputs = bind(load_target("int8_scaled_mm").problem).outputs
    assert [(o.name, o.extents, o.dtype) for o in outputs] == [
        ("y", '(sizes["M"], sizes["N"])', "scale_a.dtype")
    ]
    problem = make_problem(outputs=(tensor("y", "B", dtype=DType.INT64),), flops="1")
    assert bind(problem).outputs[0].dtype == "torch.int64"


def test_scalars_keep_their_defaults_while_the_last_ones_have_one():
    both = (Scalar(name="eps", default=1e-5), Scalar(name="groups", kind="int", default=4))
    assert bind(make_problem(scalars=both)).parameters == (
        "x: Tensor, eps: float = 1e-05, groups: int = 4"
    )
    gap = (Scalar(name="eps", default=1e-5), Scalar(name="groups", kind="int"))
    binding = bind(make_problem(scalars=gap))
    assert binding.parameters == "x: Tensor, eps: float, groups: int"
    assert binding.schema == "softmax(Tensor x, float eps, int groups) -> Tensor"


@pytest.mark.parametrize(("name", "device"), TARGETS)
def test_torch_takes_the_schema_of_every_shipped_target(name, device):
    problem = load_target(name, device).problem
    schema = torch._C.parse_schema(bind(problem).schema)
    assert schema.name == name
    assert [a.name for a in schema.arguments] == [
        *(t.name for t in problem.inputs),
        *problem.scalar_names,
    ]
    assert len(schema.returns) == len(problem.outputs)
    defaults = [a.default_value for a in schema.arguments if a.has_default_value()]
    assert defaults == pytest.approx([s.default for s in problem.scalars])


@pytest.mark.parametrize(("name", "device"), TARGETS)
def test_the_writing_operator_marks_its_outputs_and_nothing_else(name, device):
    problem = load_target(name, device).problem
    binding = bind(problem)
    schema = torch._C.parse_schema(binding.destination_schema)
    written = [a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write]
    assert (schema.name, written) == (f"{name}_into", [t.name for t in problem.outputs])
    assert binding.destination_arguments == ", ".join(a.name for a in schema.arguments)
    assert not schema.returns


@pytest.mark.parametrize(("name", "device"), TARGETS)
def test_every_shipped_target_finds_its_sizes_again(name, device):
    target = load_target(name, device)
    for workload in target.workloads:
        shapes = [target.problem.shape(t, workload) for t in target.problem.inputs]
        assert sizes_of(target.problem, *shapes) == target.problem.sizes(workload)


def test_the_struct_has_the_order_of_the_header():
    names = [name for name, _ in struct_fields(load_target("rmsnorm").problem)]
    assert names == ["x", "residual", "weight", "y", "residual_out", "M", "H", "eps", "threads"]
    kinds = dict(struct_fields(load_target("rmsnorm").problem))
    assert (kinds["x"], kinds["M"], kinds["eps"]) == ("c_void_p", "c_int64", "c_double")
    assert all(ctypes.sizeof(getattr(ctypes, kind)) == 8 for kind in kinds.values())


def test_the_contract_is_one_condition():
    assert bind(make_problem()).contract == "True"
    assert bind(make_problem()).idle == "B, N"
    binding = bind(make_problem(constraints=("B >= 1", "N%2==0")))
    assert binding.contract == "B >= 1 and N % 2 == 0"
    assert binding.idle == ""


def test_long_heads_have_a_line_for_each_parameter():
    assert definition("f", "a: int", "int") == "def f(a: int) -> int:"
    parameters = ", ".join(f"parameter_{i}: Tensor" for i in range(5))
    lines = definition("f", parameters, "None").splitlines()
    assert lines[0] == "def f("
    assert lines[1] == "    parameter_0: Tensor,"
    assert lines[-1] == ") -> None:"


@pytest.mark.parametrize(("name", "device"), TARGETS)
def test_the_example_of_the_readme_is_a_call(name, device):
    target = load_target(name, device)
    sizes = target.problem.sizes(target.public[0])
    text = example_call(target.problem, sizes)
    called: list[tuple[Any, ...]] = []

    class Module:
        def __getattr__(self, _: str) -> Any:
            def run(*values: Any) -> tuple[None, ...]:
                called.append(values)
                return (None,) * len(target.problem.outputs)

            return run

    exec(text, {"torch": torch, name: Module()})
    tensors = [v for v in called[0] if isinstance(v, torch.Tensor)]
    shapes = [target.problem.shape(t, target.public[0]) for t in target.problem.inputs]
    assert [tuple(v.shape) for v in tensors] == shapes
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(("name", "device"), TARGETS)
def test_the_example_places_every_tensor_where_the_kernels_are(name, device):
    target = load_target(name, device)
    sizes = target.problem.sizes(target.public[0])
    text = example_call(target.problem, sizes, "cuda")
    assert text.count('device="cuda"') == len(target.problem.inputs)
    assert "device" not in example_call(target.problem, sizes)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 50), st.integers(0, 10_000))
def test_any_rising_line_is_solved_exactly(slope, start, size):
    problem = make_problem(
        axes=(axis("B"), axis("N"), axis("Q", expression=f"{slope} * N + {start}")),
        inputs=(tensor("x", "B", "Q"),),
    )
    extent = slope * size + start
    assert sizes_of(problem, (2, extent)) == {"B": 2, "N": size, "Q": extent}
