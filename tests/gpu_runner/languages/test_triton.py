"""Triton candidates: compiled for real, one cubin a distinct way, described by an index."""

import pytest

from gpu_runner.candidate import Language, Launch, LaunchPlan, Slice, Source, Value
from gpu_runner.device.kernel_index import read_index
from gpu_runner.device.lowered import Word, lower
from gpu_runner.jobs import Reason
from gpu_runner.languages import build, cuda_compile, missing_toolchain
from gpu_runner.languages.cubin import parameter_sizes
from gpu_runner.languages.triton import _assembler
from gpu_runner.problem import DType, Scalar, Tensor
from tests.builders import make_candidate, make_problem, make_workload
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
MARKED = KERNEL.replace("    row = tl.program_id(0)\n", "    row = tl.program_id(0)\n    {}\n")

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
    plan = LaunchPlan(launches=launches or (make_launch(),), workspace_bytes="B * 4")
    values = {
        "language": Language.TRITON,
        "sources": (Source(path="kernels.py", text=text),),
        "plans": (plan,),
    }
    return make_candidate(**{**values, **changes})


def build_triton(cache, candidate, problem=None):
    return build(problem or make_problem(), candidate, cache=cache, timeout_s=120.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@needs_triton
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a"])
def test_kernel_becomes_a_cubin_for_the_architecture(cache, arch):
    artefact = built(build_triton(cache, make_triton(flags=(f"--gpu-architecture={arch}",))))
    assert f".target {arch}" in (artefact.path / "softmax.ptx").read_text()
    assert artefact.counters["softmax.registers"] > 0
    kernel = read_index(artefact.path)["0.0"]
    assert (kernel.cubin, kernel.symbol, kernel.threads) == ("softmax.cubin", "softmax", 128)
    assert kernel.is_dynamic_shared
    assert kernel.registers == artefact.counters["softmax.registers"]
    sizes = parameter_sizes((artefact.path / kernel.cubin).read_bytes())
    assert sizes == {"softmax": (8,) * len(kernel.parameters)}
    assert len(kernel.parameters) == 3 + kernel.hidden


@needs_triton
def test_what_is_built_can_be_lowered(cache):
    candidate = make_triton()
    artefact = built(build_triton(cache, candidate))
    index = read_index(artefact.path)
    (launch,) = lower(make_problem(), candidate.plans, index, make_workload()).launches
    assert (launch.grid, launch.block) == ((8, 1, 1), (128, 1, 1))
    assert launch.shared_bytes == index["0.0"].shared_bytes
    assert launch.arguments[2] == Word(bytes=b"\x80" + bytes(7))
    assert launch.arguments[3:] == (Word(bytes=bytes(8)),) * index["0.0"].hidden


@needs_triton
def test_each_distinct_way_is_compiled_once(cache):
    launches = (
        make_launch(),
        make_launch(constants={"BLOCK": 2048}),
        make_launch(constants={"BLOCK": 2048}, grid=("1", "1", "1")),
        make_launch(block=("256", "1", "1")),
        make_launch(stages=4),
        make_launch(arguments=("x", "y", Value(value="N", type="i32"))),
        make_launch(arguments=("x", "y", Value(value="N", type="i32", divisible=16))),
    )
    artefact = built(build_triton(cache, make_triton(*launches)))
    index = read_index(artefact.path)
    files = [index[f"0.{n}"].cubin for n in range(7)]
    assert files == [
        "softmax.cubin",
        "softmax.1.cubin",
        "softmax.1.cubin",
        "softmax.2.cubin",
        "softmax.3.cubin",
        "softmax.4.cubin",
        "softmax.5.cubin",
    ]
    assert sorted(path.name for path in artefact.path.glob("*.cubin")) == sorted(set(files))
    assert [index[f"0.{n}"].threads for n in range(7)] == [128, 128, 128, 256, 128, 128, 128]
    assert index["0.5"].parameters[2] in {"u32", "b32", "s32"}
    assert {"softmax.registers", "softmax.5.registers"} <= set(artefact.counters)


@needs_triton
def test_pointers_and_marked_numbers_are_known_to_be_multiples_of_16(cache):
    # Lines of N elements start at multiples of 16 bytes only where N is known to be one.
    marked = make_launch(arguments=("x", "y", Value(value="N", type="i32", divisible=16)))
    plain = make_launch(arguments=("x", "y", Value(value="N", type="i32")))
    artefact = built(build_triton(cache, make_triton(marked, plain)))
    wide = [
        (artefact.path / f"{name}.ptx").read_text().count("ld.global.v4")
        for name in ("softmax", "softmax.1")
    ]
    assert wide[0] > 0
    assert wide[1] == 0


EVERY_KIND = """
import triton
import triton.language as tl


@triton.jit
def every(x, y, space, part, N, eps, groups, small, narrow,
          SCALE: tl.constexpr, IS_ON: tl.constexpr):
    i = tl.arange(0, 32)
    v = tl.load(x + i).to(tl.float32) * SCALE + eps + narrow
    if IS_ON:
        v += groups + small + N
    tl.store(space.to(tl.pointer_type(tl.float32)) + i, v)
    tl.store(part.to(tl.pointer_type(tl.float32)) + i, v)
    tl.store(y + i, v)
"""


@needs_triton
def test_every_kind_of_argument_is_passed(cache):
    problem = make_problem(
        inputs=(Tensor(name="x", shape=("B", "N"), dtype=DType.BFLOAT16),),
        scalars=(Scalar(name="eps", default=1e-6), Scalar(name="groups", kind="int", default=4)),
    )
    launch = make_launch(
        kernel="every",
        arguments=(
            *("x", "y", "workspace", Slice(workspace="16"), "N", "eps", "groups"),
            Value(value="B + 1", type="i32"),
            Value(value="eps", type="f32"),
        ),
        constants={"SCALE": 0.5, "IS_ON": True},
    )
    candidate = make_triton(launch, text=EVERY_KIND)
    artefact = built(build_triton(cache, candidate, problem))
    kernel = read_index(artefact.path)["0.0"]
    sizes = parameter_sizes((artefact.path / kernel.cubin).read_bytes())["every"]
    assert sizes[:9] == (8, 8, 8, 8, 8, 8, 8, 4, 4)
    lowered = lower(problem, candidate.plans, read_index(artefact.path), make_workload())
    assert len(lowered.launches[0].arguments) == len(sizes)


DESCRIPTOR = """
import triton
import triton.language as tl


@triton.jit
def softmax(x, y, N):
    row = tl.program_id(0) * 8
    source = tl.make_tensor_descriptor(x, [row + 8, N], [N, 1], [8, 64])
    target = tl.make_tensor_descriptor(y, [row + 8, N], [N, 1], [8, 64])
    target.store([row, 0], source.load([row, 0]))
"""


@needs_triton
def test_scratch_that_descriptors_need_is_taken_from_the_workspace(cache):
    candidate = make_triton(text=DESCRIPTOR)
    index = read_index(built(build_triton(cache, candidate)).path)
    assert index["0.0"].scratch_bytes >= 256
    found = lower(make_problem(), candidate.plans, index, make_workload())
    assert found.workspace_bytes == 256 + 8 * index["0.0"].scratch_bytes


@needs_triton
@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        (KERNEL.replace("tl.exp", "tl.absent"), {}, "absent"),
        (
            KERNEL.replace(" = 1024", ""),
            {},
            "plan 0, launch 0 ('softmax'), constants: give 'BLOCK' a value",
        ),
        (KERNEL, {"constants": {"TILE": 1}}, "constants: 'TILE' is no tl.constexpr"),
        (KERNEL.replace("y, N", "y, N, extra"), {}, "arguments: the plan passes 3"),
        (KERNEL, {"arguments": ("x", "y", "N", "B")}, "arguments: the plan passes 4"),
        (KERNEL.replace("def softmax", "def other"), {}, "no @triton.jit function"),
        (KERNEL.replace("@triton.jit", ""), {}, "no @triton.jit function"),
        ("raise ValueError('on import')", {}, "ValueError: on import"),
        ("import os; os._exit(0)", {}, ""),
    ],
)
def test_module_that_does_not_compile_is_refused(tmp_path, text, changes, said):
    outcome = build_triton(tmp_path, make_triton(make_launch(**changes), text=text))
    refused = refused_by(outcome)
    assert refused.reason is Reason.COMPILE_FAILED
    assert said in refused.log_tail
    assert list(tmp_path.iterdir()) == []


