"""CUDA C++: one `.cu` and its headers to a cubin, by NVRTC or by nvcc; no device needed."""

import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gpu_runner.candidate import Candidate, Language
from gpu_runner.errors import ToolchainMissing
from gpu_runner.host.sandbox import Finished
from gpu_runner.jobs import Reason
from gpu_runner.languages import nvrtc_compile
from gpu_runner.languages.artefact import ENTRY_FILES, HEADER_FILE, Artefact, BuildRefused
from gpu_runner.languages.cache import Made, cached_build, identity_of
from gpu_runner.languages.header import problem_header
from gpu_runner.languages.toolchain import (
    SOURCE_FOLDER,
    Deadline,
    first_error,
    run_tool,
    shortened,
    version_line,
    write_sources,
)
from gpu_runner.problem import Problem

DEFAULT_ARCH = "sm_90a"
"""Used where no device answers: the plain `sm_90` refuses warp-group matrix instructions."""
ARCHS = {"8.0": "sm_80", "9.0": "sm_90a", "10.0": "sm_100a"}
_ARCH_FLAG = "--gpu-architecture="
_COMMON_FLAGS = ("--std=c++20", "--ptxas-options=-v", "-I.")
_SMI_TIMEOUT_S = 10.0

ALLOWED_FLAGS = re.compile(
    r"--gpu-architecture=sm_(?:80|90a|100a)"
    r"|--use_fast_math|--extra-device-vectorization|--restrict"
    r"|--(?:ftz|fmad|prec-div|prec-sqrt)=(?:true|false)"
    r"|--maxrregcount=\d{1,3}"
)
"""Long spellings, which NVRTC and nvcc share."""

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
_COUNTERS = {
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
    "spill_store_bytes": re.compile(r"(\d+) bytes spill stores"),
    "spill_load_bytes": re.compile(r"(\d+) bytes spill loads"),
    "registers": re.compile(r"Used (\d+) registers"),
    "barriers": re.compile(r"used (\d+) barriers"),
    "shared_bytes": re.compile(r"(\d+) bytes smem"),
}


def missing() -> str | None:
    """Return what this language needs and lacks here, or None."""
    if _has_nvrtc() or _has_nvcc():
        return None
    return (
        "neither NVRTC nor nvcc is installed; pip install 'kernelpilot[gpu]', or install the CUDA "
        "toolkit and put nvcc on PATH"
    )


def build_cuda(
    problem: Problem,
    candidate: Candidate,
    *,
    cache: Path,
    timeout_s: float,
    is_trusted: bool = False,
    uses_nvrtc: bool | None = None,
) -> Artefact | BuildRefused:
    """Compile in the sandbox, or take it from the cache.

    Args:
        problem: gives the generated header its names.
        candidate: one `.cu`, its headers and its launch plans.
        cache: directory of all artefacts.
        timeout_s: wall clock of the whole build.
        is_trusted: a baseline of the target.
        uses_nvrtc: compile with NVRTC or with nvcc; by default NVRTC where it is installed, which
            is eight times faster.

    Raises:
        DefinitionError: the problem has a name that C++ reserves.
        ToolchainMissing: neither NVRTC nor nvcc.
    """
    reason = missing()
    if reason is not None:
        raise ToolchainMissing(reason)
    refusal = _refuse(candidate)
    if refusal is not None:
        return refusal
    arch = requested_arch(candidate)
    nvrtc = _has_nvrtc() if uses_nvrtc is None else uses_nvrtc
    identity = identity_of(
        problem,
        candidate,
        compiler=_nvrtc_version() if nvrtc else version_line("nvcc", r"V(\d+\.\d+\.\d+)"),
        flags=(*_COMMON_FLAGS, *candidate.flags),
        machine=arch,
        is_trusted=is_trusted,
    )
    deadline = Deadline(timeout_s)
    return cached_build(
        cache,
        identity,
        candidate,
        lambda scratch: _make(problem, candidate, scratch, _Request(arch, nvrtc, deadline)),
    )


def requested_arch(candidate: Candidate) -> str:
    """Return the architecture a candidate names, else the first device's, else the default."""
    for flag in candidate.flags:
        if flag.startswith(_ARCH_FLAG):
            return flag.removeprefix(_ARCH_FLAG)
    return _device_arch()


def ptxas_counters(log: str) -> dict[str, float]:
    """Return what `ptxas -v` counted: `<kernel>.registers`, `<kernel>.spill_store_bytes`..."""
    counters: dict[str, float] = {}
    for kernel, text in _by_kernel(log):
        for name, pattern in _COUNTERS.items():
            match = pattern.search(text)
            counters[f"{kernel}.{name}"] = float(match.group(1)) if match else 0.0
    return counters


def _by_kernel(log: str) -> Iterator[tuple[str, str]]:
    starts = list(_ENTRY.finditer(log))
    ends = [*(match.start() for match in starts), len(log)][1:]
    for match, end in zip(starts, ends, strict=False):
        yield match.group(1), log[match.end() : end]


