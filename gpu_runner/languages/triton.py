"""Triton: `@triton.jit` kernels to cubins ahead of time, for an architecture; no device needed.

Parameter types follow from the launch plan: a tensor argument is a pointer to its elements, an axis
an int64, a scalar an fp64 or int64, `workspace` and slices of it byte pointers, a `Value` what its
type says. What the plan does not pass must be a `tl.constexpr`, with a value in the launch's
`constants` or a default. Warps are the threads of the block over 32. The sandbox gives PTX; it is
assembled here, in a step that executes nothing of the candidate's.
"""

import functools
import importlib.metadata
import json
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import Field, TypeAdapter, ValidationError

from gpu_runner.candidate import Candidate
from gpu_runner.device.kernel_index import CompiledKernel, write_index
from gpu_runner.errors import ToolchainMissing
from gpu_runner.jobs import Reason
from gpu_runner.languages import cuda, ptx, triton_compile
from gpu_runner.languages.artefact import Artefact, BuildRefused
from gpu_runner.languages.cache import Made, cached_build, identity_of, remove_tree
from gpu_runner.languages.cuda_compile import package_folder
from gpu_runner.languages.device_code import (
    Unit,
    kernels_in,
    ptxas_counters,
    refuse_forbidden,
    refuse_plans,
)
from gpu_runner.languages.toolchain import (
    SOURCE_FOLDER,
    Deadline,
    first_error,
    run_tool,
    shortened,
    write_sources,
)
from gpu_runner.languages.triton_variants import Variant, Wanted, wanted
from gpu_runner.message import Message
from gpu_runner.problem import Problem

_BLACKWELL = 100
_MOST_HIDDEN = 2
_MOST_TEXT_BYTES = 64 << 20
_VERSION_TIMEOUT_S = 30.0


class _Facts(Message):
    """What the compiling program says of one variant; untrusted."""

    shared_bytes: int = Field(ge=0)
    scratch_bytes: int = Field(ge=0)


_FACTS = TypeAdapter(dict[str, _Facts])


def missing() -> str | None:
    """Return what this language needs and lacks here, or None."""
    if _version() is not None:
        return None
    return "triton is not installed; pip install triton (it compiles without a GPU)"


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
    refusal = _refuse(candidate) or refuse_plans(problem, candidate)
    if refusal is not None:
        return refusal
    arch = cuda.requested_arch(candidate)
    assembler = _assembler(arch)
    identity = identity_of(
        problem,
        candidate,
        compiler=f"triton {_version()}, ptxas {_assembler_version(assembler)}",
        flags=candidate.flags,
        machine=arch,
        is_trusted=is_trusted,
    )
    job = _Job(problem, candidate, arch, assembler, Deadline(timeout_s))
    return cached_build(cache, identity, candidate, job.make)


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


@dataclass(frozen=True)
class _Job:
    """One build: the sandboxed lowering, then a kernel after the other."""

    problem: Problem
    candidate: Candidate
    arch: str
    assembler: Path
    deadline: Deadline

    def make(self, scratch: Path) -> Made | BuildRefused:
        """Fill the artefact."""
        compilations = wanted(self.problem, self.candidate)
        work = scratch / "work"
        work.mkdir()
        log = self._lower(compilations, scratch, work)
        if isinstance(log, BuildRefused):
            return log
        facts = _facts(work, compilations.variants)
        if isinstance(facts, BuildRefused):
            return facts
        kernels: dict[str, CompiledKernel] = {}
        counters: dict[str, float] = {}
        for name, variant in compilations.variants.items():
            unit = self._assemble(name, scratch, work)
            if isinstance(unit, BuildRefused):
                return unit
            kernel = _described(name, variant, unit, facts[name])
            if isinstance(kernel, BuildRefused):
                return kernel
            kernels[name] = kernel
            counters |= _renamed(unit, kernel.symbol, name)
            counters[f"{name}.shared_bytes"] = float(kernel.shared_bytes)
        remove_tree(work)
        index = {key: kernels[name] for key, name in compilations.launches.items()}
        refusal = refuse_plans(self.problem, self.candidate, index)
        if refusal is not None:
            return refusal
        write_index(scratch, index)
        return Made(log_tail=log, seconds=self.deadline.elapsed_s, counters=counters)

    def _lower(self, compilations: Wanted, scratch: Path, work: Path) -> str | BuildRefused:
        """Run the candidate's module and triton in the sandbox; return the log."""
        folder = scratch / SOURCE_FOLDER
        folder.mkdir()
        write_sources(self.candidate, folder)
        paths = (source.path for source in self.candidate.sources)
        unit = next(path for path in paths if PurePosixPath(path).suffix == ".py")
        program = Path(triton_compile.__file__)
        finished = run_tool(
            [
                *(sys.executable, "-I", "-B", str(program), unit, str(work), self.arch),
                json.dumps(compilations.requests),
            ],
            cwd=folder,
            writable=work,
            deadline=self.deadline,
            readable=(Path(sys.prefix), Path(sys.base_prefix), program, folder),
            environment={"TRITON_CACHE_DIR": str(work / "cache")},
        )
        if finished.returncode is None:
            return self.deadline.refusal()
        log = shortened(finished.output, folder, scratch)
        if finished.returncode != 0:
            lines = [line for line in log.splitlines() if line.strip()]
            return _failed(
                f"triton failed: {lines[-1][:300] if lines else finished.returncode}", log
            )
        return log

    def _assemble(self, name: str, scratch: Path, work: Path) -> Unit | BuildRefused:
        """Turn the PTX of one variant into its cubin, unless it says what it may not."""
        text = _regular_text(work / f"{name}.ptx")
        if text is None:
            return _failed(f"triton left no PTX of {name!r}; a module only defines kernels")
        refusal = refuse_forbidden(text, f"the kernel {name!r}")
        if refusal is not None:
            return refusal
        source, target = scratch / f"{name}.ptx", scratch / f"{name}.cubin"
        source.write_text(text)
        finished = run_tool(
            [
                *(str(self.assembler), "-v", "-lineinfo", f"--gpu-name={self.arch}"),
                *(source.name, "-o", target.name),
            ],
            cwd=scratch,
            writable=scratch,
            deadline=self.deadline,
            readable=(self.assembler.parent,),
        )
        if finished.returncode is None:
            return self.deadline.refusal()
        if finished.returncode != 0:
            log = shortened(finished.output, scratch)
            return _failed(f"ptxas failed on {name!r}: {first_error(log)}", log)
        return Unit(
            cubin=target.name,
            binary=target.read_bytes(),
            text=text,
            counters=ptxas_counters(finished.output),
        )


