"""Makes the live parts of a process from settings: the team and the pool. Reads the secrets.

The only module that looks into the environment for keys; nothing is imported before it is needed.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from agents.providers.plan import ModelPlan
from agents.roles import Team
from gpu_runner.archive_pool import ArchivePool
from gpu_runner.client import BusClient, JobPool
from gpu_runner.local import LocalPool
from graph.archive import exchange_folder
from graph.errors import SettingsError
from graph.models import KEYS, cast, is_named, key_of
from graph.settings import ModelSettings, PoolSettings, TeamSettings

if TYPE_CHECKING:
    from agents.providers.patience import Patient
    from agents.team import ModelTeam


def program_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("kernelpilot")
    except PackageNotFoundError:
        return "0"


def team_name(
    settings: TeamSettings,
    environment: Mapping[str, str] = os.environ,
    models: ModelSettings | None = None,
) -> str:
    """Return who answers: the name set, or for `auto` the models named, else the playbook.

    A key in the environment alone never makes a run spend money: a model is used when it is named.

    Args:
        settings: who is set.
        environment: where the keys are.
        models: which models are named.

    Raises:
        SettingsError: the provider named has no key.
    """
    if settings.name == "auto":
        return "models" if models is not None and is_named(models) else "playbook"
    key = KEYS.get(settings.name)
    if key and not environment.get(key) and not (models is not None and is_named(models)):
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
        models: which models a team of models asks.
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
    if name != "models" and name not in KEYS:
        raise SettingsError(
            f"team {name!r} is unknown; use --team playbook, models, anthropic or openai"
        )
    return model_team(models, name if name in KEYS else "", environment)


def model_team(
    models: ModelSettings, provider: str = "", environment: Mapping[str, str] = os.environ
) -> "ModelTeam":
    """Return the team of the models set; roles of one model share it, and what it has cached.

    Args:
        models: which.
        provider: of those that name none.
        environment: where the keys are.

    Raises:
        SettingsError: a model is missing or wrongly set.
        ModelRefused: as `make_team`.
    """
    from agents.providers import connect  # noqa: PLC0415 - only where one is asked
    from agents.team import ModelTeam  # noqa: PLC0415 - with the prompts

    chosen = cast(models, provider)
    gates: dict[tuple[str, str], asyncio.Semaphore] = {}
    made: list[tuple[ModelPlan, bool, Patient]] = []

    def model(plan: ModelPlan, *, has_fallback: bool = True) -> "Patient":
        for known, with_fallback, patient in made:
            if (known, with_fallback) == (plan, has_fallback):
                return patient
        gate = None
        if plan.at_once:
            gate = gates.setdefault((plan.provider, plan.base_url), asyncio.Semaphore(plan.at_once))
        steps_in = chosen.fallback if has_fallback else None
        patient = connect(
            plan,
            key=key_of(plan, environment),
            fallbacks=[(steps_in, key_of(steps_in, environment))] if steps_in else (),
            gate=gate,
        )
        made.append((plan, has_fallback, patient))
        return patient

    return ModelTeam(
        model(chosen.writer),
        model(chosen.reviewer, has_fallback=False) if chosen.reviewer else None,
        planner=model(chosen.planner),
        researcher=model(chosen.researcher),
        profiler=model(chosen.profiler),
        repairs=models.repairs,
    )


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