def _refuse(candidate: Candidate) -> BuildRefused | None:
    for flag in candidate.flags:
        if not ALLOWED_FLAGS.fullmatch(flag):
            return BuildRefused(
                reason=Reason.FLAG_NOT_ALLOWED,
                message=f"compiler flag {flag!r} is not allowed; allowed are the architecture, "
                "--use_fast_math and its parts, and --maxrregcount",
            )
    units = [s.path for s in candidate.sources if PurePosixPath(s.path).suffix == ".cu"]
    if len(units) != 1:
        message = f"a cuda candidate needs exactly one .cu source; it has {len(units)}"
    elif any(source.path == HEADER_FILE for source in candidate.sources):
        message = f"{HEADER_FILE} is generated from the problem; remove it from the candidate"
    elif not candidate.plans:
        message = "a cuda candidate needs a launch plan: kernel, grid, block and arguments"
    else:
        return None
    return BuildRefused(reason=Reason.LANGUAGE_MISMATCH, message=message)


@dataclass(frozen=True)
class _Request:
    arch: str
    uses_nvrtc: bool
    deadline: Deadline


def _make(
    problem: Problem, candidate: Candidate, scratch: Path, request: _Request
) -> Made | BuildRefused:
    folder = scratch / SOURCE_FOLDER
    folder.mkdir()
    write_sources(candidate, folder)
    (folder / HEADER_FILE).write_text(problem_header(problem))
    unit = next(s.path for s in candidate.sources if PurePosixPath(s.path).suffix == ".cu")
    flags = [f for f in candidate.flags if not f.startswith(_ARCH_FLAG)]
    options = [f"{_ARCH_FLAG}{request.arch}", *_COMMON_FLAGS, *flags]
    finished = _compile(unit, options, scratch, request)
    if finished.returncode is None:
        return request.deadline.refusal()
    log = shortened(finished.output, folder, scratch)
    if finished.returncode != 0:
        return BuildRefused(
            reason=Reason.COMPILE_FAILED,
            message=f"the CUDA compiler failed: {first_error(log) or finished.returncode}",
            log_tail=log,
        )
    counters = ptxas_counters(log)
    return _refuse_plans(candidate, counters) or Made(
        log_tail=log, seconds=request.deadline.elapsed_s, counters=counters
    )


def _refuse_plans(candidate: Candidate, counters: dict[str, float]) -> BuildRefused | None:
    compiled = {name.split(".")[0] for name in counters}
    for plan in candidate.plans:
        for launch in plan.launches:
            if launch.kernel not in compiled:
                return BuildRefused(
                    reason=Reason.COMPILE_FAILED,
                    message=f"the launch plan names the kernel {launch.kernel!r}, but the source "
                    f'has {sorted(compiled)}; declare it extern "C" __global__',
                )
    return None


def _compile(unit: str, options: list[str], scratch: Path, request: _Request) -> Finished:
    target = scratch / ENTRY_FILES[Language.CUDA]
    if request.uses_nvrtc:
        program = Path(nvrtc_compile.__file__)
        includes = [f"-I{path}" for path in _toolkit_includes()]
        argv = [sys.executable, "-I", "-B", str(program), unit, str(target)]
        argv.append(json.dumps([*options, *includes]))
        readable = (Path(sys.prefix), Path(sys.base_prefix), program, *_toolkit_includes())
    else:
        argv = ["nvcc", "-cubin", *options, unit, "-o", str(target)]
        readable = ()
    return run_tool(
        argv,
        cwd=scratch / SOURCE_FOLDER,
        writable=scratch,
        deadline=request.deadline,
        readable=readable,
    )


def _toolkit_includes() -> tuple[Path, ...]:
    """Return the folder of `cuda_fp16.h` and its like, of the toolkit that nvcc belongs to."""
    nvcc = shutil.which("nvcc")
    roots = [Path(nvcc).resolve().parent.parent] if nvcc else []
    roots.append(Path("/usr/local/cuda"))
    found = (root / "include" for root in roots if (root / "include" / "cuda_fp16.h").exists())
    # Resolved: a mount cannot be placed on a link.
    return tuple(path.resolve() for path in found)[:1]


@functools.cache
def _has_nvrtc() -> bool:
    try:
        return importlib.util.find_spec("cuda.bindings.nvrtc") is not None
    except ModuleNotFoundError:
        return False


def _has_nvcc() -> bool:
    return shutil.which("nvcc") is not None


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


@functools.cache
def _device_arch() -> str:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return DEFAULT_ARCH
    try:
        finished = subprocess.run(
            [smi, "--query-gpu=compute_cap", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return DEFAULT_ARCH
    lines = finished.stdout.split()
    return ARCHS.get(lines[0], DEFAULT_ARCH) if lines else DEFAULT_ARCH
