"""What triton is asked to compile; needs no triton."""

import pytest

from gpu_runner.candidate import Slice, Value
from gpu_runner.languages.triton_variants import POINTERS, Variant, wanted
from gpu_runner.problem import DType, Scalar, Tensor
from tests.builders import make_problem
from tests.gpu_runner.languages.test_triton import make_launch, make_triton


def variants(*launches, problem=None):
    return wanted(problem or make_problem(), make_triton(*launches)).variants


def test_types_follow_from_the_problem_and_the_plan():
    problem = make_problem(
        inputs=(
            Tensor(name="x", shape=("B", "N"), dtype=DType.BFLOAT16),
            Tensor(name="index", shape=("B",), dtype=DType.INT32),
        ),
        scalars=(Scalar(name="eps", default=1e-6), Scalar(name="groups", kind="int", default=1)),
    )
    arguments = (
        *("index", "x", "y", "B", "eps", "groups", "workspace"),
        Slice(workspace="N * 16"),
        Value(value="N + 1", type="i32"),
        Value(value="N", type="i64", divisible=16),
        Value(value="eps", type="f32"),
        Value(value="eps", type="f64"),
    )
    launch = make_launch(arguments=arguments, constants={"B": 2, "A": True}, stages=3)
    assert variants(launch, problem=problem) == {
        "softmax": Variant(
            kernel="softmax",
            types=(
                *("*i32", "*bf16", "*fp32", "i64", "fp64", "i64", "*u8"),
                *("*u8", "i32", "i64", "fp32", "fp64"),
            ),
            divisible=(0, 1, 2, 6, 7, 9),
            constants=(("A", True), ("B", 2)),
            warps=4,
            stages=3,
        )
    }


def test_a_request_names_the_launch_it_was_first_wanted_by():
    found = wanted(make_problem(), make_triton(make_launch(), make_launch(kernel="other")))
    assert found.requests["other"] == {
        "kernel": "other",
        "types": ["*fp32", "*fp32", "i64"],
        "divisible": [0, 1],
        "constants": {},
        "warps": 4,
        "stages": None,
        "where": "plan 0, launch 1 ('other')",
    }


@pytest.mark.parametrize("dtype", DType)
def test_every_element_type_has_a_pointer_type(dtype):
    problem = make_problem(inputs=(Tensor(name="x", shape=("B",), dtype=dtype),))
    (variant,) = variants(make_launch(arguments=("x",)), problem=problem).values()
    assert variant.types == (POINTERS[dtype],)


@pytest.mark.parametrize(
    ("block", "warps"),
    [(("32", "1", "1"), 1), (("64", "2", "1"), 4), (("16 * 16", "1", "1"), 8)],
)
def test_warps_are_the_threads_of_the_block_over_32(block, warps):
    (variant,) = variants(make_launch(block=block)).values()
    assert (variant.warps, variant.threads) == (warps, 32 * warps)


@pytest.mark.parametrize(
    "changes",
    [{}, {"grid": ("1", "1", "1")}, {"block": ("64", "2", "1")}, {"arguments": ("y", "x", "B")}],
)
def test_launches_of_one_way_share_a_compilation(changes):
    found = wanted(make_problem(), make_triton(make_launch(), make_launch(**changes)))
    assert list(found.variants) == ["softmax"]
    assert found.launches == {"0.0": "softmax", "0.1": "softmax"}


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": "other"},
        {"block": ("256", "1", "1")},
        {"arguments": ("x", "y", Value(value="N", type="i32"))},
        {"arguments": ("x", "y", Value(value="N", type="i64", divisible=16))},
        {"constants": {"BLOCK": 1}},
        {"stages": 1},
    ],
)
def test_launches_of_another_way_have_one_of_their_own(changes):
    found = wanted(make_problem(), make_triton(make_launch(), make_launch(**changes)))
    second = "other" if "kernel" in changes else "softmax.1"
    assert found.launches == {"0.0": "softmax", "0.1": second}
    assert set(found.requests) == set(found.variants) == {"softmax", second}


def test_one_and_true_are_constants_of_their_own():
    launches = [make_launch(constants={"BLOCK": value}) for value in (1, True, 1.0, 1)]
    assert wanted(make_problem(), make_triton(*launches)).launches == {
        "0.0": "softmax",
        "0.1": "softmax.1",
        "0.2": "softmax.2",
        "0.3": "softmax",
    }
