"""What this machine has for a run and what is missing: packages, keys, the runner's own list."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec

from pydantic import JsonValue

from gpu_runner.host.machine import doctor_lines

_PACKAGES = {
    "langgraph": True,
    "langgraph.checkpoint.sqlite": True,
    "optuna": True,
    "jinja2": True,
    "torch": True,
    "chromadb": False,
    "anthropic": False,
    "langchain_openai": False,
}
"""Import name to whether a run with the embedded defaults needs it."""
_KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")


def diagnoses(environment: Mapping[str, str] = os.environ) -> tuple[dict[str, JsonValue], ...]:
    """Return every check: name, is_ok, is_needed, detail, remedy. Never the value of a key."""
    found: list[dict[str, JsonValue]] = []
    for package, is_needed in _PACKAGES.items():
        is_there = _has(package)
        found.append(
            {
                "name": f"package {package}",
                "is_ok": is_there,
                "is_needed": is_needed,
                "detail": "installed" if is_there else "not installed",
                "remedy": "" if is_there else "make install",
            }
        )
    for key in _KEYS:
        is_set = bool(environment.get(key))
        found.append(
            {
                "name": key,
                "is_ok": is_set,
                "is_needed": False,
                "detail": "set" if is_set else "not set; the playbook team needs none",
                "remedy": "" if is_set else "export it to use that provider",
            }
        )
    found += [{**asdict(line), "is_needed": False} for line in doctor_lines()]
    return tuple(found)


def _has(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
