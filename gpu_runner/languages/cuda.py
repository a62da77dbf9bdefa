"""CUDA C++: one `.cu` and its headers to a cubin, by NVRTC or by nvcc; no device needed."""

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gpu_runner.candidate import Candidate
from gpu_runner.device.kernel_index import CompiledKernel, index_key, write_index
from gpu_runner.errors import ToolchainMissing
from gpu_runner.jobs import Reason
from gpu_runner.languages import ptx
from gpu_runner.languages.artefact import HEADER_FILE, Artefact, BuildRefused
from gpu_runner.languages.cache import Made, cached_build, identity_of
from gpu_runner.languages.cuda_compile import (
    CUBIN_FILE,
    PTX_FILE,
    compile_unit,
    compiler_version,
    has_nvrtc,
    missing,
)
from gpu_runner.languages.device_code import (
    Unit,
    kernels_in,
    ptxas_counters,
    refuse_forbidden,
    refuse_plans,
)
from gpu_runner.languages.header import problem_header
from gpu_runner.languages.toolchain import (
    SOURCE_FOLDER,
    Deadline,
    first_error,
    shortened,
    write_sources,
)
from gpu_runner.problem import Problem

__all__ = ["ALLOWED_FLAGS", "ARCHS", "DEFAULT_ARCH", "build_cuda", "missing", "requested_arch"]

DEFAULT_ARCH = "sm_90a"
"""Used where no device answers: the plain `sm_90` refuses warp-group matrix instructions."""
ARCHS = {"8.0": "sm_80", "9.0": "sm_90a", "10.0": "sm_100a"}
_ARCH_FLAG = "--gpu-architecture="
_COMMON_FLAGS = ("--std=c++20", "--ptxas-options=-v", "-lineinfo", "-I.")
_SMI_TIMEOUT_S = 10.0

ALLOWED_FLAGS = re.compile(
    r"--gpu-architecture=sm_(?:80|90a|100a)"
    r"|--use_fast_math|--extra-device-vectorization|--restrict|--generate-line-info"
    r"|--(?:ftz|fmad|prec-div|prec-sqrt)=(?:true|false)"
    r"|--maxrregcount=\d{1,3}"
)
"""Long spellings, which NVRTC and nvcc share."""


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
    refusal = _refuse(candidate) or refuse_plans(problem, candidate)
    if refusal is not None:
        return refusal
    arch = requested_arch(candidate)
    nvrtc = has_nvrtc() if uses_nvrtc is None else uses_nvrtc
    identity = identity_of(
        problem,
        candidate,
        compiler=compiler_version(uses_nvrtc=nvrtc),
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
    return device_arch()


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
    finished = compile_unit(
        unit, options, scratch, uses_nvrtc=request.uses_nvrtc, deadline=request.deadline
    )
    if finished.returncode is None:
        return request.deadline.refusal()
    log = shortened(finished.output, folder, scratch)
    if finished.returncode != 0:
        return BuildRefused(
            reason=Reason.COMPILE_FAILED,
            message=f"the CUDA compiler failed: {first_error(log) or finished.returncode}",
            log_tail=log,
        )
    return _finish(problem, candidate, scratch, log, request.deadline.elapsed_s)


def _finish(
    problem: Problem, candidate: Candidate, scratch: Path, log: str, seconds: float
) -> Made | BuildRefused:
    """Look at what was compiled, and write the index."""
    text = (scratch / PTX_FILE).read_text(errors="replace")
    counters = ptxas_counters(log)
    unit = Unit(
        cubin=CUBIN_FILE,
        binary=(scratch / CUBIN_FILE).read_bytes(),
        text=text,
        counters=counters,
    )
    found = refuse_forbidden(text, "this source") or kernels_in(unit)
    if isinstance(found, BuildRefused):
        return found
    index = _index(candidate, found)
    if isinstance(index, BuildRefused):
        return index
    refusal = refuse_plans(problem, candidate, index)
    if refusal is not None:
        return refusal
    write_index(scratch, index)
    return Made(log_tail=log, seconds=seconds, counters=counters | ptx.cache_hints(text))


def _index(
    candidate: Candidate, kernels: dict[str, CompiledKernel]
) -> dict[str, CompiledKernel] | BuildRefused:
    index: dict[str, CompiledKernel] = {}
    for number, plan in enumerate(candidate.plans):
        for at, launch in enumerate(plan.launches):
            if launch.kernel not in kernels:
                return BuildRefused(
                    reason=Reason.COMPILE_FAILED,
                    message=f"the launch plan names the kernel {launch.kernel!r}, but the source "
                    f'has {sorted(kernels)}; declare it extern "C" __global__',
                )
            index[index_key(number, at)] = kernels[launch.kernel]
    return index


def prepare() -> None:
    """Find out the device's architecture and NVRTC's version: a process each, for every build."""
    device_arch()
    if has_nvrtc():
        compiler_version(uses_nvrtc=True)


def device_arch() -> str:
    """Return the architecture of the first device, or where none answers the usual target."""
    try:
        capability = _compute_capability()
    except LookupError:
        return DEFAULT_ARCH
    return ARCHS.get(capability, DEFAULT_ARCH)


@functools.cache
def _compute_capability() -> str:
    """Ask nvidia-smi; what it does not know now it may know later, so only answers are kept.

    Raises:
        LookupError: there is no such tool, or it does not answer.
    """
    smi = shutil.which("nvidia-smi")
    if smi is None:
        raise LookupError("nvidia-smi is not on PATH")
    try:
        finished = subprocess.run(
            [smi, "--query-gpu=compute_cap", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LookupError("nvidia-smi does not answer") from error
    if finished.returncode != 0 or not finished.stdout.split():
        raise LookupError("nvidia-smi sees no device")
    return finished.stdout.split()[0]
