"""The command `kernelpilot-runner`: broker, worker, one job by hand, and what this machine lacks.

Heavy imports are inside the commands, so that help is instant and a broker loads no numpy.
"""

import json
import signal
import sys
import tempfile
from contextlib import nullcontext
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpu_runner import cli_archive, cli_blobs, cli_keys, cli_pool, cli_provision
from gpu_runner.cli_keys import OwnKeys
from gpu_runner.logs import log_to_stderr

if TYPE_CHECKING:
    from gpu_runner.jobs import AnyJob, AnyOutcome

_EXECUTOR = "gpu_runner.tasks.execute:execute"

app = typer.Typer(
    name="kernelpilot-runner",
    help="Build, check, measure and profile kernels for KernelPilot.\n\n"
    "`kernelpilot run` starts a broker and a worker by itself; these commands are for pools that "
    "outlive a run, for a single job by hand, and for looking at a machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class Exit(IntEnum):
    """Exit codes of every command here."""

    RESULT = 0
    REJECTED = 1
    USAGE = 2
    UNSERVED = 3


class Keep(StrEnum):
    """Where a broker with a state directory keeps its jobs."""

    DATABASE = "database"
    MEMORY = "memory"


Endpoint = Annotated[
    str,
    typer.Option(
        help="Where the broker listens: `ipc:///path/to/socket` or `tcp://127.0.0.1:7766`. "
        "Only loopback, but for a broker with --keys.",
        metavar="URL",
    ),
]
Parent = Annotated[int | None, typer.Option(hidden=True)]
Executor = Annotated[str, typer.Option(hidden=True)]
Workspace = Annotated[
    Path,
    typer.Option(
        help="Directory for caches, outcomes and logs; made when missing.",
        metavar="DIR",
        file_okay=False,
    ),
]


@app.command()
def broker(  # noqa: PLR0913, PLR0917 - an option of the command is a parameter
    endpoint: Endpoint,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the broker's database: jobs, outcomes and events survive a restart "
            "and a power cut. Without it they are kept in memory, and come back from clients and "
            "workers.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            help="Workers that belong to this pool. The first job is leased when so many are "
            "here or after --settle-s, so that jobs running since before a restart are found "
            "and not run again. 0: not known.",
            min=0,
        ),
    ] = 0,
    keep: Annotated[
        Keep,
        typer.Option(
            help="Where --state keeps jobs. `memory`: nowhere; it remembers the epoch alone, so "
            "that a restarted broker hands out larger tokens than the one before.",
        ),
    ] = Keep.DATABASE,
    events: Annotated[
        str | None,
        typer.Option(
            help="Where to publish events, an endpoint like --endpoint. By default events are "
            "replayed to those who ask (`kernelpilot-runner events`).",
            metavar="URL",
        ),
    ] = None,
    beat_s: Annotated[float, typer.Option(help="Seconds between signs of life.", min=0.05)] = 2.0,
    lease_s: Annotated[
        float, typer.Option(help="A worker silent for so many seconds has lost its job.", min=0.5)
    ] = 20.0,
    settle_s: Annotated[
        float | None,
        typer.Option(
            help="Seconds to wait for workers after a start. Default: --lease-s, for only then has "
            "every worker that runs a job been heard or given up; 0 at the first start with "
            "--state, and where the database says who runs what.",
            min=0,
        ),
    ] = None,
    keys: OwnKeys = None,
    blobs: cli_blobs.BlobFolder = None,
    most_jobs: Annotated[
        int,
        typer.Option(help="Unfinished jobs; whoever submits more is told to come back.", min=1),
    ] = 20_000,
    most_of_session: Annotated[
        int, typer.Option(help="The same for one session, as a run is.", min=1)
    ] = 5_000,
    parent: Parent = None,
) -> None:
    """Hand out jobs to workers and outcomes to clients, until SIGTERM.

    With --keys only those whom `keys enroll` put on the list come in, over any address.
    """
    from gpu_runner.blobs.server import blobs_beside  # noqa: PLC0415 - see above
    from gpu_runner.broker import Broker, next_epoch  # noqa: PLC0415 - see above
    from gpu_runner.endpoint import allow_many_connections  # noqa: PLC0415 - see above
    from gpu_runner.keeping import StoreKeeper  # noqa: PLC0415 - see above
    from gpu_runner.pool import PoolPlan  # noqa: PLC0415 - see above
    from gpu_runner.process_tree import die_with_parent, signals_as_bytes  # noqa: PLC0415 - same

    die_with_parent(parent)
    log_to_stderr()
    allow_many_connections()
    epoch = next_epoch(state)
    is_informed = state is not None and epoch == 1
    keeper = None
    if state is not None and keep is Keep.DATABASE:
        keeper = StoreKeeper(state, epoch)
        epoch, is_informed = keeper.epoch, is_informed or not keeper.is_new
    if settle_s is None:
        settle_s = 0.0 if is_informed else lease_s
    plan = PoolPlan(
        epoch=epoch,
        beat_s=beat_s,
        lease_s=lease_s,
        settle_s=settle_s,
        expected_workers=workers,
        most_live=most_jobs,
        most_of_session=most_of_session,
    )
    with (
        signals_as_bytes(signal.SIGTERM, signal.SIGINT) as stop,
        blobs_beside(endpoint, blobs, keys),
    ):
        Broker(endpoint, plan, keeper=keeper, events=events, keys=keys).serve(stop)


