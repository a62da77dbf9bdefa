"""The commands `provision` of `kernelpilot-runner`: workers by the number, here or on a cluster.

Heavy imports are inside the commands, so that help is instant.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gpu_runner.provisioning.engine import Engine, Provision

app = typer.Typer(
    help="Workers by the number. `local` starts them on this machine and finds them again, `ray` "
    "on the machines of a cluster; `slurm` and `kubernetes` print the script or manifest and the "
    "commands to run there. A worker's life is bound to the broker's leases: what an engine kills "
    "goes to another worker.",
    no_args_is_help=True,
)


class EngineName(StrEnum):
    """Who places the processes."""

    LOCAL = "local"
    SLURM = "slurm"
    KUBERNETES = "kubernetes"
    RAY = "ray"


EngineOption = Annotated[EngineName, typer.Option("--engine", help="Who places the processes.")]
Pool = Annotated[
    str,
    typer.Option(help="Workers are called POOL-0, POOL-1, ...; enrol their keys by that name."),
]
Workspace = Annotated[
    str, typer.Option(help="Folder where workers run; each has its own below.", metavar="DIR")
]
Address = Annotated[
    str,
    typer.Option(
        help="ray: the cluster's head, HOST:PORT; `auto` is one that runs here or RAY_ADDRESS.",
        metavar="ADDRESS",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def start(  # noqa: PLR0913, PLR0917 - an option of the command is a parameter
    endpoint: Annotated[str, typer.Option(help="The broker's.", metavar="URL")],
    workspace: Workspace = "workers",
    count: Annotated[int, typer.Option(help="Workers there shall be.", min=1, max=1000)] = 1,
    engine: EngineOption = EngineName.LOCAL,
    pool: Pool = "worker",
    keys: Annotated[
        str,
        typer.Option(
            help="Folder of key folders, DIR/NAME a worker; pairs are made where they are used.",
            metavar="DIR",
        ),
    ] = "",
    broker_key: Annotated[
        str, typer.Option(help="Public key of the broker, of `keys new` there.", metavar="KEY")
    ] = "",
    gpus: Annotated[
        int,
        typer.Option(help="Of each worker; on this machine: workers with one of their own.", min=0),
    ] = 0,
    hours: Annotated[int, typer.Option(help="slurm: time of an element.", min=1)] = 8,
    image: Annotated[str, typer.Option(help="kubernetes: with kernelpilot installed.")] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Where files go. Default: they are printed.", file_okay=False
        ),
    ] = None,
    address: Address = "auto",
    *,
    as_json: Json = False,
) -> None:
    """See that so many workers run; those that do are left alone."""
    plan = {
        "endpoint": endpoint,
        "workspace": workspace,
        "pool": pool,
        "keys": keys,
        "broker_key": broker_key,
        "gpus": gpus,
    }
    made = _engine(engine, plan, hours=hours, image=image, address=address)
    _show(made.start(count), output, as_json=as_json)


@app.command("list")
def list_workers(
    workspace: Workspace = "workers",
    engine: EngineOption = EngineName.LOCAL,
    pool: Pool = "worker",
    address: Address = "auto",
    *,
    as_json: Json = False,
) -> None:
    """Say which workers there are."""
    plan = {"workspace": workspace, "pool": pool}
    _show(_engine(engine, plan, address=address).list(), None, as_json=as_json)


@app.command()
def drain(
    name: Annotated[str, typer.Argument(help="A worker.", metavar="NAME")],
    workspace: Workspace = "workers",
    engine: EngineOption = EngineName.LOCAL,
    pool: Pool = "worker",
    address: Address = "auto",
    *,
    as_json: Json = False,
) -> None:
    """Let a worker finish the job in hand, take no other, and end."""
    plan = {"workspace": workspace, "pool": pool}
    _show(_engine(engine, plan, address=address).drain(name), None, as_json=as_json)


@app.command()
def stop(
    name: Annotated[str, typer.Argument(help="A worker.", metavar="NAME")],
    workspace: Workspace = "workers",
    engine: EngineOption = EngineName.LOCAL,
    pool: Pool = "worker",
    address: Address = "auto",
    *,
    as_json: Json = False,
) -> None:
    """End a worker; the job in hand goes to another one."""
    plan = {"workspace": workspace, "pool": pool}
    _show(_engine(engine, plan, address=address).stop(name), None, as_json=as_json)


def _engine(
    name: EngineName,
    values: dict[str, Any],
    *,
    hours: int = 8,
    image: str = "image",
    address: str = "auto",
) -> "Engine":
    from pydantic import ValidationError  # noqa: PLC0415 - see above

    from gpu_runner.provisioning.engine import WorkerPlan  # noqa: PLC0415 - see above
    from gpu_runner.provisioning.kubernetes import KubernetesEngine  # noqa: PLC0415 - see above
    from gpu_runner.provisioning.local import LocalEngine  # noqa: PLC0415 - see above
    from gpu_runner.provisioning.ray import RayEngine  # noqa: PLC0415 - see above
    from gpu_runner.provisioning.slurm import SlurmEngine  # noqa: PLC0415 - see above

    try:
        plan = WorkerPlan(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise typer.BadParameter(f"--{option}: {first['msg']}") from error
    match name:
        case EngineName.LOCAL:
            return LocalEngine(plan)
        case EngineName.SLURM:
            return SlurmEngine(plan, hours=hours)
        case EngineName.KUBERNETES:
            return KubernetesEngine(plan, image=image)
        case EngineName.RAY:
            return RayEngine(plan, address=address)


def _show(found: "Provision", output: Path | None, *, as_json: bool) -> None:
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for file in found.files:
            (output / file.name).write_text(file.content)
    if as_json:
        typer.echo(found.model_dump_json())
        return
    for worker in found.workers:
        typer.echo(f"{worker.name:<24} {worker.state:<8} {worker.place}")
    for file in found.files:
        typer.echo(str(output / file.name) if output else file.content)
    if found.commands:
        typer.echo("# run:" if found.files else "# run where the cluster is reached:")
        typer.echo("\n".join(found.commands))
    if not (found.workers or found.files or found.commands):
        typer.echo("no workers")
