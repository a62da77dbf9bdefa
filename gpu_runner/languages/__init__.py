"""Languages a candidate may be written in: one builder each, sources in, artefact out."""

import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpu_runner.candidate import Candidate, Language
from gpu_runner.errors import ToolchainMissing
from gpu_runner.languages import cpp, cuda, python, triton
from gpu_runner.languages.artefact import Artefact, BuildRefused
from gpu_runner.problem import Problem

__all__ = ["BUILDERS", "Artefact", "BuildRefused", "Builder", "build", "missing_toolchain"]


class BuildFunction(Protocol):
    """Turns a candidate of one language into an artefact, in the sandbox."""

    def __call__(
        self,
        problem: Problem,
        candidate: Candidate,
        *,
        cache: Path,
        timeout_s: float,
        is_trusted: bool = False,
    ) -> Artefact | BuildRefused:
        """Return the artefact, made or cached, or why its writer's sources cannot be built."""


@dataclass(frozen=True)
class Builder:
    """One language."""

    build: BuildFunction
    missing: Callable[[], str | None]
    """Why it cannot build here and what to do, or None."""
    prepare: Callable[[], None] | None = None
    """Finds out what every build asks for and a process keeps."""


BUILDERS: Mapping[Language, Builder] = {
    Language.CPP: Builder(cpp.build_cpp, cpp.missing),
    Language.PYTHON: Builder(python.build_python, python.missing),
    Language.CUDA: Builder(cuda.build_cuda, cuda.missing, cuda.prepare),
    Language.TRITON: Builder(triton.build_triton, triton.missing, triton.prepare),
}


def build(
    problem: Problem,
    candidate: Candidate,
    *,
    cache: Path,
    timeout_s: float,
    is_trusted: bool = False,
) -> Artefact | BuildRefused:
    """Return the candidate's artefact, from the cache or newly made in the sandbox.

    Args:
        problem: gives the generated header its names.
        candidate: sources, language and flags.
        cache: directory of all artefacts; made where it is missing, safe to share.
        timeout_s: wall clock of the whole build.
        is_trusted: a baseline of the target, our own code; its artefact is never shared with an
            untrusted candidate of the same content.

    Raises:
        DefinitionError: the problem has a name that C or C++ reserves.
        ToolchainMissing: nothing here can build this language; the message has the remedy.
        OSError: the cache cannot be written.
    """
    reason = missing_toolchain(candidate.language)
    if reason is not None:
        raise ToolchainMissing(reason)
    builder = BUILDERS[candidate.language]
    return builder.build(
        problem, candidate, cache=cache, timeout_s=timeout_s, is_trusted=is_trusted
    )


def prepare() -> None:
    """Ask the compilers for their versions, so that forks of this process need not.

    A compiler that is replaced meanwhile is noticed when the process is started again.
    """
    for builder in BUILDERS.values():
        if builder.prepare is not None:
            with suppress(ToolchainMissing, OSError, subprocess.SubprocessError):
                builder.prepare()


def missing_toolchain(language: Language) -> str | None:
    """Return what a language lacks here, with the remedy, or None when it can be built."""
    return BUILDERS[language].missing()