FORBIDDEN = {
    "tl.extra.cuda.globaltimer()": "reads a clock",
    'tl.device_print("row", row)': "prints",
    "tl.inline_asm_elementwise('mov.u32 $0, %clock;', '=r,r', [row], dtype=tl.int32, "
    "is_pure=False, pack=1)": "reads a clock",
}


@needs_triton
@pytest.mark.parametrize("line", FORBIDDEN)
def test_forbidden_instructions_are_refused(cache, line):
    text = MARKED.format(line if line.startswith("tl.device") else f"row += ({line}).to(tl.int32)")
    refused = refused_by(build_triton(cache, make_triton(text=text)))
    assert refused.reason is Reason.FORBIDDEN_INSTRUCTION, refused
    assert refused.message.startswith("the device code of the kernel 'softmax'")
    assert FORBIDDEN[line] in refused.message


FORGED = """
import pathlib
import sys
import triton
import triton.language as tl
import triton.compiler


@triton.jit
def softmax(x, y, N):
    pass


class Compiled:
    asm = {"ptx": %r}
    class metadata:
        shared = %d


triton.compile = lambda *_, **__: Compiled
"""
PLAIN_PTX = """\
.version 8.0
.target sm_90a
.address_size 64
.visible .entry softmax(.param .u64 a, .param .u64 b, .param .u64 c) {
  .reg .b64 %t<2>;
  BODY
  ret;
}
"""


