"""What every engine is asked: workers to start, to list, to drain and to stop.

An engine that we drive does it and says what is there. Of one that belongs to a cluster come the
files and commands that do it there. Either way a worker's life is bound to its broker's leases,
never to the engine: a job whose worker is lost goes to the next one.
"""

from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field, StringConstraints

from gpu_runner.message import Message

PoolName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""Workers are NAME-0, NAME-1, ...: also a legal name of a job and of a pod."""
_UNQUOTED = r"^[A-Za-z0-9_./:@%+=,~\[\]-]*$"
Text = Annotated[str, StringConstraints(pattern=_UNQUOTED)]
"""Paths and addresses that need no quoting in a script or a manifest; may be empty."""


class WorkerPlan(Message):
    """What the workers of a pool have in common."""

    pool: PoolName = "worker"
    endpoint: Text = ""
    """The broker's; needed to start workers."""
    workspace: Text = ""
    """Folder; each worker has its own below it."""
    keys: Text = ""
    """Folder of key folders, one a worker, by its name; empty: a broker without keys."""
    broker_key: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Public key of the broker; workers make their own pairs with it where they run."""
    gpus: int = Field(default=0, ge=0)
    """Of each worker on a cluster; locally, how many workers get one of their own."""

    def name_of(self, number: int) -> str:
        """Return the name of a worker; it stays the same over restarts."""
        return f"{self.pool}-{number}"


class Provisioned(Message):
    """A worker that an engine has started."""

    name: str
    state: Literal["running", "ended", "waiting"]
    """Waiting: asked for, and the engine has no place for it yet or does not answer."""
    place: str
    """Where it runs, in the engine's words."""


class Written(Message):
    """A file for another system."""

    name: str
    content: str


class Provision(Message):
    """What came of a request."""

    workers: tuple[Provisioned, ...] = ()
    files: tuple[Written, ...] = ()
    commands: tuple[str, ...] = ()
    """To be run where the files are, in this order; empty where everything is done."""


class Engine(Protocol):
    """Where workers come from."""

    def start(self, count: int) -> Provision:
        """See that so many workers run; those that do are left alone."""
        ...

    def list(self) -> Provision:
        """Say which workers there are."""
        ...

    def drain(self, name: str) -> Provision:
        """Let a worker finish its job and end."""
        ...

    def stop(self, name: str) -> Provision:
        """End a worker; its job goes to another one."""
        ...


def worker_command(plan: WorkerPlan, name: str, *, workspace: str) -> list[str]:
    """Return the arguments of `kernelpilot-runner` that start a worker."""
    words = ["worker", "--endpoint", plan.endpoint, "--name", name, "--workspace", workspace]
    return [*words, "--keys", f"{plan.keys}/{name}"] if plan.keys else words


def home_of(plan: WorkerPlan, name: str) -> Path:
    """Return the workspace of a worker on this machine."""
    return Path(plan.workspace).expanduser() / name
