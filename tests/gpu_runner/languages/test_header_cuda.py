"""The header as CUDA kernels use it: no struct forced on them, with and without CUDA's headers."""

import json
import shutil
import subprocess
import sys

import pytest

from gpu_runner.languages import cuda_compile, nvrtc_compile
from gpu_runner.languages.header import problem_header
from gpu_runner.languages.ptx import entries
from gpu_runner.problem import DType, Tensor
from tests.builders import make_problem
from tests.gpu_runner.languages.test_nvrtc_compile import has_nvrtc

needs_nvrtc = pytest.mark.skipif(not has_nvrtc(), reason="cuda-bindings is not installed")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on PATH")

KERNEL = """
#include "problem.h"
#include "problem.h"

static_assert(sizeof(kp_fp16) == 2 && sizeof(kp_bf16) == 2 && sizeof(int64_t) == 8);

extern "C" __global__ void twice(const kp_fp16* a, const kp_bf16* b, kp_fp16* c, kp_bf16* d,
                                 int64_t n) {
    int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
    if (i >= n) return;
    c[i] = kp_float_to_fp16(2.0f * kp_fp16_to_float(a[i]));
    d[i] = kp_float_to_bf16(2.0f * kp_bf16_to_float(b[i]));
}
"""


def write(folder, text=KERNEL, dtypes=(DType.FLOAT16, DType.BFLOAT16)):
    tensors = tuple(
        Tensor(name=f"t{index}", shape=("B",), dtype=dtype) for index, dtype in enumerate(dtypes)
    )
    (folder / "problem.h").write_text(problem_header(make_problem(inputs=tensors)))
    (folder / "k.cu").write_text(text)


def run_nvrtc(folder, arch, *options):
    listed = [f"--gpu-architecture={arch}", "--std=c++20", "-I.", *options]
    return subprocess.run(
        [
            *(sys.executable, "-I", "-B", nvrtc_compile.__file__),
            *("k.cu", "k.cubin", "k.ptx", json.dumps(listed)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a"])
@pytest.mark.parametrize("has_headers", [True, False])
def test_half_types_work_with_and_without_the_headers_of_cuda(tmp_path, arch, has_headers):
    folders = cuda_compile.header_folders()
    if has_headers and not folders:
        pytest.skip("no headers of CUDA are installed")
    write(tmp_path)
    finished = run_nvrtc(tmp_path, arch, *(f"-I{folder}" for folder in folders if has_headers))
    assert finished.returncode == 0, finished.stdout
    assert "warning" not in finished.stdout
    text = (tmp_path / "k.ptx").read_text()
    assert entries(text)["twice"].parameters == ("u64",) * 5
    assert "cvt.f32.f16" in text
    assert "cvt.rn.f16.f32" in text


@needs_nvcc
def test_half_types_work_under_nvcc(tmp_path):
    write(tmp_path)
    finished = subprocess.run(
        ["nvcc", "-cubin", "-arch=sm_90a", "-std=c++20", "-Werror=all-warnings", "k.cu"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")


@needs_nvrtc
def test_helpers_that_no_kernel_uses_are_no_warning(tmp_path):
    write(tmp_path, '#include "problem.h"\nextern "C" __global__ void f() {}\n')
    finished = run_nvrtc(tmp_path, "sm_90a")
    assert (finished.returncode, finished.stdout.strip()) == (0, "")


@needs_nvrtc
def test_the_struct_is_there_for_who_wants_it(tmp_path):
    text = '#include "problem.h"\nextern "C" __global__ void f(softmax_args a) { *a.y = a.N; }\n'
    write(tmp_path, text)
    assert run_nvrtc(tmp_path, "sm_90a").returncode == 0
    (parameter,) = entries((tmp_path / "k.ptx").read_text())["f"].parameters
    assert parameter.startswith("b8[")
