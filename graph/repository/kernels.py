"""A candidate as files of the repository: its sources and how they are built. Pure."""

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from pydantic import JsonValue

from gpu_runner.candidate import Candidate, Language
from gpu_runner.jobs import Built
from gpu_runner.languages.triton_variants import wanted
from gpu_runner.problem import Problem
from graph.errors import ShipFailed
from graph.repository.plans import plan_source
from graph.target import Target

Files = dict[str, str | bytes]

# What the builders of the runner use; tests hold the two together.
COMPILERS: Final = {".cpp": "g++", ".cc": "g++", ".cxx": "g++", ".c": "gcc"}
STANDARDS: Final = {"g++": "-std=c++20", "gcc": "-std=gnu17"}
COMPILE_FLAGS: Final = (
    *("-O3", "-march=native", "-fopenmp", "-fPIC", "-fvisibility=hidden", "-Wall"),
)
LINK_FLAGS: Final = (
    *("-shared", "-fopenmp", "-Wl,--require-defined=kp_run"),
    "-Wl,-z,defs,-z,now,-z,noexecstack",
)
CUDA_FLAGS: Final = ("--std=c++20",)
ENTRY: Final = "candidate.py"
DEFAULT_ARCH: Final = "sm_90a"
_ARCH: Final = re.compile(r"sm_\d+a?")
_ARCH_FLAG: Final = "--gpu-architecture="


@dataclass(frozen=True, kw_only=True)
class DeviceCode:
    """What the runner compiled of a candidate."""

    arch: str
    """`sm_90a`."""
    built: Built | None = None
    """None where the runner could not hand it over: the repository then compiles it itself."""


def arch_of(candidate: Candidate, target: Target, measured_on: str) -> str:
    """Return the architecture a candidate was compiled for.

    Args:
        candidate: its flags may name one.
        target: may ask for one.
        measured_on: `Environment.arch` of the runner.
    """
    flags = [f.removeprefix(_ARCH_FLAG) for f in candidate.flags if f.startswith(_ARCH_FLAG)]
    named = (*flags, target.hardware.arch, measured_on)
    return next((arch for arch in named if _ARCH.fullmatch(arch)), DEFAULT_ARCH)


def kernel_files(
    problem: Problem, candidate: Candidate, version: str, code: DeviceCode | None = None
) -> Files:
    """Return the files of one version, by path inside `kernels/`.

    Args:
        problem: what the candidate solves.
        candidate: sources and, for a GPU, launch plans.
        version: names the folder.
        code: of a candidate for a GPU.

    Raises:
        ShipFailed: a candidate for a GPU has no launch plan.
    """
    files: Files = {f"{version}/{source.path}": source.text for source in candidate.sources}
    match candidate.language:
        case Language.CPP:
            steps = _native_steps(candidate)
        case Language.PYTHON:
            steps = {"calling": candidate.calling, "entry": _entry(candidate)}
        case Language.CUDA | Language.TRITON:
            steps = _device_steps(problem, candidate)
            files |= _device_files(problem, candidate, version, code)
    described: dict[str, JsonValue] = {
        "language": candidate.language.value,
        "candidate": candidate.digest,
        **({"compiler": code.built.compiler} if code and code.built else {}),
        **steps,
    }
    files[f"{version}/build.json"] = json.dumps(described, indent=1) + "\n"
    return files


def _native_steps(candidate: Candidate) -> dict[str, JsonValue]:
    compiled: list[JsonValue] = []
    for source in candidate.sources:
        compiler = COMPILERS.get(PurePosixPath(source.path).suffix)
        if compiler is not None:
            command: list[JsonValue] = [
                *(compiler, STANDARDS[compiler], *COMPILE_FLAGS),
                *candidate.flags,
            ]
            compiled.append({"path": source.path, "command": command})
    link: list[JsonValue] = ["g++", *LINK_FLAGS, "-Wl,--version-script=exports.map"]
    return {"compile": compiled, "link": link}


def _entry(candidate: Candidate) -> str:
    paths = [source.path for source in candidate.sources]
    return ENTRY if ENTRY in paths else next(path for path in paths if path.endswith(".py"))


def _device_files(
    problem: Problem, candidate: Candidate, version: str, code: DeviceCode | None
) -> Files:
    """Return the launch plans, as they are and as Python, and the device code with its index."""
    if not candidate.plans:
        raise ShipFailed(f"version {version} has no launch plan; nothing says how to call it")
    plans = [plan.model_dump(mode="json", exclude_defaults=True) for plan in candidate.plans]
    files: Files = {
        f"{version}/plan.json": json.dumps(plans, indent=1) + "\n",
        f"{version}/plan.py": plan_source(problem, candidate, version),
    }
    if code is not None and code.built is not None:
        files |= {f"{version}/{code.arch}/{f.path}": f.content for f in code.built.files}
    return files


def _device_steps(problem: Problem, candidate: Candidate) -> dict[str, JsonValue]:
    suffix = ".cu" if candidate.language is Language.CUDA else ".py"
    unit = next(s.path for s in candidate.sources if PurePosixPath(s.path).suffix == suffix)
    flags = [flag for flag in candidate.flags if not flag.startswith(_ARCH_FLAG)]
    steps: dict[str, JsonValue] = {"source": unit, "flags": list[JsonValue](flags)}
    if candidate.language is Language.TRITON:
        steps["kernels"] = _triton_kernels(problem, candidate)
    return steps


def _triton_kernels(problem: Problem, candidate: Candidate) -> dict[str, JsonValue]:
    """Return what triton is asked for by every launch: types, constants, warps and stages."""
    compilations = wanted(problem, candidate)
    asked: dict[str, JsonValue] = {}
    for entry, name in compilations.launches.items():
        variant = compilations.variants[name]
        asked[entry] = {
            "function": variant.kernel,
            "types": list[JsonValue](variant.types),
            "divisible": list[JsonValue](variant.divisible),
            "constants": dict[str, JsonValue](variant.constants),
            "warps": variant.warps,
            "stages": variant.stages,
        }
    return asked