def _described(
    name: str, variant: Variant, unit: Unit, facts: _Facts
) -> CompiledKernel | BuildRefused:
    found = kernels_in(unit)
    if isinstance(found, BuildRefused):
        return found
    if len(found) != 1:
        return _failed(f"{name!r} became the kernels {sorted(found)}; exactly one was expected")
    (kernel,) = found.values()
    hidden = len(kernel.parameters) - len(variant.types)
    if not 0 <= hidden <= _MOST_HIDDEN:
        return _failed(
            f"{name!r} was compiled to {len(kernel.parameters)} parameters for "
            f"{len(variant.types)} arguments"
        )
    return kernel.model_copy(
        update={
            "shared_bytes": facts.shared_bytes,
            "is_dynamic_shared": True,
            "hidden": hidden,
            "scratch_bytes": facts.scratch_bytes,
            "threads": variant.threads,
        }
    )


def _renamed(unit: Unit, symbol: str, name: str) -> dict[str, float]:
    """Return the counters of a variant by its own name: symbols repeat across variants."""
    counters = {**unit.counters, **ptx.cache_hints(unit.text)}
    prefix = f"{symbol}."
    return {
        f"{name}.{key.removeprefix(prefix)}": value
        for key, value in counters.items()
        if key.startswith(prefix)
    }


def _facts(work: Path, variants: Mapping[str, Variant]) -> dict[str, _Facts] | BuildRefused:
    text = _regular_text(work / triton_compile.FACTS_FILE)
    try:
        facts = _FACTS.validate_json(text or "")
    except ValidationError:
        facts = {}
    if set(facts) != set(variants):
        return _failed("the module ended the compiler before it was done; only define kernels")
    return facts


def _regular_text(path: Path) -> str | None:
    """Return a file's text unless the candidate's module put something else in its place."""
    try:
        status = path.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_TEXT_BYTES:
        return None
    return path.read_text(errors="replace")


def _failed(message: str, log: str = "") -> BuildRefused:
    return BuildRefused(reason=Reason.COMPILE_FAILED, message=message, log_tail=log)


def _mismatch(message: str) -> BuildRefused:
    return BuildRefused(reason=Reason.LANGUAGE_MISMATCH, message=message)


def prepare() -> None:
    """Ask triton's ptxas for its version."""
    if _version() is not None:
        _assembler_version(_assembler(cuda.device_arch()))


def _version() -> str | None:
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return None


def _assembler(arch: str) -> Path:
    """Return the ptxas that triton brings; the PTX is written in its version of the language."""
    folder = package_folder("triton")
    number = int(arch.removeprefix("sm_").rstrip("a"))
    name = "ptxas-blackwell" if number >= _BLACKWELL else "ptxas"
    path = (folder or Path()) / "backends" / "nvidia" / "bin" / name
    if not path.is_file():
        raise ToolchainMissing(f"triton is installed without {name}; reinstall triton")
    return path


@functools.cache
def _assembler_version(assembler: Path) -> str:
    finished = subprocess.run(
        [str(assembler), "--version"],
        capture_output=True,
        text=True,
        timeout=_VERSION_TIMEOUT_S,
        check=False,
    )
    found = re.search(r"V(\d+\.\d+\.\d+)", finished.stdout)
    if found is None:
        raise ToolchainMissing(f"{assembler} does not run; reinstall triton")
    return found[1]
