"""Which model each role asks: settings over the files of `configs/models/`.

A role that is not set asks the default model; planner, researcher and profiler ask the writer's
where there is none. A choice that names a provider or a file stands alone; any other is laid over
the default. With one model only, the review is done by rules: no model reviews its own work.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue, ValidationError

from agents.providers.plan import ModelPlan
from gpu_runner.message import Message
from graph.errors import SettingsError
from graph.explain import DocumentError, explain, nearest, read_document
from graph.settings import CONFIGS, ModelChoice, ModelSettings

FOLDER = CONFIGS / "models"
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
"""Where the key of a provider's own service is."""
_WRITERS = ("planner", "researcher", "writer", "profiler")


class Cast(Message):
    """Who plays which role."""

    planner: ModelPlan
    researcher: ModelPlan
    writer: ModelPlan
    profiler: ModelPlan
    reviewer: ModelPlan | None
    """None: rules review."""
    fallback: ModelPlan | None

    @property
    def plans(self) -> tuple[ModelPlan, ...]:
        """Every model once."""
        found: list[ModelPlan] = []
        for plan in (*(getattr(self, role) for role in _WRITERS), self.reviewer, self.fallback):
            if plan is not None and plan not in found:
                found.append(plan)
        return tuple(found)


def is_named(models: ModelSettings) -> bool:
    """Whether any model is named, so that a run may ask one."""
    return any(_model_of(getattr(models, role)) for role in ("default", *_WRITERS))


def cast(models: ModelSettings, provider: str = "") -> Cast:
    """Return the model of every role.

    Args:
        models: as set.
        provider: of choices that name none.

    Raises:
        SettingsError: a model is missing, a file is unknown, or a field is wrong; names which.
    """
    found = {role: _resolved(models, role, provider) for role in _WRITERS}
    lead = found["writer"] or _plan(models.default, "default", provider)
    if lead is None:
        raise _unnamed("writer")
    reviewer = _plan(_over(models.default, models.reviewer), "reviewer", provider)
    if not models.reviewer:
        reviewer = None
        if not _model_of(models.default):
            raise _unnamed("reviewer")
    return Cast(
        planner=found["planner"] or lead,
        researcher=found["researcher"] or lead,
        writer=lead,
        profiler=found["profiler"] or lead,
        reviewer=reviewer,
        fallback=_plan(_over(models.default, models.fallback), "fallback", provider)
        if models.fallback
        else None,
    )


def key_name(plan: ModelPlan) -> str:
    """Return the environment variable of a model's key."""
    return plan.key_env or KEYS[plan.provider]


def key_of(plan: ModelPlan, environment: Mapping[str, str]) -> str:
    """Return a model's key; empty where there is none.

    The key of a provider's own service is not sent to another server in clear.
    """
    if not plan.key_env and plan.is_in_clear:
        return ""
    return environment.get(key_name(plan), "")


def shipped() -> dict[str, Path]:
    """Return the files of `configs/models/` by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def _resolved(models: ModelSettings, role: str, provider: str) -> ModelPlan | None:
    choice: ModelChoice = getattr(models, role)
    if not choice and not _model_of(models.default):
        return None
    return _plan(_over(models.default, choice), role if choice else "default", provider)


def _over(default: ModelChoice, choice: ModelChoice) -> ModelChoice:
    """Lay a choice over the default, unless it stands alone."""
    if isinstance(choice, str) or "provider" in choice or "use" in choice:
        return choice
    if not choice:
        return default
    return {**(_fields(default)), **choice}


def _fields(choice: ModelChoice) -> dict[str, JsonValue]:
    return {"use": choice} if isinstance(choice, str) else choice


def _model_of(choice: ModelChoice) -> bool:
    fields = _fields(choice)
    return bool(fields.get("model") or fields.get("use"))


def _plan(choice: ModelChoice, role: str, provider: str) -> ModelPlan | None:
    """Return the plan of a choice; None where it names no model."""
    if not choice:
        return None
    fields = dict(_fields(choice))
    used = fields.pop("use", None)
    layers = [_file(str(used), role)] if used else []
    whole: dict[str, JsonValue] = {**({"provider": provider} if provider else {})}
    for layer in (*layers, fields):
        whole |= layer
    if not whole.get("model"):
        raise _unnamed(role)
    if not whole.get("provider"):
        raise SettingsError(
            f"models.{role}: set models.{role}.provider=openai (any server that speaks its chat "
            "completions) or anthropic"
        )
    try:
        plan = ModelPlan.model_validate(whole)
    except ValidationError as error:
        lines = explain(error, ModelPlan, "", ("models", role))
        raise SettingsError(f"settings: {lines}") from error
    return plan if plan.is_priced or plan.base_url else _priced(plan)


def _priced(plan: ModelPlan) -> ModelPlan:
    """Return a plan with the prices of the shipped file of its model, where there is one."""
    for path in shipped().values():
        listed = ModelPlan.model_validate(_document(path))
        if (listed.provider, listed.model) == (plan.provider, plan.model):
            prices = {name: getattr(listed, name) for name in _PRICES}
            return plan.model_copy(update=prices)
    return plan


_PRICES = tuple(name for name in ModelPlan.model_fields if name.endswith("_usd_per_million"))


def _file(name: str, role: str) -> dict[str, JsonValue]:
    path = Path(name) if name.endswith((".yaml", ".yml")) else shipped().get(name)
    if path is None:
        raise SettingsError(
            f"models.{role}: there is no {FOLDER.name}/{name}.yaml{nearest(name, shipped())}"
        )
    return _document(path)


def _document(path: Path) -> dict[str, JsonValue]:
    try:
        return read_document(path)[0]
    except DocumentError as error:
        raise SettingsError(f"model file {error}") from error


def _unnamed(role: str) -> SettingsError:
    return SettingsError(f"a team of models needs to know its models; set models.{role}.model=NAME")
