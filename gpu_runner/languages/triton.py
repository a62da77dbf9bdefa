"""Triton: `@triton.jit` kernels to cubins ahead of time, for an architecture; no device needed.

Parameter types follow from the launch plan: a tensor argument is a pointer to its elements, an axis
an int64, a scalar an fp64 or int64, `workspace` a byte pointer. What the plan does not pass must be
a `tl.constexpr` with a default. Warps are the threads of the block over 32, and must be constant.
"""

import importlib.metadata
import json
import sys
from pathlib import Path, PurePosixPath

from gpu_runner.candidate import Candidate, Launch
from gpu_runner.errors import ToolchainMissing
from gpu_runner.expression import ExpressionError, evaluate
from gpu_runner.jobs import Reason
from gpu_runner.languages import cuda, triton_compile
from gpu_runner.languages.artefact import ENTRY_FILES, Artefact, BuildRefused
from gpu_runner.languages.cache import Made, cached_build, identity_of, remove_tree
from gpu_runner.languages.toolchain import (
    SOURCE_FOLDER,
    Deadline,
    run_tool,
    shortened,
    write_sources,
)
from gpu_runner.problem import DType, Problem

POINTERS = {
    DType.FLOAT64: "*fp64",
    DType.FLOAT32: "*fp32",
    DType.FLOAT16: "*fp16",
    DType.BFLOAT16: "*bf16",
    DType.INT64: "*i64",
    DType.INT32: "*i32",
    DType.INT8: "*i8",
    DType.UINT8: "*u8",
    DType.BOOL: "*u8",
}
_WARP = 32


def missing() -> str | None:
    """Return what this language needs and lacks here, or None."""
    if _version() is not None:
        return None
    return "triton is not installed; pip install triton (it compiles without a GPU)"


def _version() -> str | None:
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return None


def build_triton(
    problem: Problem,
    candidate: Candidate,
    *,
    cache: Path,
    timeout_s: float,
    is_trusted: bool = False,
) -> Artefact | BuildRefused:
    """Compile every kernel of the launch plans in the sandbox, or take it from the cache.

    Raises:
        ToolchainMissing: triton is not installed.
    """
    reason = missing()
    if reason is not None:
        raise ToolchainMissing(reason)
    refusal = _refuse(candidate)
    if refusal is not None:
        return refusal
    requests = kernel_requests(problem, candidate)
    if isinstance(requests, BuildRefused):
        return requests
    arch = cuda.requested_arch(candidate)
    identity = identity_of(
        problem,
        candidate,
        compiler=f"triton {_version()}",
        flags=candidate.flags,
        machine=arch,
        is_trusted=is_trusted,
    )
    deadline = Deadline(timeout_s)
    return cached_build(
        cache,
        identity,
        candidate,
        lambda scratch: _make(candidate, requests, arch, scratch, deadline),
    )


def kernel_requests(
    problem: Problem, candidate: Candidate
) -> dict[str, dict[str, object]] | BuildRefused:
    """Return types of the passed parameters, in order, and the warps of every planned kernel."""
    types: dict[str, str] = {
        **{t.name: POINTERS[t.dtype] for t in (*problem.inputs, *problem.outputs)},
        **{axis.name: "i64" for axis in problem.axes},
        **{s.name: "i64" if s.kind == "int" else "fp64" for s in problem.scalars},
        "workspace": "*u8",
    }
    requests: dict[str, dict[str, object]] = {}
    for launch in (launch for plan in candidate.plans for launch in plan.launches):
        unknown = [name for name in launch.arguments if name not in types]
        if unknown:
            return _mismatch(
                f"the launch of {launch.kernel!r} passes {unknown[0]!r}, which is no tensor, axis "
                f"or scalar of the problem; known: {sorted(types)}"
            )
        warps = _warps(launch)
        if warps is None:
            return _mismatch(
                f"the block of {launch.kernel!r} must be constants that multiply to a power of "
                f"two of at least {_WARP} threads: triton fixes the warps when it compiles"
            )
        request: dict[str, object] = {
            "types": [types[name] for name in launch.arguments],
            "warps": warps,
        }
        if requests.setdefault(launch.kernel, request) != request:
            return _mismatch(
                f"two launches of {launch.kernel!r} differ in argument types or block; give the "
                "second one a kernel of its own name"
            )
    return requests


def _warps(launch: Launch) -> int | None:
    try:
        threads = 1
        for extent in launch.block:
            threads *= evaluate(extent, {})
    except ExpressionError:
        return None
    warps, rest = divmod(threads, _WARP)
    return warps if rest == 0 and warps > 0 and warps & (warps - 1) == 0 else None


def _mismatch(message: str) -> BuildRefused:
    return BuildRefused(reason=Reason.LANGUAGE_MISMATCH, message=message)


def _refuse(candidate: Candidate) -> BuildRefused | None:
    for flag in candidate.flags:
        if not flag.startswith("--gpu-architecture=") or not cuda.ALLOWED_FLAGS.fullmatch(flag):
            return BuildRefused(
                reason=Reason.FLAG_NOT_ALLOWED,
                message=f"flag {flag!r} is not allowed; triton takes only --gpu-architecture=sm_80,"
                " sm_90a or sm_100a",
            )
    units = [s.path for s in candidate.sources if PurePosixPath(s.path).suffix == ".py"]
    if len(units) != 1:
        return _mismatch(f"a triton candidate needs exactly one .py source; it has {len(units)}")
    if not candidate.plans:
        return _mismatch("a triton candidate needs a launch plan: kernel, grid, block, arguments")
    return None


def _make(
    candidate: Candidate,
    requests: dict[str, dict[str, object]],
    arch: str,
    scratch: Path,
    deadline: Deadline,
) -> Made | BuildRefused:
    folder, work = scratch / SOURCE_FOLDER, scratch / "work"
    folder.mkdir()
    work.mkdir()
    write_sources(candidate, folder)
    unit = next(s.path for s in candidate.sources if PurePosixPath(s.path).suffix == ".py")
    program = Path(triton_compile.__file__)
    argv = [sys.executable, "-I", "-B", str(program), unit, str(work), arch, json.dumps(requests)]
    finished = run_tool(
        argv,
        cwd=folder,
        writable=work,
        deadline=deadline,
        readable=(Path(sys.prefix), Path(sys.base_prefix), program, folder),
        environment={"TRITON_CACHE_DIR": str(work / "cache")},
    )
    if finished.returncode is None:
        return deadline.refusal()
    log = shortened(finished.output, folder, scratch)
    entry = work / ENTRY_FILES[candidate.language]
    if finished.returncode != 0 or not entry.is_file():
        lines = [line for line in log.splitlines() if line.strip()]
        return BuildRefused(
            reason=Reason.COMPILE_FAILED,
            message=f"triton failed: {lines[-1][:300] if lines else finished.returncode}",
            log_tail=log,
        )
    counters = triton_compile.counters_in(entry.read_bytes())
    for file in (entry, *work.glob("*.cubin")):
        file.rename(scratch / file.name)
    remove_tree(work)
    return Made(log_tail=log, seconds=deadline.elapsed_s, counters=counters)
