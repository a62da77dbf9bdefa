"""A C or C++ candidate as a program of its own under AddressSanitizer and UBSan.

Not an artefact that is ever measured: the same cache keeps it, under flags of its own.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gpu_runner.candidate import Candidate
from gpu_runner.errors import ToolchainMissing
from gpu_runner.languages.artefact import Artefact, BuildRefused
from gpu_runner.languages.cache import Made, cached_build, identity_of
from gpu_runner.languages.cpp import STANDARDS, compiled_sources, lay_out, missing, refuse_flags
from gpu_runner.languages.toolchain import (
    SOURCE_FOLDER,
    Deadline,
    machine_isa,
    run_step,
    version_line,
)
from gpu_runner.message import digest_of
from gpu_runner.problem import Problem, Tensor, Workload

PROGRAM_FILE = "sanitized"
DRIVER = Path(__file__).with_name("sanitizer_driver.c")
ENTRY_FAILED_CODE = 3
TOOLS = ("AddressSanitizer", "UndefinedBehaviorSanitizer")
_FLAGS = (
    # None of the candidate's flags: fast-math would hide what the tools look for.
    *("-O1", "-g", "-fno-omit-frame-pointer", "-march=native", "-fopenmp"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)


def build_sanitized(
    problem: Problem, candidate: Candidate, *, cache: Path, timeout_s: float
) -> Artefact | BuildRefused:
    """Return an artefact whose `PROGRAM_FILE` is the program.

    Raises:
        DefinitionError: the problem has a name that C++ reserves.
        ToolchainMissing: no compiler.
    """
    reason = missing()
    if reason is not None:
        raise ToolchainMissing(reason)
    refusal = refuse_flags(candidate)
    if refusal is not None:
        return refusal
    identity = identity_of(
        problem,
        candidate,
        compiler=version_line("g++"),
        flags=(*_FLAGS, digest_of(DRIVER.read_bytes())),
        machine=machine_isa(),
        is_trusted=False,
    )
    deadline = Deadline(timeout_s)
    return cached_build(
        cache, identity, candidate, lambda scratch: _make(problem, candidate, scratch, deadline)
    )


def call_file(
    problem: Problem, workload: Workload, inputs: Mapping[str, np.ndarray], *, threads: int
) -> bytes:
    """Return what the driver reads to make one call with these raw contents."""
    tensors = (*problem.inputs, *problem.outputs)
    tail = [struct.pack("<q", size) for size in problem.sizes(workload).values()]
    for scalar, value in zip(problem.scalars, problem.scalar_values(workload), strict=True):
        tail.append(struct.pack("<q" if scalar.kind == "int" else "<d", value))
    tail.append(struct.pack("<q", threads))
    head = struct.pack("<3Q", len(problem.inputs), len(problem.outputs), len(tail))
    sizes = struct.pack(f"<{len(tensors)}Q", *(_bytes(problem, t, workload) for t in tensors))
    contents = (np.ascontiguousarray(inputs[t.name]).tobytes() for t in problem.inputs)
    return b"".join((head, sizes, *tail, *contents))


def _bytes(problem: Problem, tensor: Tensor, workload: Workload) -> int:
    count = 1
    for extent in problem.shape(tensor, workload):
        count *= extent
    return count * tensor.dtype.item_bytes


def _make(
    problem: Problem, candidate: Candidate, scratch: Path, deadline: Deadline
) -> Made | BuildRefused:
    folder, work = scratch / SOURCE_FOLDER, scratch / "work"
    lay_out(problem, candidate, folder)
    work.mkdir()
    (work / DRIVER.name).write_bytes(DRIVER.read_bytes())
    units = [*compiled_sources(candidate), ("gcc", str(work / DRIVER.name))]
    objects: list[str] = []
    log = ""
    for index, (compiler, path) in enumerate(units):
        objects.append(str(work / f"{index}.o"))
        argv = [compiler, STANDARDS[compiler], *_FLAGS, "-I.", "-c", path, "-o", objects[-1]]
        said = run_step(argv, scratch, deadline)
        if isinstance(said, BuildRefused):
            return said
        log += said
    said = run_step(["g++", *_FLAGS, *objects, "-o", str(work / PROGRAM_FILE)], scratch, deadline)
    if isinstance(said, BuildRefused):
        return said
    (work / PROGRAM_FILE).rename(scratch / PROGRAM_FILE)
    for leftover in work.iterdir():
        leftover.unlink()
    work.rmdir()
    return Made(log_tail=log + said, seconds=deadline.elapsed_s)
