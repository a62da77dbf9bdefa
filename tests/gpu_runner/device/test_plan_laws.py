"""Laws over random plans: what lowers is legal on a device, what does not says where."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.candidate import Language, Launch, LaunchPlan, Slice, Value
from gpu_runner.device.kernel_index import index_key
from gpu_runner.device.lowered import (
    Lowered,
    PlanError,
    Pointer,
    Scratch,
    Word,
    lower,
    refuse_invalid,
)
from tests.gpu_runner.device.plans import compiled, plan_problem, shape

PROBLEM = plan_problem()
PARAMETERS = {"i32": "u32", "i64": "u64", "f32": "f32", "f64": "f64"}
BROKEN = ("M", "B +", "x", "open('f')", "B ** N", "1 // 0", "'B'")

leaves = st.sampled_from(["B", "N", "H", "1", "2", "7", "16", "128", "65536"])
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "*", "-", "//", "%"]), inner).map(
            lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"
        ),
        st.tuples(st.sampled_from(["min", "max", "ceil_div"]), inner, inner).map(
            lambda parts: f"{parts[0]}({parts[1]}, {parts[2]})"
        ),
    ),
    max_leaves=4,
)
arguments = st.one_of(
    st.sampled_from(["x", "y", "B", "N", "H", "eps", "groups", "workspace"]),
    st.builds(Value, value=expressions, type=st.sampled_from(["i32", "i64"])),
    st.builds(Value, value=st.just("eps"), type=st.sampled_from(["f32", "f64"])),
    st.builds(Slice, workspace=expressions.map(lambda text: f"16 * {text}")),
)
launches = st.builds(
    Launch,
    kernel=st.sampled_from(["reduce", "finish"]),
    grid=st.tuples(expressions, leaves, st.just("1")),
    block=st.tuples(leaves, st.sampled_from(["1", "2"]), st.just("1")),
    cluster=st.one_of(st.none(), st.tuples(leaves, st.just("1"), st.just("1"))),
    shared_bytes=st.one_of(st.just("0"), expressions),
    arguments=st.lists(arguments, max_size=5).map(tuple),
)
plans = st.lists(
    st.builds(
        LaunchPlan,
        launches=st.lists(launches, min_size=1, max_size=3).map(tuple),
        workspace_bytes=expressions,
        guard=st.one_of(st.just("1"), expressions),
    ),
    min_size=1,
    max_size=3,
)
WHERE = re.compile(
    r"^(?:plan \d+, (?:launch \d+ \('\w+'\), [a-z_]+(?:\[\d\])?(?:\.[a-z_]+(?:\[\d\])?)?"
    r"|guard|workspace_bytes): |no plan serves the workload 'small')"
)


def parameter(argument):
    match argument:
        case Value(type=kind):
            return PARAMETERS[kind]
        case "eps":
            return "f64"
        case _:
            return "u64"


def kernels_for(made):
    return {
        index_key(p, n): compiled(*[parameter(a) for a in launch.arguments] or (), symbol="s")
        if launch.arguments
        else compiled(symbol="s").model_copy(update={"parameters": ()})
        for p, plan in enumerate(made)
        for n, launch in enumerate(plan.launches)
    }


def assert_legal(found: Lowered, made: list[LaunchPlan]) -> None:
    assert len(found.launches) == len(made[found.plan].launches)
    assert 0 <= found.workspace_bytes <= 4 << 30
    for launch in found.launches:
        assert 1 <= launch.grid[0] < 2**31
        assert all(1 <= extent <= 65535 for extent in launch.grid[1:])
        assert 1 <= launch.block[0] * launch.block[1] * launch.block[2] <= 1024
        assert 1 <= launch.block[2] <= 64
        assert 0 <= launch.shared_bytes <= 232_448
        if launch.cluster is not None:
            assert launch.cluster[0] * launch.cluster[1] * launch.cluster[2] <= 16
            assert all(g % c == 0 for g, c in zip(launch.grid, launch.cluster, strict=True))
        for argument in launch.arguments:
            match argument:
                case Pointer(tensor=name):
                    assert name in {"x", "y"}
                case Scratch(offset=offset):
                    assert offset % 16 == 0
                    assert 0 <= offset < found.workspace_bytes
                case Word(bytes=content):
                    assert len(content) in {4, 8}


def lowered_or_told(made, workload):
    try:
        refuse_invalid(PROBLEM, made, Language.CUDA)
        return lower(PROBLEM, made, kernels_for(made), workload)
    except PlanError as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(plans, st.integers(1, 9000), st.integers(1, 70000))
def test_what_lowers_is_legal_and_what_does_not_names_its_place(made, rows, columns):
    found = lowered_or_told(made, shape(rows, columns))
    if isinstance(found, Lowered):
        assert_legal(found, made)
    else:
        assert WHERE.match(found), found


whole = st.builds(
    lambda rows, tile, warps, slots: LaunchPlan(
        launches=(
            Launch(
                kernel="reduce",
                grid=(f"ceil_div(B, {rows})", f"min({slots}, ceil_div(N, {tile}))", "1"),
                block=(f"{32 * warps}", "1", "1"),
                shared_bytes=f"{tile} * 4",
                arguments=("x", Slice(workspace="B * 16"), Value(value=f"{tile}", type="i32")),
            ),
            Launch(
                kernel="finish",
                grid=("B", "1", "1"),
                block=("32", str(warps), "1"),
                arguments=("workspace", "y", "H", "eps"),
            ),
        ),
        workspace_bytes=f"B * 16 + B * {slots} * 4",
        guard=f"N >= {tile} or N < {tile}",
    ),
    st.integers(1, 64),
    st.sampled_from([64, 256, 1000, 4096]),
    st.integers(1, 32),
    st.integers(1, 65535),
)


@settings(max_examples=100, deadline=None)
@given(whole, st.integers(1, 9000), st.integers(1, 1 << 20))
def test_every_valid_plan_lowers_to_legal_extents(plan, rows, columns):
    refuse_invalid(PROBLEM, (plan,), Language.CUDA)
    assert_legal(lower(PROBLEM, (plan,), kernels_for((plan,)), shape(rows, columns)), [plan])


def broken(launch: Launch, field: str, text: str) -> Launch:
    """Put `text` into one field of a launch."""
    name, _, rest = field.partition("[")
    if not rest:
        return launch.model_copy(update={name: text})
    values = list(getattr(launch, name))
    values[int(rest[0])] = text
    return launch.model_copy(update={name: tuple(values)})


@settings(max_examples=120, deadline=None)
@given(
    whole,
    st.integers(0, 1),
    st.sampled_from(["grid[0]", "grid[2]", "block[0]", "block[1]", "shared_bytes"]),
    st.sampled_from(BROKEN),
)
def test_one_broken_field_is_the_one_that_is_named(plan, at, field, text):
    made = list(plan.launches)
    made[at] = broken(made[at], field, text)
    changed = plan.model_copy(update={"launches": tuple(made)})
    with pytest.raises(PlanError) as caught:
        refuse_invalid(PROBLEM, (plan, changed), Language.CUDA)
    expected = f"plan 1, launch {at} ({made[at].kernel!r}), {field}: "
    assert str(caught.value).startswith(expected)
