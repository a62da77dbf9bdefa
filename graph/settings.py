"""Settings: `configs/default.yaml` < each `--config` < each `--set a.b=c`, then frozen.

Secrets are not settings: they come from the environment, in `wiring.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, JsonValue, ValidationError, model_validator

from gpu_runner.message import Message
from gpu_runner.records import TimingPlan
from graph.errors import SettingsError
from graph.explain import DocumentError, explain, read_document

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
"""Shipped beside the packages, in a checkout and in an installation alike."""


class RunSettings(Message):
    """Where runs lie and how they are shown."""

    directory: Path
    heartbeat_s: float = Field(gt=0)
    seed: int


class TeamSettings(Message):
    """Who answers."""

    name: str = Field(pattern=r"^(auto|playbook|models|anthropic|openai|scripted:.+)$")
    reply_s: float = Field(gt=0)
    retries: int = Field(ge=1)


ModelChoice = dict[str, JsonValue] | str
"""A file of `configs/models/` by its name, or the fields of an `agents.providers.ModelPlan`, with
`use: NAME` over such a file."""


class ModelSettings(Message):
    """Which model each role asks. `graph/models.py` says what follows from what is left out."""

    default: ModelChoice = Field(default_factory=dict)
    planner: ModelChoice = Field(default_factory=dict)
    researcher: ModelChoice = Field(default_factory=dict)
    writer: ModelChoice = Field(default_factory=dict)
    profiler: ModelChoice = Field(default_factory=dict)
    reviewer: ModelChoice = Field(default_factory=dict)
    """Another model than those it reviews."""
    fallback: ModelChoice = Field(default_factory=dict)
    """Asked where the model of a role fails; never in the reviewer's place."""
    repairs: int = Field(ge=0)
    """Times that a malformed reply is sent back."""


class PoolSettings(Message):
    """Who executes."""

    endpoint: str
    """Of a broker; or `archive`, `archive:DIR`: the jobs are carried by hand."""
    state: str
    keys: str = ""
    """Folder of the run's key pair, where the broker wants one."""

    @property
    def key_folder(self) -> Path | None:
        """The folder of keys; None where the broker is asked without."""
        return Path(self.keys).expanduser() if self.keys else None

    @property
    def is_archive(self) -> bool:
        """Whether the endpoint names an exchange folder rather than a broker."""
        return self.endpoint.partition(":")[0] == "archive"


class JobSettings(Message):
    """Wall clock of one job, seconds, and tries of one that was not served."""

    admit_s: float = Field(gt=0)
    build_s: float = Field(gt=0)
    check_s: float = Field(gt=0)
    feedback_s: float = Field(gt=0)
    claim_s: float = Field(gt=0)
    profile_s: float = Field(gt=0)
    tries: int = Field(ge=1)


class KnowledgeSettings(Message):
    """Which store of evidence the researcher searches."""

    store: str = ""
    """Its folder; empty: `library.store_of` says where else one may be."""
    embedder: str = "auto"
    """What its vectors were made by: `--embedder` of `knowledge build`."""


class MemorySettings(Message):
    """Where runs keep what they learn."""

    lessons: str = ""
    """A file; empty: `lessons.jsonl` beside the run directory; `none`: nothing is kept."""


class LoopSettings(Message):
    """Bounds inside a round."""

    repairs: int = Field(ge=0)
    review_tries: int = Field(default=3, ge=1)
    """Of one review, where the reply is malformed."""
    review_pause_s: float = Field(default=0.5, ge=0)
    """Before the second try; doubles."""
    mends: int = Field(default=2, ge=0)
    """Of the final kernel, after the reviewer read it as code; each is a round of the budget."""
    claim_expected_s: float = Field(gt=0)
    compile_expected_s: float = Field(ge=0)
    """On a GPU, where each baseline after the first compiles for every shape."""


class BenchPlans(Message):
    """How much is measured for feedback, and for a claim."""

    feedback: TimingPlan
    claim: TimingPlan

    @model_validator(mode="after")
    def _claim_has_sittings(self) -> Self:
        if self.claim.sittings < _CLAIM_SITTINGS:
            msg = f"claim.sittings is {self.claim.sittings}; a claim needs {_CLAIM_SITTINGS}"
            raise ValueError(msg)
        return self


class BenchSettings(BenchPlans):
    """Of a processor, and of a GPU, whose calls are shorter and whose clock is its own."""

    cuda: BenchPlans

    def on(self, device: Literal["cpu", "cuda"]) -> BenchPlans:
        """Return the plans of one kind of device."""
        return self.cuda if device == "cuda" else self


_CLAIM_SITTINGS = 5


class Settings(Message):
    """All of it; sections are passed on, never the whole."""

    run: RunSettings
    team: TeamSettings
    models: ModelSettings
    pool: PoolSettings
    jobs: JobSettings
    loop: LoopSettings
    knowledge: KnowledgeSettings = KnowledgeSettings()
    memory: MemorySettings = MemorySettings()
    bench: BenchSettings
    target: dict[str, JsonValue] = Field(default_factory=dict)
    """Overrides of the target's goal, scope, budget and hardware; `targets.py` checks them."""


def load_settings(configs: Sequence[Path] = (), assignments: Sequence[str] = ()) -> Settings:
    """Return the settings of the layers given, the last one first.

    Args:
        configs: YAML files with any of the keys of `default.yaml`.
        assignments: `a.b=value`, the value read as YAML.

    Raises:
        SettingsError: an unknown key (with the nearest one), or a value of a wrong kind.
    """
    merged: dict[str, JsonValue] = {}
    for path in (CONFIGS / "default.yaml", *configs):
        layer, text = _read(path)
        merged = _merge(merged, layer)
        _validate(merged, str(path), text)
    for assignment in assignments:
        merged = _merge(merged, _nested(*assigned_value(assignment)))
        _validate(merged, f"--set {assignment}", "")
    return _validate(merged, "settings", "")


def assigned_value(assignment: str) -> tuple[list[str], JsonValue]:
    """Split `a.b=value` into its keys and its value, read as YAML.

    Raises:
        SettingsError: no `=`, an empty key, or a value that is not YAML.
    """
    name, equals, text = assignment.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise SettingsError(f"--set {assignment!r}: write it as section.key=value")
    try:
        return keys, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {assignment!r}: the value is not YAML") from error


def _read(path: Path) -> tuple[dict[str, JsonValue], str]:
    try:
        return read_document(path)
    except DocumentError as error:
        raise SettingsError(f"--config {error}") from error


def _nested(keys: Sequence[str], value: JsonValue) -> dict[str, JsonValue]:
    inner = value if len(keys) == 1 else _nested(keys[1:], value)
    return {keys[0]: inner}


def _merge(old: dict[str, JsonValue], new: dict[str, JsonValue]) -> dict[str, JsonValue]:
    merged = dict(old)
    for key, value in new.items():
        below = merged.get(key)
        merged[key] = (
            _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return merged


def _validate(merged: dict[str, JsonValue], where: str, text: str) -> Settings:
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(f"{where}: {explain(error, Settings, text)}") from error
