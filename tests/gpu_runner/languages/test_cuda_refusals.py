"""CUDA sources compiled for real by both compilers: what their device code may not have."""

import shutil

import pytest

from gpu_runner.candidate import Launch, LaunchPlan, Slice, TensorMap, Value
from gpu_runner.device.kernel_index import read_index
from gpu_runner.device.lowered import lower
from gpu_runner.jobs import Reason
from gpu_runner.languages import cuda, cuda_compile
from tests.builders import make_problem, make_workload
from tests.gpu_runner.languages.outcomes import built, refused_by
from tests.gpu_runner.languages.test_cuda import KERNEL, make_cuda
from tests.gpu_runner.languages.test_nvrtc_compile import has_nvrtc

COMPILERS = [
    pytest.param(True, id="nvrtc", marks=pytest.mark.skipif(not has_nvrtc(), reason="no NVRTC")),
    pytest.param(
        False, id="nvcc", marks=pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
    ),
]
needs_toolchain = pytest.mark.skipif(
    cuda_compile.missing() is not None, reason="neither NVRTC nor nvcc is installed"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def build(cache, candidate, uses_nvrtc=None):
    return cuda.build_cuda(
        make_problem(), candidate, cache=cache, timeout_s=60.0, uses_nvrtc=uses_nvrtc
    )


def with_line(line):
    return make_cuda(KERNEL.replace("__syncthreads();", line))


FORBIDDEN = {
    "row[0] = clock();": "reads a clock",
    "row[0] = clock64();": "reads a clock",
    'unsigned long long t; asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t)); row[0] = t;': (
        "reads a clock"
    ),
    'unsigned t; asm volatile("mov.u32 %0, %%clock_hi;" : "=r"(t)); row[0] = t;': "reads a clock",
    'unsigned long long t; asm volatile("mov.u64 %0, %%gridid;" : "=l"(t)); row[0] = t;': (
        "reads a counter"
    ),
    'printf("%d", threadIdx.x);': "prints",
    "row[0] = *static_cast<float*>(malloc(4));": "allocates",
    "free(row);": "allocates",
    "__trap();": "traps",
    'asm volatile("trap;");': "traps",
    "__brkpt();": "traps",
}


@needs_toolchain
@pytest.mark.parametrize("line", FORBIDDEN)
def test_a_forbidden_instruction_is_found_in_what_was_compiled(cache, line):
    refused = refused_by(build(cache, with_line(line)))
    assert refused.reason is Reason.FORBIDDEN_INSTRUCTION, refused
    assert refused.message.startswith(f"the device code of this source {FORBIDDEN[line]}")


@pytest.mark.parametrize("uses_nvrtc", COMPILERS)
def test_both_compilers_are_looked_at(cache, uses_nvrtc):
    refused = refused_by(build(cache, with_line("row[0] = clock64();"), uses_nvrtc))
    assert refused.reason is Reason.FORBIDDEN_INSTRUCTION


@needs_toolchain
def test_what_no_kernel_does_is_not_held_against_the_source(cache):
    text = KERNEL + "__device__ inline long long unused() { return clock64(); }\n"
    built(build(cache, make_cuda(text)))


ALLOWED = {
    "an assertion": "assert(N > 0);",
    "sleep": "__nanosleep(20);",
    "the processor's number": (
        'unsigned t; asm volatile("mov.u32 %0, %%smid;" : "=r"(t)); row[0] = t;'
    ),
}


@needs_toolchain
@pytest.mark.parametrize("name", ALLOWED)
def test_what_may_be_useful_is_allowed(cache, name):
    line = ALLOWED[name]
    text = KERNEL.replace("__syncthreads();", line)
    # NVRTC has assert of its own and lacks the header.
    text = "#ifndef __CUDACC_RTC__\n#include <cassert>\n#endif\n" + text
    built(build(cache, make_cuda(text)))


@needs_toolchain
def test_cache_hints_are_allowed_and_counted(cache):
    line = (
        'asm volatile("prefetch.global.L2 [%0];" :: "l"(x));'
        'asm volatile("{.reg .b64 p; createpolicy.fractional.L2::evict_last.b64 p, 1.0;'
        'ld.global.L2::cache_hint.f32 %0, [%1], p;}" : "=f"(row[1]) : "l"(x));'
    )
    counters = built(build(cache, with_line(line))).counters
    assert counters["softmax.prefetches"] == 1.0
    assert counters["softmax.cache_policies"] == 1.0
    assert counters["softmax.evict_last"] == 1.0


PARAMETERS = """
#include "problem.h"
struct alignas(64) Map { char bytes[128]; };

extern "C" __global__ void __launch_bounds__(128)
every(const float* x, float* y, float* part, int n, int64_t b, float eps, double wide,
      const __grid_constant__ Map map) {
    extern __shared__ float space[];
    __shared__ float fixed[32];
    fixed[threadIdx.x % 32] = x[n] + eps + wide + map.bytes[b];
    __syncthreads();
    space[0] = part[0];
    y[0] = fixed[n] + space[n];
}
"""


def every(*arguments, **changes):
    values = {
        "kernel": "every",
        "grid": ("B", "1", "1"),
        "block": ("128", "1", "1"),
        "shared_bytes": "N * 4",
        "arguments": arguments,
    }
    plan = LaunchPlan(launches=(Launch(**{**values, **changes}),), workspace_bytes="B * 16")
    return make_cuda(PARAMETERS, plans=(plan,))


RIGHT = (
    *("x", "y", Slice(workspace="16"), Value(value="N", type="i32"), "B"),
    *(Value(value="eps", type="f32"), "eps"),
    TensorMap(tensor="x", box=("8", "32")),
)


def problem():
    return make_problem(scalars=({"name": "eps", "default": 1e-6},))


def build_every(cache, candidate, uses_nvrtc=None):
    return cuda.build_cuda(problem(), candidate, cache=cache, timeout_s=60.0, uses_nvrtc=uses_nvrtc)


@pytest.mark.parametrize("uses_nvrtc", COMPILERS)
def test_the_index_says_what_the_compiler_made(cache, uses_nvrtc):
    candidate = every(*RIGHT)
    artefact = built(build_every(cache, candidate, uses_nvrtc))
    kernel = read_index(artefact.path)["0.0"]
    assert (kernel.cubin, kernel.symbol) == ("kernel.cubin", "every")
    assert kernel.parameters == ("u64", "u64", "u64", "u32", "u64", "f32", "f64", "b8[128]")
    assert kernel.most_threads == 128
    assert kernel.shared_bytes >= 128
    assert not kernel.is_dynamic_shared
    assert kernel.registers > 0

    found = lower(problem(), candidate.plans, read_index(artefact.path), make_workload())
    assert found.launches[0].shared_bytes == 512


@needs_toolchain
@pytest.mark.parametrize(
    ("at", "argument", "said"),
    [
        (3, "N", "arguments[3]: the plan passes 8 bytes (integer), the kernel declares this"),
        (4, Value(value="B", type="i32"), "arguments[4]: the plan passes 4 bytes (integer)"),
        (5, "eps", "arguments[5]: the plan passes 8 bytes (float)"),
        (5, Value(value="N", type="i32"), "arguments[5]: the plan passes 4 bytes (integer)"),
        (7, "x", "arguments[7]: the plan passes 8 bytes (pointer)"),
        (0, TensorMap(tensor="x", box=("8", "32")), "arguments[0]: the plan passes 128 bytes"),
    ],
)
def test_an_argument_of_another_type_is_refused_when_it_is_built(cache, at, argument, said):
    arguments = [*RIGHT[:at], argument, *RIGHT[at + 1 :]]
    refused = refused_by(build_every(cache, every(*arguments)))
    assert refused.reason is Reason.LANGUAGE_MISMATCH
    assert refused.message.startswith(f"plan 0, launch 0 ('every'), {said}")


@needs_toolchain
def test_too_few_arguments_are_refused_when_it_is_built(cache):
    refused = refused_by(build_every(cache, every(*RIGHT[:-1])))
    assert "arguments: the plan passes 7, the kernel takes 8: u64, u64, u64" in refused.message


@needs_toolchain
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grid": ("M", "1", "1")}, "grid[0]: 'M' uses 'M', which is no axis"),
        ({"stages": 3}, "stages: only triton"),
        ({"arguments": ("x", "absent")}, "arguments[1]: 'absent' is no tensor"),
    ],
)
def test_a_plan_is_refused_before_anything_is_compiled(tmp_path, changes, said):
    refused = refused_by(build_every(tmp_path, every(**{"arguments": RIGHT, **changes})))
    assert refused.reason is Reason.LANGUAGE_MISMATCH
    assert refused.message.startswith(f"plan 0, launch 0 ('every'), {said}")
    assert not any(tmp_path.iterdir())


@needs_toolchain
def test_lines_of_the_source_are_kept_for_profilers(cache):
    artefact = built(build(cache, make_cuda()))
    assert ".loc" in (artefact.path / "kernel.ptx").read_text()
    assert b".debug_line" in (artefact.path / "kernel.cubin").read_bytes()


@needs_toolchain
def test_a_comment_cannot_redeclare_a_kernel(cache):
    line = 'asm volatile("/* .entry softmax(.param .u64 p) { } */");'
    refused = refused_by(build(cache, with_line(line)))
    assert refused.reason is Reason.COMPILE_FAILED
    assert "in its PTX and (8, 8, 8) in its cubin" in refused.message
