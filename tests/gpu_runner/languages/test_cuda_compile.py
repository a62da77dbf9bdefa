"""Where compilers and headers are found, and that both leave the same files."""

import shutil

import pytest

from gpu_runner.languages import cuda_compile
from gpu_runner.languages.cubin import parameter_sizes
from gpu_runner.languages.cuda_compile import CUBIN_FILE, PTX_FILE
from gpu_runner.languages.ptx import entries
from gpu_runner.languages.toolchain import SOURCE_FOLDER, Deadline
from tests.gpu_runner.languages.test_nvrtc_compile import KERNEL, has_nvrtc

OPTIONS = ("--gpu-architecture=sm_90a", "--std=c++20", "--ptxas-options=-v", "-I.")


@pytest.mark.parametrize(
    "uses_nvrtc",
    [
        pytest.param(True, marks=pytest.mark.skipif(not has_nvrtc(), reason="no NVRTC")),
        pytest.param(False, marks=pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")),
    ],
)
def test_a_compiler_leaves_cubin_and_ptx_and_nothing_else(tmp_path, uses_nvrtc):
    (tmp_path / SOURCE_FOLDER).mkdir()
    (tmp_path / SOURCE_FOLDER / "k.cu").write_text(KERNEL)
    finished = cuda_compile.compile_unit(
        "k.cu", OPTIONS, tmp_path, uses_nvrtc=uses_nvrtc, deadline=Deadline(60.0)
    )
    assert finished.returncode == 0, finished.output
    assert "Compiling entry function 'copy' for 'sm_90a'" in finished.output
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {SOURCE_FOLDER, CUBIN_FILE, PTX_FILE}
    assert entries((tmp_path / PTX_FILE).read_text())["copy"].parameters == ("u64", "u64")
    assert parameter_sizes((tmp_path / CUBIN_FILE).read_bytes()) == {"copy": (8, 8)}


@pytest.mark.parametrize("uses_nvrtc", [True, False])
def test_a_version_names_compiler_and_release(uses_nvrtc):
    is_here = cuda_compile.has_nvrtc() if uses_nvrtc else cuda_compile.has_nvcc()
    if not is_here:
        pytest.skip("not installed")
    name, number = cuda_compile.compiler_version(uses_nvrtc=uses_nvrtc).split()
    assert name == ("nvrtc" if uses_nvrtc else "nvcc")
    assert number.replace(".", "").isdigit()


def test_headers_are_those_of_the_toolkit_on_path(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "include").mkdir()
    tool = tmp_path / "bin" / "nvcc"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    (tmp_path / "include" / "cuda_fp16.h").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert cuda_compile.header_folders() == ((tmp_path / "include").resolve(),)


def test_headers_of_python_packages_serve_where_there_is_no_toolkit(tmp_path, monkeypatch):
    for name in ("nvidia/cu13/include", "nvidia/cu12/include"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "cuda_fp16.h").write_text("")
    (tmp_path / "nvidia" / "__init__.py").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    assert cuda_compile.package_folder("nvidia") == tmp_path / "nvidia"
    assert tmp_path / "nvidia" / "cu13" / "include" in list(cuda_compile._places())
    found = [path for path in cuda_compile._places() if tmp_path in path.parents]
    assert found[:2] == [tmp_path / "nvidia" / name / "include" for name in ("cu13", "cu12")]


def test_a_package_that_is_not_there_has_no_folder():
    assert cuda_compile.package_folder("absent_package") is None
    assert cuda_compile.package_folder("absent_package.part") is None