@needs_triton
@pytest.mark.parametrize(
    ("text", "shared", "reason", "said"),
    [
        (
            PLAIN_PTX.replace("BODY", "mov.u64 %t1, %globaltimer;"),
            0,
            Reason.FORBIDDEN_INSTRUCTION,
            "reads a clock",
        ),
        (PLAIN_PTX.replace("BODY", "flip;"), 0, Reason.COMPILE_FAILED, "ptxas failed"),
        (
            PLAIN_PTX.replace("BODY", "")
            + PLAIN_PTX[PLAIN_PTX.index(".vis") :].replace("softmax", "other").replace("BODY", ""),
            0,
            Reason.COMPILE_FAILED,
            "became the kernels ['other', 'softmax']",
        ),
        (
            PLAIN_PTX.replace("BODY", "").replace(".param .u64 a,", "/* ) { */ .param .u64 a,"),
            0,
            Reason.COMPILE_FAILED,
            "in its PTX and",
        ),
        (PLAIN_PTX.replace("BODY", ""), -1, Reason.COMPILE_FAILED, "ended the compiler"),
    ],
)
def test_what_a_module_forges_is_looked_at_before_it_is_assembled(
    cache, text, shared, reason, said
):
    candidate = make_triton(text=FORGED % (text, shared), flags=("--gpu-architecture=sm_90a",))
    refused = refused_by(build_triton(cache, candidate))
    assert (refused.reason, said in refused.message) == (reason, True), refused


LINKED = (
    KERNEL
    + """
import atexit, glob, os, sys


@atexit.register
def plant():
    path = os.path.join(sys.argv[2], "softmax.ptx")
    os.unlink(path)
    os.symlink(__file__, path)
"""
)


@needs_triton
def test_a_link_in_the_place_of_the_ptx_is_not_followed(cache):
    refused = refused_by(build_triton(cache, make_triton(text=LINKED)))
    assert refused.reason is Reason.COMPILE_FAILED
    assert "left no PTX of 'softmax'" in refused.message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arguments": ("x", "z")}, "arguments[1]: 'z' is no tensor"),
        ({"block": ("N", "1", "1")}, "block: N x 1 x 1 must be constants"),
        ({"cluster": ("2", "1", "1")}, "cluster: triton"),
    ],
)
@needs_triton
def test_launch_that_cannot_be_compiled_is_refused_by_its_field(cache, changes, said):
    refused = refused_by(build_triton(cache, make_triton(make_launch(**changes))))
    assert refused.reason is Reason.LANGUAGE_MISMATCH
    assert refused.message.startswith(f"plan 0, launch 0 ('softmax'), {said}")


@needs_triton
@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"flags": ("--use_fast_math",)}, Reason.FLAG_NOT_ALLOWED, "--use_fast_math"),
        ({"plans": ()}, Reason.LANGUAGE_MISMATCH, "needs a launch plan"),
        (
            {"sources": (Source(path="kernel.cu", text=""),)},
            Reason.LANGUAGE_MISMATCH,
            "exactly one .py",
        ),
    ],
)
def test_flags_and_sources_are_checked(cache, changes, reason, said):
    refused = refused_by(build_triton(cache, make_triton(**changes)))
    assert refused.reason is reason
    assert said in refused.message


@needs_triton
def test_blackwell_has_an_assembler_of_its_own():
    names = [_assembler(arch).name for arch in ("sm_80", "sm_90a", "sm_100a")]
    assert names == ["ptxas", "ptxas", "ptxas-blackwell"]


@needs_triton
def test_triton_brings_the_headers_of_cuda():
    folder = cuda_compile.package_folder("triton")
    assert folder is not None
    assert (folder / "backends" / "nvidia" / "include" / "cuda_fp16.h").is_file()
