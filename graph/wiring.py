"""Makes the live parts of a process from settings: the team and the pool. Reads the secrets.

The only module that looks into the environment for keys; nothing is imported before it is needed.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue, ValidationError

from agents.roles import Team
from gpu_runner.archive_pool import ArchivePool
from gpu_runner.client import BusClient, JobPool
from gpu_runner.local import LocalPool
from graph.archive import exchange_folder
from graph.errors import SettingsError
from graph.explain import explain
from graph.settings import ModelSettings, PoolSettings, TeamSettings

if TYPE_CHECKING:
    from agents.model import ChatModel

_KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}


def program_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("kernelpilot")
    except PackageNotFoundError:
        return "0"


def team_name(settings: TeamSettings, environment: Mapping[str, str] = os.environ) -> str:
    """Return who answers: the name set, or for `auto` the playbook.

    A key in the environment alone never makes a run spend money: a model is used when it is named.

    Raises:
        SettingsError: the provider named has no key.
    """
    if settings.name == "auto":
        return "playbook"
    key = _KEYS.get(settings.name)
    if key and not environment.get(key):
        raise SettingsError(
            f"team {settings.name!r} needs {key} in the environment; set it, or use --team playbook"
        )
    return settings.name


def make_team(
    name: str, models: ModelSettings, environment: Mapping[str, str] = os.environ
) -> Team:
    """Return the team of a name.

    Args:
        name: of `team_name`.
        models: which models a provider's team asks.
        environment: where the keys are.

    Raises:
        SettingsError: its script cannot be read, or no model is named.
        ModelRefused: the provider's library is missing, or a model would review its own work.
    """
    if name == "playbook":
        from agents.playbook import Playbook  # noqa: PLC0415 - brings Optuna along

        return Playbook()
    if name.startswith("scripted:"):
        from agents.scripted import Scripted  # noqa: PLC0415 - only where it is asked for

        try:
            return Scripted.read(Path(name.removeprefix("scripted:")))
        except OSError as error:
            raise SettingsError(f"team {name!r}: {error.strerror}") from error
    if name not in _KEYS:
        raise SettingsError(f"team {name!r} is unknown; use --team playbook, anthropic or openai")
    from agents.team import ModelTeam  # noqa: PLC0415 - with the prompts

    return ModelTeam(
        _model(name, "writer", models.writer, environment),
        _model(name, "reviewer", models.reviewer, environment),
        repairs=models.repairs,
    )


def _model(
    team: str, role: str, choice: dict[str, JsonValue], environment: Mapping[str, str]
) -> "ChatModel":
    """Return the model of one role; its provider is the team's unless it names another."""
    from agents.providers import ModelPlan, connect  # noqa: PLC0415 - only where one is asked

    if not choice.get("model"):
        raise SettingsError(f"team {team!r} needs to know its models; set models.{role}.model=NAME")
    try:
        plan = ModelPlan.model_validate({"provider": team, **choice})
    except ValidationError as error:
        lines = explain(error, ModelPlan, "", ("models", role))
        raise SettingsError(f"settings: {lines}") from error
    return connect(plan, key=environment.get(_KEYS[plan.provider], ""))


@asynccontextmanager
async def open_pool(settings: PoolSettings, state: Path) -> AsyncIterator[JobPool]:
    """Connect to the pool that is set, or run a broker and a worker of our own.

    `archive` and `archive:DIR` are pools whose jobs are carried by hand (`graph/archive.py`).

    Args:
        settings: endpoint, and a state directory other than `state`.
        state: of our own pool; the same after a resumption.

    Raises:
        PoolError: it cannot be reached or started.
    """
    exchange = exchange_folder(settings, state)
    if exchange is not None:
        yield ArchivePool(exchange)
        return
    if settings.endpoint:
        client = BusClient(settings.endpoint, keys=settings.key_folder)
        try:
            yield client
        finally:
            await client.close()
        return
    async with LocalPool(Path(settings.state) if settings.state else state) as pool:
        yield pool
