"""What is refused before anything is compiled, and by which words."""

import pytest

from gpu_runner.candidate import Language, Slice, TensorMap, Value
from gpu_runner.device.lowered import PlanError, refuse_invalid
from gpu_runner.device.plan_rules import Site, Words, warps_of
from gpu_runner.problem import Axis, DType, Tensor
from tests.gpu_runner.device.plans import make_launch, make_plan, plan_problem

ALL_KINDS = (
    "x",
    "y",
    "B",
    "H",
    "eps",
    "groups",
    "workspace",
    Value(value="ceil_div(N, 8)", type="i32"),
    Value(value="eps", type="f32"),
    Value(value="groups", type="f64"),
    Value(value="groups", type="i32"),
    Slice(workspace="B * 16"),
)


def refusal(*plans, language=Language.CUDA, problem=None):
    with pytest.raises(PlanError) as caught:
        refuse_invalid(problem or plan_problem(), plans, language)
    return str(caught.value)


def refused_launch(language=Language.CUDA, **changes):
    first = make_plan()
    plan = make_plan(make_launch(), make_launch(**changes), workspace_bytes="B * 4")
    return refusal(first, plan, language=language)


@pytest.mark.parametrize("language", [Language.CUDA, Language.TRITON])
def test_every_kind_of_argument_is_allowed(language):
    plan = make_plan(make_launch(arguments=ALL_KINDS), workspace_bytes="B * N", guard="N % 8 == 0")
    refuse_invalid(plan_problem(), (plan, plan), language)


def test_what_only_one_language_has_is_allowed_there():
    mapped = make_launch(
        arguments=(TensorMap(tensor="x", box=("8", "64")),),
        cluster=("2", "1", "1"),
        shared_bytes="N * 4",
        block=("N // 4", "1", "1"),
    )
    refuse_invalid(plan_problem(), (make_plan(mapped),), Language.CUDA)
    staged = make_launch(
        arguments=("x", Value(value="N", type="i32", divisible=16)),
        constants={"BLOCK": 1024, "NAME": "sum", "IS_FAST": True, "SCALE": 0.5},
        stages=3,
    )
    refuse_invalid(plan_problem(), (make_plan(staged),), Language.TRITON)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": ("B", "M", "1")}, "grid[1]: 'M' uses 'M', which is no axis; axes: B, N, H"),
        ({"grid": ("B", "x", "1")}, "grid[1]: 'x' uses 'x'"),
        ({"grid": ("B +", "1", "1")}, "grid[0]: expression 'B +' cannot be read"),
        ({"grid": ("B / 2", "1", "1")}, "grid[0]: expression 'B / 2': 'B / 2' is not allowed"),
        ({"block": ("B.N", "1", "1")}, "block[0]: expression 'B.N'"),
        ({"block": ("32", "open(B)", "1")}, "block[1]: expression 'open(B)'"),
        ({"cluster": ("2", "Q", "1")}, "cluster[1]: 'Q' uses 'Q'"),
        ({"shared_bytes": "N * eps"}, "shared_bytes: 'N * eps' uses 'eps', which is no axis"),
        ({"shared_bytes": "N // 0"}, "shared_bytes: expression 'N // 0' divides by zero"),
        ({"arguments": ("x", "z")}, "arguments[1]: 'z' is no tensor, axis or scalar"),
        ({"arguments": (Value(value="M", type="i32"),)}, "arguments[0].value: 'M' uses 'M'"),
        (
            {"arguments": (Value(value="N", type="f32"),)},
            "arguments[0].type: f32 takes a scalar of the problem, and 'N' is none",
        ),
        (
            {"arguments": (Value(value="eps", type="i32"),)},
            "arguments[0].type: the scalar 'eps' is a float; pass it as f32 or f64, not i32",
        ),
        (
            {"arguments": (Value(value="eps", type="f32", divisible=16),)},
            "arguments[0].divisible: only integers",
        ),
        ({"arguments": ("x", Slice(workspace="W"))}, "arguments[1].workspace: 'W' uses 'W'"),
        (
            {"arguments": (TensorMap(tensor="z", box=("8", "8")),)},
            "arguments[0].tensor: 'z' is no tensor of the problem; tensors: x, y",
        ),
        (
            {"arguments": (TensorMap(tensor="x", box=("8", "k")),)},
            "arguments[0].box[1]: 'k' uses 'k'",
        ),
        (
            {"arguments": (TensorMap(tensor="x", box=("8", "8"), rows="k"),)},
            "arguments[0].rows: 'k' uses 'k'",
        ),
        ({"constants": {"BLOCK": 1}}, "constants: CUDA kernels take none"),
        ({"stages": 2}, "stages: only triton kernels have stages"),
        (
            {"arguments": ("x", Value(value="N", type="i32", divisible=16))},
            "arguments[1].divisible: only triton",
        ),
    ],
)
def test_a_cuda_launch_that_cannot_be_right_is_refused_by_its_field(changes, said):
    assert refused_launch(**changes).startswith(f"plan 1, launch 1 ('reduce'), {said}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"block": ("N", "1", "1")}, "block: N x 1 x 1 must be constants"),
        ({"cluster": ("2", "1", "1")}, "cluster: triton kernels are launched without"),
        ({"shared_bytes": "1024"}, "shared_bytes: triton knows"),
        ({"shared_bytes": "N"}, "shared_bytes: triton knows"),
        (
            {"arguments": ("x", TensorMap(tensor="x", box=("8", "8")))},
            "arguments[1]: tensor maps go to CUDA kernels",
        ),
    ],
)
def test_a_triton_launch_that_cannot_be_right_is_refused_by_its_field(changes, said):
    found = refused_launch(Language.TRITON, **changes)
    assert found.startswith(f"plan 1, launch 1 ('reduce'), {said}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"guard": "N %"}, "plan 1, guard: expression 'N %' cannot be read"),
        ({"guard": "Q > 1"}, "plan 1, guard: 'Q > 1' uses 'Q', which is no axis"),
        ({"workspace_bytes": "x * 4"}, "plan 1, workspace_bytes: 'x * 4' uses 'x'"),
    ],
)
def test_a_plans_own_fields_are_named_without_a_launch(changes, said):
    assert refusal(make_plan(), make_plan(**changes)).startswith(said)


