"""From plans and a workload to concrete launches, and each limit of a device by its field."""

import struct

import pytest

from gpu_runner.candidate import Slice, TensorMap, Value
from gpu_runner.device import lowered
from gpu_runner.device.lowered import (
    ConcreteLaunch,
    Lowered,
    PlanError,
    Pointer,
    Scratch,
    Word,
    lower,
)
from tests.gpu_runner.device.plans import (
    compiled,
    index_of,
    make_launch,
    make_plan,
    plan_problem,
    shape,
)


def lower_one(workload=None, kernel=None, *, workspace_bytes="0", **changes):
    plans = (make_plan(make_launch(**changes), workspace_bytes=workspace_bytes),)
    return lower(plan_problem(), plans, index_of(plans, kernel), workload or shape())


def refusal(workload=None, kernel=None, **changes):
    with pytest.raises(PlanError) as caught:
        lower_one(workload, kernel, **changes)
    return str(caught.value)


def test_a_plan_becomes_numbers():
    plan = make_plan(
        make_launch(grid=("ceil_div(B, 4)", "2", "1"), cluster=("1", "2", "1"), shared_bytes="4*N"),
        make_launch(kernel="finish", grid=("B", "1", "1"), arguments=("workspace", "y")),
        workspace_bytes="B * H * 4",
    )
    second = compiled("u64", "u64", cubin="second.cubin", symbol="finish_0d1d")
    found = lower(plan_problem(), (plan,), index_of((plan,), p0_1=second), shape(10, 64))
    assert found == Lowered(
        plan=0,
        workspace_bytes=10 * 32 * 4,
        launches=(
            ConcreteLaunch(
                kernel="reduce",
                entry="kernel.cubin",
                symbol="reduce",
                grid=(3, 2, 1),
                block=(128, 1, 1),
                cluster=(1, 2, 1),
                shared_bytes=256,
                arguments=(
                    Pointer(tensor="x"),
                    Pointer(tensor="y"),
                    Word(bytes=b"\x40" + bytes(7)),
                ),
            ),
            ConcreteLaunch(
                kernel="finish",
                entry="second.cubin",
                symbol="finish_0d1d",
                grid=(10, 1, 1),
                block=(128, 1, 1),
                cluster=None,
                shared_bytes=0,
                arguments=(Scratch(offset=0), Pointer(tensor="y")),
            ),
        ),
    )


def test_the_first_plan_whose_guard_holds_serves():
    plans = (
        make_plan(guard="N % 8 == 0 and B >= 16"),
        make_plan(guard="N % 8 == 0"),
        make_plan(),
    )
    served = [
        lower(plan_problem(), plans, index_of(plans), shape(*sizes)).plan
        for sizes in ((16, 128), (8, 128), (8, 127))
    ]
    assert served == [0, 1, 2]


def test_a_shape_no_plan_serves_is_told_with_its_sizes_and_the_remedy():
    plans = (make_plan(guard="N > 128"), make_plan(guard="B == 1"))
    with pytest.raises(PlanError) as caught:
        lower(plan_problem(), plans, index_of(plans), shape())
    assert str(caught.value) == (
        "no plan serves the workload 'small' (B=8, N=128, H=64); add a last plan with guard 1"
    )


def test_a_guard_without_a_value_is_an_error_not_a_no():
    plans = (make_plan(guard="N // (B - 8)"),)
    with pytest.raises(PlanError, match=r"^plan 0, guard: workload 'small': .*divides by zero"):
        lower(plan_problem(), plans, index_of(plans), shape())


def test_the_error_counts_plans_and_launches():
    plans = (
        make_plan(guard="0"),
        make_plan(make_launch(), make_launch(kernel="finish", grid=("B", "0", "1"))),
    )
    with pytest.raises(PlanError) as caught:
        lower(plan_problem(), plans, index_of(plans), shape())
    assert str(caught.value).startswith("plan 1, launch 1 ('finish'), grid[1]: '0' gives 0")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": ("B - 8", "1", "1")}, "grid[0]: 'B - 8' gives 0 for the workload 'small'"),
        ({"grid": ("1 << 31", "1", "1")}, "grid[0]: '1 << 31' gives 2147483648"),
        ({"grid": ("1", "65536", "1")}, "grid[1]: '65536' gives 65536"),
        ({"grid": ("1", "1", "65536")}, "grid[2]: '65536' gives 65536"),
        ({"grid": ("N // (B - 8)", "1", "1")}, "grid[0]: workload 'small'"),
        ({"block": ("1025", "1", "1")}, "block[0]: '1025' gives 1025"),
        ({"block": ("1", "1", "65")}, "block[2]: '65' gives 65"),
        ({"block": ("64", "17", "1")}, "block: 1088 threads; the kernel takes at most 1024"),
        ({"block": ("-1", "1", "1")}, "block[0]: '-1' gives -1"),
        ({"cluster": ("17", "1", "1")}, "cluster[0]: '17' gives 17"),
        ({"cluster": ("4", "8", "1")}, "cluster: 32 blocks; at most 16"),
        ({"cluster": ("3", "1", "1")}, "grid[0]: 8 blocks cannot be split into clusters of 3"),
        ({"shared_bytes": "232449"}, "shared_bytes: 232449 bytes beside 0 static ones"),
        ({"shared_bytes": "-4"}, "shared_bytes: -4 bytes"),
        ({"workspace_bytes": "-1"}, "workspace_bytes: '-1' gives -1"),
        ({"workspace_bytes": "B << 29 | 1"}, "workspace_bytes: workload 'small'"),
        ({"workspace_bytes": "(B << 29) + 1"}, "workspace_bytes: 4294967297 bytes; at most"),
        ({"arguments": ("x", "y")}, "arguments: the plan passes 2, the kernel takes 3: u64, u64"),
    ],
)
def test_what_no_device_has_is_refused_by_its_field(changes, said):
    place = "plan 0, " if "workspace_bytes" in changes else "plan 0, launch 0 ('reduce'), "
    assert refusal(**changes).startswith(place + said)


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": ("2147483647", "65535", "65535")},
        {"block": ("16", "1", "64")},
        {"block": ("1024", "1", "1")},
        {"grid": ("16", "1", "1"), "cluster": ("16", "1", "1")},
        {"shared_bytes": "232448"},
        {"workspace_bytes": "B << 29"},
    ],
)
def test_what_the_largest_device_has_is_served(changes):
    assert lower_one(**changes).plan == 0