@app.command()
def worker(  # noqa: PLR0913, PLR0917 - an option of the command is a parameter
    endpoint: Endpoint,
    workspace: Workspace,
    name: Annotated[
        str, typer.Option(help="Unique in the pool; keep it over restarts.", metavar="NAME")
    ] = "worker",
    grace_s: Annotated[
        float,
        typer.Option(help="Seconds past a job's own timeout before it is killed.", min=0),
    ] = 10.0,
    slots: Annotated[
        int, typer.Option(help="Builds at the same time. All else runs alone.", min=1, max=64)
    ] = 1,
    keys: OwnKeys = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            help="Something this machine offers and a job may need; may be given several times. "
            "Its architecture, `gpu` or `cpu`, `nvrtc`, `triton`, `ncu` and `sanitizer` are found.",
            metavar="TAG",
        ),
    ] = None,
    executor: Executor = _EXECUTOR,
    parent: Parent = None,
) -> None:
    """Run jobs, each in fresh processes, until SIGTERM: builds share --slots, all else runs alone.

    SIGUSR1 drains: jobs in hand are finished, no other is taken, then the worker ends.
    """
    from gpu_runner.device.nursery import zygote  # noqa: PLC0415 - see above
    from gpu_runner.execution import ExecutionPlan  # noqa: PLC0415 - see above
    from gpu_runner.fitness import fit_machine  # noqa: PLC0415 - see above
    from gpu_runner.host.nursery import nursery  # noqa: PLC0415 - see above
    from gpu_runner.process_tree import (  # noqa: PLC0415 - see above
        adopt_orphans,
        die_with_parent,
        signals_as_bytes,
    )
    from gpu_runner.spool import Spool  # noqa: PLC0415 - see above
    from gpu_runner.supervisors import Supervisors  # noqa: PLC0415 - see above
    from gpu_runner.tags import machine_tags  # noqa: PLC0415 - see above
    from gpu_runner.worker import Worker  # noqa: PLC0415 - see above

    die_with_parent(parent)
    adopt_orphans()
    log_to_stderr()
    plan = ExecutionPlan(
        workspace=_made(workspace),
        executor=executor,
        grace_s=grace_s,
        slots=slots,
        tags=machine_tags(tag or ()),
    )
    proofs = cli_keys.worker_keys(keys, plan.workspace, endpoint)
    lock = Spool(plan.workspace).lock(name, patience_s=_OWNER_PATIENCE_S)
    machine = fit_machine()
    with (
        signals_as_bytes(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as signals,
        zygote(plan.workspace) as device_zygote,
        nursery(plan.workspace) as subject_zygote,
        Supervisors().prepared(plan.executor) as supervisors,
    ):
        served = Worker(
            endpoint,
            name,
            machine,
            plan,
            lock=lock,
            spared=device_zygote | subject_zygote,
            supervisors=supervisors,
            keys=proofs,
        )
        served.run(signals)
    if served.quarantine:
        typer.echo(f"kernelpilot-runner: {served.quarantine}", err=True)
        raise typer.Exit(Exit.UNSERVED)


@app.command()
def run_job(
    file: Annotated[Path, typer.Argument(help="A job as JSON.", metavar="FILE")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    workspace: Annotated[
        Path | None,
        typer.Option(
            help="Directory for caches and logs. Without it everything is built afresh in a "
            "temporary one.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None,
    executor: Executor = _EXECUTOR,
) -> None:
    """Run one job here and print its outcome; no broker, no worker.

    Exit code: 0 a result, 1 the candidate was rejected, 2 the file is no job, 3 the job could not
    be served or its target is unfit.
    """
    job = _read_job(file)
    made = nullcontext(str(workspace)) if workspace else tempfile.TemporaryDirectory()
    with made as folder:
        outcome = _run_here(job, _made(Path(folder)), executor)
    typer.echo(outcome.model_dump_json() if as_json else _in_words(outcome))
    raise typer.Exit(_exit_code(outcome))


app.command()(cli_archive.execute)
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_blobs.app, name="blobs")
app.add_typer(cli_provision.app, name="provision")
for command in cli_pool.COMMANDS:
    app.command()(command)


@app.command()
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Say what this machine can build and measure, and what to do about the rest."""
    from gpu_runner.host.machine import doctor_lines  # noqa: PLC0415 - see above

    lines = doctor_lines()
    if as_json:
        fields = ("name", "is_ok", "detail", "remedy")
        typer.echo(json.dumps([{f: getattr(line, f) for f in fields} for line in lines]))
        return
    for line in lines:
        remedy = "" if line.is_ok else f"\n       {line.remedy}"
        typer.echo(f"{'ok  ' if line.is_ok else 'no  '} {line.name}: {line.detail}{remedy}")


def main() -> None:
    """Run the command line; an error that its user can put right is one line, no traceback."""
    from gpu_runner.errors import ArchiveError, RunnerError  # noqa: PLC0415 - see above
    from gpu_runner.store import StoreFailed  # noqa: PLC0415 - see above

    try:
        app()
    except StoreFailed as error:
        typer.echo(f"kernelpilot-runner: {error}", err=True)
        sys.exit(EXIT_STORE_FAILED)
    except RunnerError as error:
        typer.echo(f"kernelpilot-runner: {error}", err=True)
        sys.exit(Exit.USAGE if isinstance(error, ArchiveError) else Exit.UNSERVED)


EXIT_STORE_FAILED = 70
"""Of a broker whose database failed; whoever starts brokers starts it again."""
_OWNER_PATIENCE_S = 15.0
"""How long a worker waits for the end of an earlier one of its name, and of its child."""


def _read_job(path: Path) -> "AnyJob":
    from pydantic import ValidationError  # noqa: PLC0415 - see above

    from gpu_runner.jobs import JOB  # noqa: PLC0415 - see above

    try:
        return JOB.validate_json(path.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise typer.BadParameter(f"{path} is not a job: {place}: {first['msg']}") from error


def _run_here(job: "AnyJob", workspace: Path, executor: str) -> "AnyOutcome":
    from gpu_runner.execution import Execution, ExecutionPlan, not_launched  # noqa: PLC0415 - same
    from gpu_runner.process_tree import adopt_orphans, end_children  # noqa: PLC0415 - see above
    from gpu_runner.spool import Spool  # noqa: PLC0415 - see above

    adopt_orphans()
    plan = ExecutionPlan(workspace=workspace, executor=executor)
    with tempfile.TemporaryDirectory() as fresh:  # a job run by hand always runs
        try:
            execution = Execution(job, 0, plan, Spool(Path(fresh)))
        except OSError as error:
            return not_launched(job, error)
        try:
            return execution.wait()
        finally:
            end_children()
            execution.close()


def _exit_code(outcome: "AnyOutcome") -> Exit:
    match outcome.kind:
        case "rejected":
            return Exit.REJECTED
        case "unserved" | "unfit":
            return Exit.UNSERVED
        case _:
            return Exit.RESULT


def _in_words(outcome: "AnyOutcome") -> str:
    match outcome.kind:
        case "rejected":
            text = f"rejected ({outcome.stage}, {outcome.reason}): {outcome.message}"
            return f"{text}\n{outcome.log_tail}".rstrip()
        case "unserved":
            return f"unserved ({outcome.cause}): {outcome.message}"
        case "unfit":
            return f"unfit target: {outcome.message}"
        case _:
            return outcome.model_dump_json(indent=2)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


if __name__ == "__main__":
    main()