@pytest.mark.parametrize("argument", ["workspace", Slice(workspace="0")])
def test_a_workspace_the_plan_does_not_ask_for_is_refused(argument):
    found = refusal(make_plan(make_launch(arguments=("x", argument))))
    assert "arguments[1]: the plan has no workspace; give it workspace_bytes" in found


def test_a_tensor_named_workspace_needs_none():
    tensor = Tensor(name="workspace", shape=("B",), dtype=DType.INT8)
    problem = plan_problem(inputs=(tensor,))
    plan = make_plan(make_launch(arguments=("workspace",)))
    refuse_invalid(problem, (plan,), Language.CUDA)
    assert not Words(problem).is_workspace("workspace")


def test_an_expression_may_fail_for_some_sizes():
    plan = make_plan(make_launch(grid=("1 << (20 // (N // 1024))", "N // (B - 1)", "1")))
    refuse_invalid(plan_problem(), (plan,), Language.CUDA)


def test_const_axes_are_tried_with_their_value():
    axes = (Axis(name="B", kind="var"), Axis(name="N", kind="const", value=7))
    problem = plan_problem(
        axes=axes, outputs=(Tensor(name="y", shape=("B",), dtype=DType.FLOAT32),)
    )
    assert {sizes["N"] for sizes in Words(problem).probes} == {7}
    assert "divides by zero" in refusal(make_plan(guard="B // (N - 7)"), problem=problem)


@pytest.mark.parametrize(
    ("block", "warps"),
    [
        (("32", "1", "1"), 1),
        (("64", "2", "1"), 4),
        (("16 * 16", "1", "1"), 8),
        (("1024", "1", "1"), 32),
        (("2048", "1", "1"), None),
        (("48", "1", "1"), None),
        (("96", "1", "1"), None),
        (("0", "1", "1"), None),
        (("-32", "-1", "1"), 1),
        (("N", "1", "1"), None),
    ],
)
def test_warps_are_the_threads_of_the_block_over_32(block, warps):
    assert warps_of(make_launch(block=block)) == warps


def test_a_site_is_told_from_plan_to_field():
    assert str(Site(plan=3).error("guard", "no")) == "plan 3, guard: no"
    site = Site(plan=0, launch=1, kernel="reduce")
    assert str(site.error("grid[0]", "no")) == "plan 0, launch 1 ('reduce'), grid[0]: no"
