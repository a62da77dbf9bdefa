"""From what a GPU compiler left to an artefact's index, or to why the candidate is refused.

Shared by CUDA C++ and triton. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gpu_runner.candidate import Candidate
from gpu_runner.device.kernel_index import CompiledKernel, KernelIndex, parameter_bytes
from gpu_runner.device.lowered import refuse_invalid, refuse_unbuilt
from gpu_runner.errors import PlanError
from gpu_runner.jobs import Reason
from gpu_runner.languages import ptx
from gpu_runner.languages.artefact import BuildRefused
from gpu_runner.languages.cubin import CubinError, parameter_sizes
from gpu_runner.problem import Problem

_ENTRY = re.compile(r"Compiling entry function '([\w$]+)' for '(\w+)'")
_COUNTERS = {
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
    "spill_store_bytes": re.compile(r"(\d+) bytes spill stores"),
    "spill_load_bytes": re.compile(r"(\d+) bytes spill loads"),
    "registers": re.compile(r"Used (\d+) registers"),
    "barriers": re.compile(r"used (\d+) barriers"),
    "shared_bytes": re.compile(r"(\d+) bytes smem"),
}


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One compiled module."""

    cubin: str
    """File name inside the artefact."""
    binary: bytes
    text: str
    """The PTX the binary was assembled from."""
    counters: Mapping[str, float]
    """What the assembler counted: `<kernel>.registers`."""


def ptxas_counters(log: str) -> dict[str, float]:
    """Return what `ptxas -v` counted: `<kernel>.registers`, `<kernel>.spill_store_bytes`..."""
    counters: dict[str, float] = {}
    for kernel, text in _by_kernel(log):
        for name, pattern in _COUNTERS.items():
            match = pattern.search(text)
            counters[f"{kernel}.{name}"] = float(match.group(1)) if match else 0.0
    return counters


def refuse_plans(
    problem: Problem, candidate: Candidate, kernels: KernelIndex | None = None
) -> BuildRefused | None:
    """Return what is wrong with the launch plans, or None.

    Args:
        problem: gives names their meaning.
        candidate: of a GPU language.
        kernels: once they are compiled, their parameters are compared too.
    """
    try:
        refuse_invalid(problem, candidate.plans, candidate.language)
        if kernels is not None:
            refuse_unbuilt(problem, candidate.plans, kernels)
    except PlanError as error:
        return BuildRefused(reason=Reason.LANGUAGE_MISMATCH, message=str(error))
    return None


def refuse_forbidden(text: str, kernels: str) -> BuildRefused | None:
    """Return why PTX may not be run, or None.

    Args:
        text: the PTX.
        kernels: what it was made from; for the message.
    """
    fault = ptx.forbidden(text)
    if fault is None:
        return None
    return BuildRefused(
        reason=Reason.FORBIDDEN_INSTRUCTION, message=f"the device code of {kernels} {fault}"
    )


def kernels_in(unit: Unit) -> dict[str, CompiledKernel] | BuildRefused:
    """Return the kernels of a module by symbol, as CUDA C++ has them: static shared memory."""
    try:
        sizes = parameter_sizes(unit.binary)
    except CubinError as error:
        return _refused(str(error))
    found: dict[str, CompiledKernel] = {}
    for symbol, entry in ptx.entries(unit.text).items():
        told = tuple(parameter_bytes(parameter) for parameter in entry.parameters)
        if sizes.get(symbol, ()) != told:
            return _refused(
                f"the parameters of {symbol!r} are {told} bytes in its PTX and "
                f"{sizes.get(symbol, ())} in its cubin; declare it once, with plain types"
            )
        found[symbol] = CompiledKernel(
            cubin=unit.cubin,
            symbol=symbol,
            shared_bytes=int(unit.counters.get(f"{symbol}.shared_bytes", 0)),
            is_dynamic_shared=False,
            parameters=entry.parameters,
            registers=int(unit.counters.get(f"{symbol}.registers", 0)),
            most_threads=entry.most_threads,
        )
    return found


def _refused(message: str) -> BuildRefused:
    return BuildRefused(reason=Reason.COMPILE_FAILED, message=message)


def _by_kernel(log: str) -> Iterator[tuple[str, str]]:
    starts = list(_ENTRY.finditer(log))
    ends = [*(match.start() for match in starts), len(log)][1:]
    for match, end in zip(starts, ends, strict=False):
        yield match.group(1), log[match.end() : end]
