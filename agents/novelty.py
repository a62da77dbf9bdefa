"""Is it new? Candidates that differ in comments, blanks or layout alone are the same. Pure."""

import ast
import hashlib
import json
import re

from gpu_runner.candidate import Candidate, Language

_PYTHON = frozenset({Language.PYTHON, Language.TRITON})
_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    | (?P<gap>//[^\n]*|/\*.*?\*/)
    | (?P<directive>(?<=\n)[ \t]*\#(?:\\\n|[^\n])*\n?)
    | (?P<blank>\s+)""",
    re.DOTALL | re.VERBOSE,
)
_CONTINUED = "\\\n"
_LOOSE = re.compile(r"(?<=\w) (?=[^\w\n])|(?<=[^\w\n]) (?=\w)")
_BLANKS = re.compile(r"[ \n]*\n[ \n]*| +")


def fingerprint(candidate: Candidate) -> str:
    """Return what a candidate is apart from comments, blanks and the order of its files: sha256."""
    normal = _python if candidate.language in _PYTHON else _c
    content = {
        "language": candidate.language.value,
        "calling": candidate.calling,
        "flags": list(candidate.flags),
        "plans": [plan.model_dump(mode="json") for plan in candidate.plans],
        "sources": sorted([source.path, normal(source.text)] for source in candidate.sources),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _c(text: str) -> str:
    """Return C, C++ or CUDA with one blank where any are needed; directives keep their lines."""
    literals: list[str] = []

    def kept(token: re.Match[str]) -> str:
        if token["text"]:
            literals.append(token["text"])
            return "\0"
        if token["directive"]:
            return f"\n{' '.join(token['directive'].replace(_CONTINUED, ' ').split())}\n"
        return " "

    bare = _TOKEN.sub(kept, f"\n{text}\n")
    joined = _BLANKS.sub(lambda gap: "\n" if "\n" in gap[0] else " ", bare)
    return "\0".join((_LOOSE.sub("", joined).strip(), *literals))


def _python(text: str) -> str:
    """Return the program that Python reads, without docstrings; the text where it reads none."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)
