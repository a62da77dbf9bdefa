"""Launch plans as Python: the same launches as the runner's own lowering, for every size."""

import ast
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gpu_runner.candidate import Candidate, Language, LaunchPlan, Source
from gpu_runner.device.concrete import ConcreteArgument, Map, Pointer, Scratch, Word
from gpu_runner.device.kernel_index import CompiledKernel
from gpu_runner.device.lowered import lower, refuse_invalid
from gpu_runner.errors import PlanError
from gpu_runner.problem import DType, Scalar, Tensor, Workload
from graph import repository
from graph.repository.plans import plan_source
from tests.builders import make_problem
from tests.graph.device_run import cuda_softmax, triton_softmax

TEMPLATE = Path(repository.__file__).parent / "templates" / "cuda" / "src" / "plans.py.j2"
PLANS: TypeAdapter[tuple[LaunchPlan, ...]] = TypeAdapter(tuple[LaunchPlan, ...])
PROBLEM = make_problem(
    inputs=(
        Tensor(name="x", shape=("B", "N"), dtype=DType.BFLOAT16),
        Tensor(name="w", shape=("N",), dtype=DType.INT8),
    ),
    outputs=(Tensor(name="y", shape=("B", "N"), dtype=DType.FLOAT32),),
    scalars=(Scalar(name="eps", default=0.25), Scalar(name="groups", kind="int", default=3)),
)
EVERYTHING = """[
  {"guard": "N % 64 == 0 and B >= 8 and not N > 4096",
   "workspace_bytes": "(B >= 64 and N > 64) * 4096 + 1024",
   "launches": [
     {"kernel": "first", "grid": ["ceil_div(B, 64) * 2", "min(N, 7) if B > 9 else 3", "1"],
      "block": ["128", "2", "1"], "cluster": ["2", "1", "1"], "shared_bytes": "N << 2",
      "arguments": ["x", {"tensor": "x", "box": ["64", "32"], "swizzle": "64B"},
        {"tensor": "w", "box": ["1", "min(N, 256)"], "l2_promotion": "128B"},
        {"tensor": "y", "rows": "B * N // 64", "columns": "64", "box": ["8", "64"]},
        "workspace", {"workspace": "512"}, "N", "eps", "groups",
        {"value": "ceil_div(N, 3) - (B or N)", "type": "i32"}, {"value": "eps", "type": "f32"}]},
     {"kernel": "second", "grid": ["B", "1", "1"], "block": ["32", "1", "1"],
      "arguments": ["y", {"value": "groups", "type": "i32"}]}]},
  {"guard": "B < 1000 or N < 1000",
   "launches": [{"kernel": "third", "grid": ["max(B, 2)", "N", "1"], "block": ["1", "1", "1"],
     "arguments": ["w", "B", {"value": "abs(B - N) % 5 >> 1", "type": "i64"}]}]}
]"""


def kernel(*parameters: str, threads: int = 0) -> CompiledKernel:
    return CompiledKernel(
        cubin="kernel.cubin",
        symbol="k",
        shared_bytes=0,
        is_dynamic_shared=bool(threads),
        parameters=parameters,
        threads=threads,
    )


MAP = "b8[128]"
INDEX = {
    "0.0": kernel(
        *("u64", MAP, MAP, MAP, "u64", "u64", "u64", "f64", "u64", "u32", "f32"),
    ),
    "0.1": kernel("u64", "u32"),
    "1.0": kernel("u64", "u64", "u64"),
}


def everything() -> Candidate:
    return Candidate(
        language=Language.CUDA,
        sources=(Source(path="kernel.cu", text="x"),),
        plans=PLANS.validate_json(EVERYTHING),
    )


@pytest.fixture(scope="module")
def values() -> Iterator[ModuleType]:
    """`softmax.plans` of a repository."""
    module = ModuleType("softmax.plans")
    exec(TEMPLATE.read_text(), module.__dict__)
    sys.modules["softmax"], sys.modules["softmax.plans"] = ModuleType("softmax"), module
    yield module
    del sys.modules["softmax"], sys.modules["softmax.plans"]


def loaded(candidate: Candidate) -> Callable[..., Any]:
    module: dict[str, Any] = {}
    exec(plan_source(PROBLEM, candidate, "v001"), module)
    chosen: Callable[..., Any] = module["plan"]
    return chosen


