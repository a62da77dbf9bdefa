"""Reads a candidate that a user names: a source file, a directory, or an attempt of a run."""

import ast
import re
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from gpu_runner.candidate import DEVICE_LANGUAGES, Candidate, Language, LaunchPlan, Source
from gpu_runner.problem import Problem
from graph.errors import EvaluationError, RunError
from graph.runs import find_run

_LANGUAGES = {
    ".cpp": Language.CPP,
    ".cc": Language.CPP,
    ".cxx": Language.CPP,
    ".py": Language.PYTHON,
    ".cu": Language.CUDA,
}
_COMPANIONS = {".h", ".hpp", ".cuh"}
_NAMES = {Language.CPP: "kernel.cpp", Language.PYTHON: "candidate.py", Language.CUDA: "kernel.cu"}
_ATTEMPT = re.compile(r"^(?:(?P<run>.+):)?(?P<attempt>a\d{4})$")
_PLANS: TypeAdapter[tuple[LaunchPlan, ...]] = TypeAdapter(tuple[LaunchPlan, ...])


def read_candidate(
    name: str, problem: Problem, runs: Path, language: Language | None = None
) -> Candidate:
    """Return the candidate that `name` means.

    Args:
        name: a source file, a directory of sources (and `plan.json`), `RUN:a0007`, or `a0007` of
            the latest run.
        problem: whose arguments `run(...)` takes; decides how Python candidates are called.
        runs: where run directories lie.
        language: of the sources, where their suffix does not say it (Triton is Python too).

    Raises:
        EvaluationError: there is no such thing, or it is no candidate.
    """
    path = Path(name)
    if path.is_dir():
        return _from_files(sorted(_sources_in(path)), path, problem, language)
    if path.is_file():
        return _from_files([path], path.parent, problem, language)
    attempt = _ATTEMPT.match(name)
    if attempt is None:
        raise EvaluationError(
            f"candidate {name!r}: no such file or directory, and no attempt id (RUN:a0007)"
        )
    return _from_run(attempt["run"] or "latest", attempt["attempt"], runs)


def is_candidate_name(name: str) -> bool:
    """Whether a name means a file, a directory or an attempt, rather than a baseline."""
    return Path(name).exists() or _ATTEMPT.match(name) is not None


def calling_of(source: str, problem: Problem) -> Literal["returning", "destination"]:
    """Tell from `run`'s parameters whether it returns its outputs or is given them.

    A source that cannot be parsed, or whose `run` is not a plain function, is left to the runner
    to reject.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return "returning"
    with_outputs = len(problem.inputs) + len(problem.scalars) + len(problem.outputs)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "run":
            count = len(node.args.posonlyargs) + len(node.args.args)
            return "destination" if count == with_outputs else "returning"
    return "returning"


def _from_run(run: str, attempt_id: str, runs: Path) -> Candidate:
    try:
        files = find_run(runs, run)
        for attempt in files.attempts():
            if attempt.attempt_id == attempt_id:
                return files.candidate(attempt.candidate_digest)
    except RunError as error:
        raise EvaluationError(f"candidate {attempt_id}: {error}") from error
    raise EvaluationError(f"run {files.root.name} has no attempt {attempt_id}")


def _sources_in(folder: Path) -> list[Path]:
    known = _LANGUAGES.keys() | _COMPANIONS
    found = [path for path in folder.iterdir() if path.is_file() and path.suffix in known]
    if not found:
        raise EvaluationError(f"{folder} holds no source file ({', '.join(sorted(known))})")
    return found


def _from_files(
    paths: list[Path], folder: Path, problem: Problem, language: Language | None
) -> Candidate:
    spoken = language or _language_of(paths)
    try:
        sources = tuple(_source(path, spoken, is_alone=len(paths) == 1) for path in paths)
        plan = folder / "plan.json"
        plans: tuple[LaunchPlan, ...] = ()
        if spoken in DEVICE_LANGUAGES and plan.is_file():
            plans = _PLANS.validate_json(plan.read_bytes())
        calling = calling_of(sources[0].text, problem) if spoken is Language.PYTHON else "returning"
        return Candidate(language=spoken, sources=sources, calling=calling, plans=plans)
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        first = str(error).splitlines()
        raise EvaluationError(
            f"candidate {', '.join(str(p) for p in paths)}: {' '.join(first[:3])}"
        ) from error


def _source(path: Path, language: Language, *, is_alone: bool) -> Source:
    """Return one source; a single file gets a plain name, whatever the user called it."""
    text = path.read_text(encoding="utf-8")
    name = _NAMES.get(language, path.name) if is_alone else path.name
    return Source(path=name, text=text)


def _language_of(paths: list[Path]) -> Language:
    found = {_LANGUAGES[path.suffix] for path in paths if path.suffix in _LANGUAGES}
    if len(found) == 1:
        return found.pop()
    what = "several languages" if found else "no known language"
    raise EvaluationError(
        f"{', '.join(path.name for path in paths)}: {what}; say which with --language "
        f"({', '.join(Language)})"
    )
