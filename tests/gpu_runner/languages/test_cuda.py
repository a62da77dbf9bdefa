import shutil

import pytest

from gpu_runner.candidate import Language, Launch, LaunchPlan, Source
from gpu_runner.jobs import Reason
from gpu_runner.languages import build, cuda, missing_toolchain
from gpu_runner.languages.device_code import ptxas_counters
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import built

TIMEOUT_S = 60.0
KERNEL = """
#include "problem.h"
#include <cuda_bf16.h>

static_assert(sizeof(softmax_args) == 40);

extern "C" __global__ void softmax(const float* __restrict__ x, float* __restrict__ y, int64_t N) {
    __shared__ float row[256];
    row[threadIdx.x] = x[blockIdx.x * N + threadIdx.x];
    __syncthreads();
    y[blockIdx.x * N + threadIdx.x] = row[255 - threadIdx.x];
}
"""
PTXAS_LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'spills' for 'sm_90a'
ptxas info    : Function properties for spills
ptxas         .     400 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 127 registers, used 0 barriers, 400 bytes cumulative stack size
ptxas info    : Compile time = 68.359 ms
ptxas info    : Compiling entry function 'softmax' for 'sm_90a'
ptxas info    : Function properties for softmax
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 1 barriers, 512 bytes smem
"""

needs_toolchain = pytest.mark.skipif(
    missing_toolchain(Language.CUDA) is not None, reason="neither NVRTC nor nvcc is installed"
)


def make_cuda(text=KERNEL, *, kernel="softmax", **changes):
    launch = Launch(
        kernel=kernel, grid=("B", "1", "1"), block=("256", "1", "1"), arguments=("x", "y", "N")
    )
    values = {"plans": (LaunchPlan(launches=(launch,)),), **changes}
    return make_candidate(language=Language.CUDA, text=text, **values)


def build_cuda(cache, candidate):
    return build(make_problem(), candidate, cache=cache, timeout_s=TIMEOUT_S)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_ptxas_counts_are_read_for_each_kernel():
    assert ptxas_counters(PTXAS_LOG) == {
        "spills.stack_bytes": 400.0,
        "spills.spill_store_bytes": 12.0,
        "spills.spill_load_bytes": 8.0,
        "spills.registers": 127.0,
        "spills.barriers": 0.0,
        "spills.shared_bytes": 0.0,
        "softmax.stack_bytes": 0.0,
        "softmax.spill_store_bytes": 0.0,
        "softmax.spill_load_bytes": 0.0,
        "softmax.registers": 12.0,
        "softmax.barriers": 1.0,
        "softmax.shared_bytes": 512.0,
    }


def test_a_log_without_kernels_has_no_counters():
    assert ptxas_counters("ptxas info : 0 bytes gmem") == {}


@needs_toolchain
def test_kernel_becomes_a_cubin_with_counters(cache):
    artefact = build_cuda(cache, make_cuda())
    assert artefact.entry.read_bytes()[:4] == b"\x7fELF"
    assert artefact.counters["softmax.shared_bytes"] == 1024.0
    assert artefact.counters["softmax.registers"] > 0
    assert build_cuda(cache, make_cuda()).counters == artefact.counters


@needs_toolchain
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a"])
def test_architecture_is_the_one_asked_for(cache, arch):
    artefact = build_cuda(cache, make_cuda(flags=(f"--gpu-architecture={arch}",)))
    assert f"'softmax' for '{arch}'" in artefact.log_tail


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on PATH")
def test_nvcc_gives_the_same_kernel(cache):
    artefact = built(
        cuda.build_cuda(
            make_problem(), make_cuda(), cache=cache, timeout_s=TIMEOUT_S, uses_nvrtc=False
        )
    )
    assert artefact.compiler.startswith("nvcc ")
    assert artefact.entry.read_bytes()[:4] == b"\x7fELF"
    assert artefact.counters["softmax.shared_bytes"] == 1024.0


@needs_toolchain
def test_compile_error_is_told_without_our_paths(cache):
    refused = build_cuda(cache, make_cuda(KERNEL.replace("blockIdx.x", "blockIndex")))
    assert refused.reason is Reason.COMPILE_FAILED
    assert "kernel.cu" in refused.message
    assert str(cache) not in refused.log_tail


@needs_toolchain
def test_plan_that_names_no_kernel_of_the_source_is_refused(cache):
    refused = build_cuda(cache, make_cuda(kernel="absent"))
    assert refused.reason is Reason.COMPILE_FAILED
    assert "'absent'" in refused.message
    assert "softmax" in refused.message


@needs_toolchain
@pytest.mark.parametrize("flag", ["-Xcompiler=-fplugin=x", "--include-path=/", "-O3"])
def test_flag_off_the_list_is_refused(cache, flag):
    assert build_cuda(cache, make_cuda(flags=(flag,))).reason is Reason.FLAG_NOT_ALLOWED


@needs_toolchain
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plans": ()}, "launch plan"),
        ({"sources": (Source(path="kernel.cpp", text=""),)}, "exactly one .cu"),
        (
            {
                "sources": (
                    Source(path="kernel.cu", text=KERNEL),
                    Source(path="problem.h", text=""),
                )
            },
            "generated",
        ),
    ],
)
def test_candidate_of_the_wrong_shape_is_refused(cache, changes, said):
    refused = build_cuda(cache, make_cuda(**changes))
    assert refused.reason is Reason.LANGUAGE_MISMATCH
    assert said in refused.message
