"""How a candidate is written: generated for a language from the problem and the machine. Pure."""

import json
from functools import cache
from importlib.resources import files

import yaml

from agents.contexts import RunView
from agents.prompts import needs, rendered
from gpu_runner.candidate import DEVICE_LANGUAGES, Candidate, Language, LaunchPlan, Source
from gpu_runner.errors import DefinitionError
from gpu_runner.languages.header import problem_header
from gpu_runner.problem import Problem

_EXAMPLES = {
    Language.CPP: ("kernel.cpp", "kernel.cpp", ""),
    Language.PYTHON: ("candidate.py.txt", "candidate.py", ""),
    Language.CUDA: ("kernel.cu", "kernel.cu", "cuda.plan.j2"),
    Language.TRITON: ("triton.py.txt", "kernel.py", "triton.plan.j2"),
}
"""File of the example, its name in a candidate, and its launch plans."""
_SHARED_KIB = {80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 120: 99}
"""Shared memory a block may have, by compute capability times ten.

Source: CUDA C++ Programming Guide, table of technical specifications per compute capability.
"""


def guide(view: RunView, language: Language) -> str:
    """Return how a candidate in a language is written for the problem of a run."""
    file, _, plans = _EXAMPLES[language]
    values: dict[str, object] = {
        "view": view,
        "header": _header(view.problem),
        "limits": limits(view.arch),
        "example": _text(file),
        "plans": _text(plans) if plans else "",
    }
    name = f"guide_{language.value}"
    return rendered(name, {needed: values[needed] for needed in needs(name)})


def limits(arch: str) -> tuple[str, ...]:
    """Return what a block may use on an architecture: `sm_90a`."""
    digits = "".join(letter for letter in arch if letter.isdigit())
    number = int(digits) if digits else 0
    shared = _SHARED_KIB.get(number)
    told = [f"Compiled for {arch}; a block has at most 1024 threads, a thread 255 registers."]
    if shared:
        told.append(
            f"A block may use {shared} KiB of shared memory ({shared * 1024} bytes), static and "
            "`shared_bytes` together."
        )
    if number >= _CLUSTERS_FROM:
        told.append("A launch may have a `cluster` of up to 8 blocks.")
    return tuple(told)


_CLUSTERS_FROM = 90


def example_problem() -> Problem:
    """Return the problem that the examples solve."""
    return Problem.model_validate(yaml.safe_load(_text("problem.yaml")))


def example(language: Language) -> Candidate:
    """Return the example of a language as a candidate."""
    file, name, plans = _EXAMPLES[language]
    return Candidate(
        language=language,
        sources=(Source(path=name, text=_text(file)),),
        calling="destination" if language is Language.PYTHON else "returning",
        plans=tuple(LaunchPlan.model_validate(plan) for plan in json.loads(_text(plans)))
        if language in DEVICE_LANGUAGES
        else (),
    )


def _header(problem: Problem) -> str:
    try:
        return problem_header(problem)
    except DefinitionError as error:
        return f"/* {error} */"


@cache
def _text(name: str) -> str:
    return files("agents.prompts").joinpath("examples", name).read_text(encoding="utf-8")
