"""C and C++: sources and the generated header, to a shared object with one exported function."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from gpu_runner.candidate import Candidate
from gpu_runner.jobs import Reason
from gpu_runner.languages.artefact import (
    ENTRY_FILES,
    HEADER_FILE,
    REMARKS_FILE,
    Artefact,
    BuildRefused,
)
from gpu_runner.languages.cache import Made, cached_build, identity_of
from gpu_runner.languages.header import problem_header
from gpu_runner.languages.toolchain import (
    SOURCE_FOLDER,
    Deadline,
    machine_isa,
    run_step,
    shortened,
    version_line,
    write_sources,
)
from gpu_runner.problem import Problem

ENTRY_SYMBOL = "kp_run"
COMPILERS = {".cpp": "g++", ".cc": "g++", ".cxx": "g++", ".c": "gcc"}
STANDARDS = {"g++": "-std=c++20", "gcc": "-std=gnu17"}
COMMON_FLAGS = ("-march=native", "-fopenmp", "-fPIC", "-fvisibility=hidden", "-Wall")
_OPTIMISATION = "-O3"
_LINK_FLAGS = (
    # Never the candidate's flags: -ffast-math at link time adds code that flushes denormals in the
    # whole process that loads the object.
    "-shared",
    "-fopenmp",
    f"-Wl,--require-defined={ENTRY_SYMBOL}",
    "-Wl,-z,defs,-z,now,-z,noexecstack",
)
_EXPORTS = f"{{ global: {ENTRY_SYMBOL}; local: *; }};\n"
_OBJECT_FOLDER = "objects"

ALLOWED_FLAGS = re.compile(
    r"-O[23]|-Ofast|-ffast-math"
    r"|-f(?:no-)?(?:math-errno|trapping-math|signed-zeros|signaling-nans|rounding-math)"
    r"|-f(?:finite-math-only|associative-math|reciprocal-math|unsafe-math-optimizations)"
    r"|-ffp-contract=(?:fast|off|on)"
    r"|-f(?:no-)?(?:unroll-loops|tree-vectorize|tree-slp-vectorize|exceptions|rtti)"
    r"|-f(?:no-)?(?:prefetch-loop-arrays|strict-aliasing|omit-frame-pointer|openmp-simd|ipa-pta)"
    r"|-f(?:vect|simd)-cost-model=(?:unlimited|dynamic|cheap|very-cheap)"
    r"|-mprefer-vector-width=(?:none|128|256|512)"
)
"""Flags that change the code of the kernel and nothing else: no paths, no libraries, no plugins."""


def missing() -> str | None:
    """Return what this language needs and lacks here, or None."""
    lacking = [tool for tool in ("g++", "gcc", "nm") if shutil.which(tool) is None]
    if lacking:
        return f"{', '.join(lacking)} not on PATH; install g++ and binutils (apt install g++)"
    return None


def build_cpp(
    problem: Problem,
    candidate: Candidate,
    *,
    cache: Path,
    timeout_s: float,
    is_trusted: bool = False,
) -> Artefact | BuildRefused:
    """Compile and link in the sandbox, or take it from the cache.

    Raises:
        DefinitionError: the problem has a name that C++ reserves.
        ToolchainMissing: no compiler.
    """
    refusal = refuse_flags(candidate) or _refuse_sources(candidate)
    if refusal is not None:
        return refusal
    identity = identity_of(
        problem,
        candidate,
        compiler=version_line("g++"),
        flags=(_OPTIMISATION, *COMMON_FLAGS, *candidate.flags, "|", *_LINK_FLAGS),
        machine=machine_isa(),
        is_trusted=is_trusted,
    )
    deadline = Deadline(timeout_s)
    return cached_build(
        cache, identity, candidate, lambda scratch: _make(problem, candidate, scratch, deadline)
    )


def refuse_flags(candidate: Candidate) -> BuildRefused | None:
    """Return the refusal of the first flag that is not on the list."""
    for flag in candidate.flags:
        if not ALLOWED_FLAGS.fullmatch(flag):
            return BuildRefused(
                reason=Reason.FLAG_NOT_ALLOWED,
                message=f"compiler flag {flag!r} is not allowed; allowed are optimisation levels, "
                "floating-point model, unrolling, cost model and vector width",
            )
    return None


def compiled_sources(candidate: Candidate) -> Iterator[tuple[str, str]]:
    """Yield compiler and path of every source that is a translation unit."""
    for source in candidate.sources:
        compiler = COMPILERS.get(PurePosixPath(source.path).suffix)
        if compiler is not None:
            yield compiler, source.path


def lay_out(problem: Problem, candidate: Candidate, folder: Path) -> None:
    """Write sources and header, as the compiler is to see them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_sources(candidate, folder)
    (folder / HEADER_FILE).write_text(problem_header(problem))


