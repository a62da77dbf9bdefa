import json

import pytest

from gpu_runner.candidate import Language, Launch, LaunchPlan
from gpu_runner.jobs import Reason
from gpu_runner.languages import BuildRefused, build, missing_toolchain
from gpu_runner.languages.triton import POINTERS, kernel_requests
from gpu_runner.languages.triton_compile import counters_in
from gpu_runner.problem import DType, Scalar, Tensor
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import built, refused_by

KERNEL = """
import triton
import triton.language as tl


@triton.jit
def softmax(x, y, N, BLOCK: tl.constexpr = 1024):
    row = tl.program_id(0)
    i = tl.arange(0, BLOCK)
    v = tl.load(x + row * N + i, mask=i < N, other=-float("inf"))
    e = tl.exp(v - tl.max(v, 0))
    tl.store(y + row * N + i, e / tl.sum(e, 0), mask=i < N)
"""

needs_triton = pytest.mark.skipif(
    missing_toolchain(Language.TRITON) is not None, reason="triton is not installed"
)


def make_launch(**changes):
    values = {
        "kernel": "softmax",
        "grid": ("B", "1", "1"),
        "block": ("128", "1", "1"),
        "arguments": ("x", "y", "N"),
    }
    return Launch(**{**values, **changes})


def make_triton(*launches, text=KERNEL, **changes):
    plan = LaunchPlan(launches=launches or (make_launch(),))
    return make_candidate(language=Language.TRITON, text=text, plans=(plan,), **changes)


def test_types_follow_from_the_problem():
    problem = make_problem(
        inputs=(
            Tensor(name="x", shape=("B", "N"), dtype=DType.BFLOAT16),
            Tensor(name="index", shape=("B",), dtype=DType.INT32),
        ),
        scalars=(Scalar(name="eps", default=1e-6), Scalar(name="groups", kind="int", default=1)),
    )
    arguments = ("index", "x", "y", "B", "eps", "groups", "workspace")
    requests = kernel_requests(problem, make_triton(make_launch(arguments=arguments)))
    assert requests == {
        "softmax": {
            "types": ["*i32", "*bf16", "*fp32", "i64", "fp64", "i64", "*u8"],
            "warps": 4,
        }
    }


@pytest.mark.parametrize("dtype", DType)
def test_every_element_type_has_a_pointer_type(dtype):
    problem = make_problem(inputs=(Tensor(name="x", shape=("B",), dtype=dtype),))
    requests = kernel_requests(problem, make_triton(make_launch(arguments=("x",))))
    assert requests == {"softmax": {"types": [POINTERS[dtype]], "warps": 4}}


@pytest.mark.parametrize(
    ("block", "warps"),
    [(("32", "1", "1"), 1), (("64", "2", "1"), 4), (("16 * 16", "1", "1"), 8)],
)
def test_warps_are_the_threads_of_the_block_over_32(block, warps):
    requests = kernel_requests(make_problem(), make_triton(make_launch(block=block)))
    assert requests == {"softmax": {"types": ["*fp32", "*fp32", "i64"], "warps": warps}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arguments": ("x", "z")}, "passes 'z'"),
        ({"block": ("N", "1", "1")}, "must be constants"),
        ({"block": ("48", "1", "1")}, "power of two"),
        ({"block": ("96", "1", "1")}, "power of two"),
        ({"block": ("0", "1", "1")}, "power of two"),
    ],
)
def test_launch_that_cannot_be_compiled_is_refused(changes, said):
    refused = kernel_requests(make_problem(), make_triton(make_launch(**changes)))
    assert isinstance(refused, BuildRefused)
    assert refused.reason is Reason.LANGUAGE_MISMATCH
    assert said in refused.message


def test_one_kernel_is_launched_in_one_way():
    twice = make_triton(make_launch(), make_launch(grid=("1", "1", "1")))
    differently = make_triton(make_launch(), make_launch(block=("256", "1", "1")))
    once = kernel_requests(make_problem(), make_triton())
    assert kernel_requests(make_problem(), twice) == once
    assert "differ" in refused_by(kernel_requests(make_problem(), differently)).message


def test_counters_are_named_by_kernel():
    index = json.dumps({"softmax": {"counters": {"shared_bytes": 16}}}).encode()
    assert counters_in(index) == {"softmax.shared_bytes": 16.0}


@needs_triton
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a"])
def test_kernel_becomes_a_cubin(tmp_path, arch):
    candidate = make_triton(flags=(f"--gpu-architecture={arch}",))
    artefact = built(build(make_problem(), candidate, cache=tmp_path, timeout_s=120.0))
    index = json.loads(artefact.entry.read_text())
    assert index["softmax"]["types"] == ["*fp32", "*fp32", "i64"]
    assert (artefact.path / "softmax.cubin").read_bytes()[:4] == b"\x7fELF"


@needs_triton
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (KERNEL.replace("tl.exp", "tl.absent"), "absent"),
        (KERNEL.replace(" = 1024", ""), "default"),
        (KERNEL.replace("y, N", "y, N, extra"), "passes 3"),
        (KERNEL.replace("def softmax", "def other"), "no @triton.jit function"),
    ],
)
def test_module_that_does_not_compile_is_refused(tmp_path, text, said):
    outcome = build(make_problem(), make_triton(text=text), cache=tmp_path, timeout_s=120.0)
    refused = refused_by(outcome)
    assert refused.reason is Reason.COMPILE_FAILED
    assert said in refused.log_tail


@needs_triton
def test_flags_and_sources_are_checked(tmp_path):
    flagged = make_triton(flags=("--use_fast_math",))
    refused = refused_by(build(make_problem(), flagged, cache=tmp_path, timeout_s=120.0))
    assert refused.reason is Reason.FLAG_NOT_ALLOWED