def test_static_shared_memory_counts_against_the_dynamic_one():
    kernel = compiled(shared_bytes=232_000)
    assert lower_one(kernel=kernel, shared_bytes="448").launches[0].shared_bytes == 448
    assert "449 bytes beside 232000 static" in refusal(kernel=kernel, shared_bytes="449")


def test_launch_bounds_and_registers_limit_the_block():
    assert "at most 64 by its __launch_bounds__" in refusal(kernel=compiled(most_threads=64))
    wide = {"block": ("512", "1", "1")}
    assert lower_one(kernel=compiled(registers=128), **wide).launches[0].block == (512, 1, 1)
    assert "512 threads of 129 registers exceed" in refusal(kernel=compiled(registers=129), **wide)


def test_a_kernel_the_artefact_lacks_is_named():
    plans = (make_plan(),)
    with pytest.raises(PlanError, match=r"launch 0 \('reduce'\), kernel: the artefact has no such"):
        lower(plan_problem(), plans, {}, shape())


def triton(*parameters, **changes):
    values = {"threads": 256, "is_dynamic_shared": True, "shared_bytes": 49_152}
    return compiled(*parameters, **{**values, **changes})


def test_the_compiler_gives_block_and_shared_memory_of_a_triton_kernel():
    launch = lower_one(kernel=triton(), block=("64", "4", "1")).launches[0]
    assert (launch.block, launch.shared_bytes) == ((256, 1, 1), 49_152)
    assert "232449 bytes" in refusal(kernel=triton(shared_bytes=232_449))


def test_hidden_parameters_get_null_pointers():
    kernel = triton("u64", "u64", "u64", "u64", "u64", hidden=2)
    launch = lower_one(kernel=kernel).launches[0]
    assert launch.arguments[3:] == (Word(bytes=bytes(8)), Word(bytes=bytes(8)))
    assert "passes 2, the kernel takes 3" in refusal(kernel=kernel, arguments=("x", "y"))


def test_scratch_of_the_compiler_lies_behind_the_plans_workspace():
    kernel = triton("u64", "u64", "u64", "u64", "u64", hidden=2, scratch_bytes=384)
    found = lower_one(
        kernel=kernel, workspace_bytes="100", arguments=("x", "y", Slice(workspace="96"))
    )
    assert found.workspace_bytes == 256 + 384 * 8
    assert found.launches[0].arguments[2:] == (
        Scratch(offset=96),
        Scratch(offset=256),
        Word(bytes=bytes(8)),
    )


def test_launches_share_the_scratch_of_the_compiler():
    small = triton("u64", "u64", "u64", "u64", hidden=1, scratch_bytes=128)
    large = triton("u64", "u64", "u64", "u64", hidden=1, scratch_bytes=256)
    plans = (make_plan(make_launch(), make_launch(), make_launch()),)
    index = index_of(plans, small, p0_1=large)
    found = lower(plan_problem(), plans, index, shape())
    assert found.workspace_bytes == 256 * 8
    assert {launch.arguments[3] for launch in found.launches} == {Scratch(offset=0)}


def test_scratch_beyond_the_limit_is_refused():
    kernel = triton("u64", "u64", "u64", "u64", hidden=1, scratch_bytes=1 << 30)
    assert "8589934592 bytes; at most 4294967296" in refusal(kernel=kernel)


def test_scalars_take_the_workloads_value_or_the_default():
    arguments = ("eps", "groups", Value(value="eps", type="f32"), Value(value="H + 1", type="i32"))
    kernel = compiled("f64", "u64", "f32", "u32")
    words = [
        a.bytes
        for a in lower_one(shape(eps=0.5), kernel, arguments=arguments).launches[0].arguments
    ]
    assert words == [
        struct.pack("<d", 0.5),
        struct.pack("<q", 4),
        struct.pack("<f", 0.5),
        struct.pack("<i", 65),
    ]


def test_a_tensor_map_fills_one_parameter_of_128_bytes():
    found = lower_one(
        kernel=compiled("b8[128]", "u64"),
        arguments=(TensorMap(tensor="x", box=("8", "64"), swizzle="128B"), "y"),
    )
    made = found.launches[0].arguments[0]
    assert (made.rows, made.columns, made.box, made.item_bytes) == (8, 128, (8, 64), 2)


def test_the_interface_is_in_one_module():
    assert all(hasattr(lowered, name) for name in lowered.__all__)
