"""The CUDA C++ compilers: which are here, where their headers lie, and one run in the sandbox."""

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpu_runner.candidate import Language
from gpu_runner.errors import ToolchainMissing
from gpu_runner.host.sandbox import Finished
from gpu_runner.languages import nvrtc_compile
from gpu_runner.languages.artefact import ENTRY_FILES
from gpu_runner.languages.cache import remove_tree
from gpu_runner.languages.toolchain import SOURCE_FOLDER, Deadline, run_tool, version_line

CUBIN_FILE = ENTRY_FILES[Language.CUDA]
PTX_FILE = "kernel.ptx"
_KEEP_FOLDER = "keep"
_PROBE_HEADER = "cuda_fp16.h"


def missing() -> str | None:
    """Return what CUDA C++ needs and lacks here, or None."""
    if has_nvrtc() or has_nvcc():
        return None
    return (
        "neither NVRTC nor nvcc is installed; pip install 'kernelpilot[gpu]', or install the CUDA "
        "toolkit and put nvcc on PATH"
    )


@functools.cache
def has_nvrtc() -> bool:
    """Whether NVRTC's binding is installed; it is eight times faster than nvcc."""
    try:
        return importlib.util.find_spec("cuda.bindings.nvrtc") is not None
    except ModuleNotFoundError:
        return False


def has_nvcc() -> bool:
    """Whether nvcc is on PATH."""
    return shutil.which("nvcc") is not None


def compiler_version(*, uses_nvrtc: bool) -> str:
    """Return `nvrtc 13.0` or `nvcc 13.0.88`.

    Raises:
        ToolchainMissing: it does not run.
    """
    return _nvrtc_version() if uses_nvrtc else version_line("nvcc", r"V(\d+\.\d+\.\d+)")


def compile_unit(
    unit: str, options: Sequence[str], scratch: Path, *, uses_nvrtc: bool, deadline: Deadline
) -> Finished:
    """Write the cubin and the PTX it is assembled from into `scratch`.

    Args:
        unit: path of the source below the source folder of `scratch`.
        options: long spellings, which both compilers share.
        scratch: the artefact that is being made; the only place the compiler may write.
        uses_nvrtc: NVRTC, or nvcc.
        deadline: of the whole build.
    """
    run = _run_nvrtc if uses_nvrtc else _run_nvcc
    return run(unit, options, scratch, deadline)


def header_folders() -> tuple[Path, ...]:
    """Return the folder of `cuda_fp16.h` and its like, or nothing where there is none.

    NVRTC brings none of its own. They come with the toolkit, with NVIDIA's Python packages and with
    triton.
    """
    found = (folder for folder in _places() if (folder / _PROBE_HEADER).is_file())
    # Resolved: a mount cannot be placed on a link.
    return tuple(folder.resolve() for folder in found)[:1]


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package, which is not imported."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None


def _places() -> Iterator[Path]:
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        yield Path(nvcc).resolve().parent.parent / "include"
    yield Path("/usr/local/cuda/include")
    nvidia, triton = package_folder("nvidia"), package_folder("triton")
    if nvidia is not None:
        yield from sorted(nvidia.glob("cu[0-9]*/include"), reverse=True)
        yield nvidia / "cuda_runtime" / "include"
    if triton is not None:
        yield triton / "backends" / "nvidia" / "include"


def _run_nvrtc(unit: str, options: Sequence[str], scratch: Path, deadline: Deadline) -> Finished:
    program = Path(nvrtc_compile.__file__)
    folders = header_folders()
    words = [*options, *(f"-I{folder}" for folder in folders)]
    return run_tool(
        [
            *(sys.executable, "-I", "-B", str(program), unit),
            *(str(scratch / CUBIN_FILE), str(scratch / PTX_FILE), json.dumps(words)),
        ],
        cwd=scratch / SOURCE_FOLDER,
        writable=scratch,
        deadline=deadline,
        readable=(Path(sys.prefix), Path(sys.base_prefix), program, *folders),
    )


def _run_nvcc(unit: str, options: Sequence[str], scratch: Path, deadline: Deadline) -> Finished:
    keep = scratch / _KEEP_FOLDER
    keep.mkdir()
    keeping = ["--keep", f"--keep-dir={keep}"]
    finished = run_tool(
        ["nvcc", "-cubin", *options, *keeping, unit, "-o", str(scratch / CUBIN_FILE)],
        cwd=scratch / SOURCE_FOLDER,
        writable=scratch,
        deadline=deadline,
    )
    for text in keep.glob("*.ptx"):
        text.rename(scratch / PTX_FILE)
    remove_tree(keep)
    return finished


@functools.cache
def _nvrtc_version() -> str:
    finished = subprocess.run(
        [sys.executable, "-I", "-B", nvrtc_compile.__file__, "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if finished.returncode != 0:
        raise ToolchainMissing(
            f"NVRTC cannot be loaded: {finished.stderr.strip()[-300:]}; reinstall "
            "'kernelpilot[gpu]'"
        )
    return f"nvrtc {finished.stdout.strip()}"
