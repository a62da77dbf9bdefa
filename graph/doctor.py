"""What this machine has for a run and what is missing: packages, keys, the runner's own list."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec

from pydantic import JsonValue

from agents.providers.survey import Survey
from gpu_runner.host.machine import doctor_lines
from graph.models import KEYS
from graph.settings import Settings

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
    for key in KEYS.values():
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


async def model_diagnoses(settings: Settings) -> tuple[dict[str, JsonValue], ...]:
    """Ask each model that is set what it can do: a check a model, its finding as the detail.

    Raises:
        SettingsError, ModelRefused: the models set cannot be asked at all; says what to set.
    """
    from graph.wiring import model_team  # noqa: PLC0415 - brings the providers' libraries

    provider = settings.team.name if settings.team.name in KEYS else ""
    team = model_team(settings.models, provider)
    found: list[dict[str, JsonValue]] = []
    for survey in await team.survey(is_thorough=True):
        is_needed = team.needs(survey.provider, survey.model)
        found.append(
            {
                **survey.model_dump(mode="json"),
                "name": f"model {survey.model}",
                "is_ok": not survey.fault,
                "is_needed": is_needed,
                "detail": survey.line,
                "remedy": _remedy(survey) if survey.fault else "",
            }
        )
    return tuple(found)


def _remedy(survey: Survey) -> str:
    if survey.is_limited:
        return "wait: a run would"
    where = f"whether {survey.address} answers, " if survey.address else ""
    return f"check {where}the model's name and its key (models.ROLE.key_env)"


def _has(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
