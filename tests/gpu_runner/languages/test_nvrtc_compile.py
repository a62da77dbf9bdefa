import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_runner.languages import nvrtc_compile


def has_nvrtc():
    try:
        return importlib.util.find_spec("cuda.bindings.nvrtc") is not None
    except ModuleNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not has_nvrtc(), reason="cuda-bindings is not installed")

KERNEL = 'extern "C" __global__ void copy(const float* x, float* y) { y[threadIdx.x] = x[0]; }\n'


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-I", "-B", nvrtc_compile.__file__, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def compile_text(folder, text, *options):
    (folder / "kernel.cu").write_text(text)
    listed = ["--gpu-architecture=sm_90a", "--ptxas-options=-v", *options]
    return run("kernel.cu", "kernel.cubin", "kernel.ptx", json.dumps(listed), cwd=folder)


def test_version_is_two_numbers():
    assert re.fullmatch(r"\d+\.\d+\n", run("--version").stdout)


def test_kernel_becomes_a_cubin_and_ptxas_speaks(tmp_path):
    finished = compile_text(tmp_path, KERNEL)
    assert finished.returncode == 0, finished.stdout
    assert (tmp_path / "kernel.cubin").read_bytes()[:4] == b"\x7fELF"
    assert "Compiling entry function 'copy' for 'sm_90a'" in finished.stdout
    text = (tmp_path / "kernel.ptx").read_text()
    assert ".visible .entry copy(" in text
    assert "\x00" not in text


def test_header_of_the_same_folder_is_found(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "scale.cuh").write_text("#define SCALE 2.0f\n")
    text = '#include "deep/scale.cuh"\n' + KERNEL.replace("x[0]", "x[0] * SCALE")
    assert compile_text(tmp_path, text, "-I.").returncode == 0


def test_error_is_told_with_file_and_line_and_leaves_no_cubin(tmp_path):
    finished = compile_text(tmp_path, KERNEL.replace("x[0]", "z[0]"))
    assert finished.returncode == 1
    assert "kernel.cu(1): error" in finished.stdout
    assert not Path(tmp_path / "kernel.cubin").exists()


def test_unknown_option_is_an_error(tmp_path):
    assert compile_text(tmp_path, KERNEL, "--no-such-option").returncode == 1
