"""Makes the live parts of a process from settings: the team and the pool. Reads the secrets.

The only module that looks into the environment for keys; nothing is imported before it is needed.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agents.roles import Team
from gpu_runner.client import BusClient, JobPool
from gpu_runner.local import LocalPool
from graph.errors import SettingsError
from graph.settings import PoolSettings, TeamSettings

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


def make_team(name: str) -> Team:
    """Return the team of a name.

    Raises:
        SettingsError: its file cannot be read, or no such team is part of this version.
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
    raise SettingsError(
        f"team {name!r} is not part of this version; use --team playbook or scripted:FILE"
    )


@asynccontextmanager
async def open_pool(settings: PoolSettings, state: Path) -> AsyncIterator[JobPool]:
    """Connect to the pool that is set, or run a broker and a worker of our own.

    Args:
        settings: endpoint, and a state directory other than `state`.
        state: of our own pool; the same after a resumption.

    Raises:
        PoolError: it cannot be reached or started.
    """
    if settings.endpoint:
        client = BusClient(settings.endpoint)
        try:
            yield client
        finally:
            await client.close()
        return
    async with LocalPool(Path(settings.state) if settings.state else state) as pool:
        yield pool