def concrete(argument: Any, sizes: dict[str, int]) -> ConcreteArgument:
    """A value of a repository as the runner's lowering says it."""
    formats = {"i32": "<i", "i64": "<q", "f32": "<f", "f64": "<d"}
    match type(argument).__name__:
        case "Pointer":
            return Pointer(tensor=argument.tensor)
        case "Scratch":
            return Scratch(offset=argument.offset)
        case "Number":
            return Word(bytes=struct.pack(formats[argument.type], argument.value))
        case "Scalar":
            given = {"eps": 0.25, "groups": 3}[argument.name]
            return Word(bytes=struct.pack(formats[argument.type], given))
        case "TensorMap":
            told = argument._asdict()
            return Map(**{**told, "dtype": DType(told["dtype"])})
        case other:
            raise AssertionError(other)


@given(st.integers(1, 5000), st.one_of(st.integers(1, 5000), st.integers(1, 80).map((64).__mul__)))
def test_every_size_is_launched_as_the_runner_lowers_it(values, rows, columns):
    candidate, sizes = everything(), {"B": rows, "N": columns}
    made = loaded(candidate)(**sizes)
    try:
        right = lower(PROBLEM, candidate.plans, INDEX, Workload(name="w", axes=sizes))
    except PlanError:
        assert made is None or values.objection(made)
        return
    assert values.objection(made) == ""
    assert made.workspace_bytes == right.workspace_bytes
    assert [launch.entry for launch in made.launches] == [
        f"{right.plan}.{index}" for index in range(len(right.launches))
    ]
    for ours, theirs in zip(made.launches, right.launches, strict=True):
        assert ours.kernel == theirs.kernel
        assert (ours.grid, ours.block, ours.cluster) == (theirs.grid, theirs.block, theirs.cluster)
        assert ours.shared_bytes == theirs.shared_bytes
        assert [concrete(a, sizes) for a in ours.arguments] == list(theirs.arguments)


def test_the_plans_of_that_law_are_valid_and_each_serves_some_size(values):
    candidate = everything()
    refuse_invalid(PROBLEM, candidate.plans, candidate.language)
    chosen = loaded(candidate)
    assert chosen(B=64, N=128).launches[0].kernel == "first"
    assert chosen(B=3, N=100).launches[0].kernel == "third"
    assert chosen(B=1000, N=1000) is None


def test_the_block_of_a_triton_kernel_lies_along_x(values):
    triton = triton_softmax()
    launch = triton.plans[0].launches[0].model_copy(update={"block": ("32", "4", "1")})
    plans = (LaunchPlan(launches=(launch,)),)
    made = loaded(triton.model_copy(update={"plans": plans}))(B=3, N=100)
    assert made.launches[0].block == (128, 1, 1)


def test_what_a_kernel_was_compiled_to_rely_on_is_part_of_the_number(values):
    plans = (
        '[{"launches": [{"kernel": "k", "grid": ["B", "1", "1"], "block": ["32", "1", "1"], '
        '"arguments": [{"value": "N", "type": "i32", "divisible": 16}]}]}]'
    )
    chosen = loaded(cuda_softmax(plans=plans))
    assert values.objection(chosen(B=1, N=32)) == ""
    assert values.objection(chosen(B=1, N=40)) == "k: 40, no multiple of 16"


def test_the_source_is_read_by_its_owner():
    text = plan_source(PROBLEM, cuda_softmax(), "v007")
    assert text.startswith('"""Launches of v007: generated from plan.json, edits are lost."""\n')
    assert "from softmax.plans import Launch, Number, Plan, Pointer, Scratch, ceil_div\n" in text
    assert "    if N % 8 == 0 and N <= 16384:\n        return plan_0(B=B, N=N)\n" in text
    assert "                shared_bytes=4 * N,\n" in text
    assert text.endswith(")\n")
    functions = [n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]
    assert functions == ["plan", "plan_0", "plan_1"]


def test_plans_behind_one_that_always_holds_are_not_asked(values):
    plans = "".join((cuda_softmax().plans[1].model_dump_json(exclude={"guard"}),))
    candidate = cuda_softmax(plans=f"[{plans}, {plans}]")
    text = plan_source(PROBLEM, candidate, "v001")
    assert "return None" not in text
    assert loaded(candidate)(B=1, N=1).launches[0].entry == "0.0"