def _refuse_sources(candidate: Candidate) -> BuildRefused | None:
    if not any(compiled_sources(candidate)):
        suffixes = ", ".join(COMPILERS)
        message = f"a cpp candidate needs a source whose name ends in one of {suffixes}"
    elif any(source.path == HEADER_FILE for source in candidate.sources):
        message = f"{HEADER_FILE} is generated from the problem; remove it from the candidate"
    else:
        return None
    return BuildRefused(reason=Reason.LANGUAGE_MISMATCH, message=message)


def _make(
    problem: Problem, candidate: Candidate, scratch: Path, deadline: Deadline
) -> Made | BuildRefused:
    folder, objects = scratch / SOURCE_FOLDER, scratch / _OBJECT_FOLDER
    lay_out(problem, candidate, folder)
    objects.mkdir()
    log = ""
    remarks = []
    for index, (compiler, path) in enumerate(compiled_sources(candidate)):
        remark_file = objects / f"{index}.txt"
        argv = [
            *(compiler, STANDARDS[compiler], _OPTIMISATION, *COMMON_FLAGS, *candidate.flags),
            f"-fopt-info-vec-optimized-missed={remark_file}",
            *("-I.", "-c", path, "-o", str(objects / f"{index}.o")),
        ]
        step = run_step(argv, scratch, deadline)
        if isinstance(step, BuildRefused):
            return step
        log += step
        remarks.append(remark_file.read_text(errors="replace") if remark_file.exists() else "")
    linked = _link(scratch, objects, deadline)
    if isinstance(linked, BuildRefused):
        return linked
    (scratch / REMARKS_FILE).write_text(shortened("".join(remarks), folder))
    shutil.rmtree(objects)
    return Made(log_tail=log + linked, seconds=deadline.elapsed_s)


def _link(scratch: Path, objects: Path, deadline: Deadline) -> str | BuildRefused:
    exports = objects / "exports.map"
    exports.write_text(_EXPORTS)
    entry = next(name for name in ENTRY_FILES.values() if name.endswith(".so"))
    shared = scratch / entry
    argv = [
        *("g++", *_LINK_FLAGS, f"-Wl,--version-script={exports}"),
        *(str(path) for path in sorted(objects.glob("*.o"))),
        *("-o", str(shared)),
    ]
    log = run_step(argv, scratch, deadline)
    if isinstance(log, BuildRefused):
        return _explained(log)
    symbols = run_step(["nm", "-D", "--defined-only", str(shared)], scratch, deadline)
    if isinstance(symbols, BuildRefused):
        return symbols
    if not re.search(rf"\bT {ENTRY_SYMBOL}$", symbols, re.MULTILINE):
        return BuildRefused(
            reason=Reason.COMPILE_FAILED,
            message=f"{ENTRY_SYMBOL} is not exported; include {HEADER_FILE}, which declares it, "
            'where you define extern "C" int kp_run(...)',
        )
    return log


def _explained(refusal: BuildRefused) -> BuildRefused:
    """Say what is missing in the words of the one who writes the source."""
    if f"required symbol `{ENTRY_SYMBOL}' not defined" not in refusal.log_tail:
        return refusal
    message = f'no source defines extern "C" int {ENTRY_SYMBOL}(...); see {HEADER_FILE}'
    return replace(refusal, message=message)
