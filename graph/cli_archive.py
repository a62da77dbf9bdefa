"""The commands `export` and `import`, joined to those of `kernelpilot-runner`; its entry point.

They know runs and targets, and `gpu_runner` may not: so they live here, and the console script
begins here. `python -m gpu_runner.cli` is the same program without them. Nothing here imports
langgraph before a run is begun.
"""

# An option is a parameter and a flag is a boolean one: that is how typer reads a command.
# ruff: noqa: FBT002

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpu_runner.cli import Exit, app
from gpu_runner.cli import main as run_app

if TYPE_CHECKING:
    from gpu_runner.archive_exchange import Imported
    from graph.archive import Origin

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Config = Annotated[
    list[Path] | None, typer.Option("--config", help="A YAML file over configs/default.yaml.")
]
Assign = Annotated[
    list[str] | None, typer.Option("--set", help="One setting: section.key=value. Repeatable.")
]


@app.command()
def export(
    name: Annotated[
        str,
        typer.Argument(
            help="A run (id, a unique beginning of one, a path, `latest`) that waits for results; "
            "or a target (a name, a YAML file).",
            metavar="RUN|TARGET",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The archive. Default: the run's name with `.zip`, here.",
            metavar="ARCHIVE",
            dir_okay=False,
        ),
    ] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a target: a source file, a directory or RUN:a0007 to judge against every "
            "baseline. Repeatable. Without one a run of the target is begun."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Of a target: which of its devices the other machine is.")
    ] = "auto",
    assign: Assign = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write the jobs that wait, and all they need, into one archive.

    Carry it to a machine without a network, run `kernelpilot-runner execute` there, carry the
    results back, and `import` them.
    """
    from graph.archive import find_origin  # noqa: PLC0415 - help is instant
    from graph.archive_begin import batch_of, is_target, run_of  # noqa: PLC0415 - same
    from graph.settings import load_settings  # noqa: PLC0415 - same

    settings = load_settings(config or (), assign or ())
    if is_target(name):
        origin = (
            batch_of(name, tuple(candidate), device, settings)
            if candidate
            else run_of(name, device, settings)
        )
    elif candidate:
        raise typer.BadParameter(f"--candidate belongs to a target, and {name!r} is none")
    else:
        origin = find_origin(name, settings.run.directory)
    archive = output or Path(f"{origin.name}.zip")
    jobs = origin.exchange.export(archive, origin.name)
    told = {
        "archive": str(archive),
        "origin": origin.name,
        "bytes": archive.stat().st_size,
        "jobs": {job.job_id: job.kind for job in jobs},
    }
    words = (
        f"{archive}: {_counted(len(jobs), 'job')} of {origin.name}, {told['bytes']} bytes\n"
        f"on the other machine: kernelpilot-runner execute {archive.name}"
    )
    typer.echo(json.dumps(told) if as_json else words)


@app.command("import")
def import_(
    results: Annotated[
        Path, typer.Argument(help="An archive of results, of `execute`.", metavar="RESULTS")
    ],
    into: Annotated[
        str | None,
        typer.Option(
            help="The run, batch or exchange folder whose jobs they are of, where it does not go "
            "by the name in the archive.",
            metavar="RUN",
        ),
    ] = None,
    assign: Assign = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take in the outcomes of exported jobs: the same jobs, the same records.

    Each must be of exactly the job that went out. Doing it again has no effect. A run then goes on
    with `kernelpilot resume`; candidates of a target are judged at once.
    """
    from gpu_runner.archive_exchange import origin_in  # noqa: PLC0415 - help is instant
    from graph.archive import find_origin  # noqa: PLC0415 - same
    from graph.settings import load_settings  # noqa: PLC0415 - same

    settings = load_settings(config or (), assign or ())
    origin = find_origin(into or origin_in(results), settings.run.directory)
    brought = origin.exchange.take_in(results)
    told, words = _told(origin, brought)
    typer.echo(json.dumps(told) if as_json else words)


def _told(origin: "Origin", brought: "Imported") -> tuple[dict[str, Any], str]:
    from graph.archive_batch import read_batch  # noqa: PLC0415 - help is instant

    told: dict[str, Any] = {
        "origin": origin.name,
        "new": len(brought.new),
        "known": brought.known,
        "waiting": brought.waiting,
        "unserved": {one.job_id: one.message for one in brought.unserved},
        "machine": brought.environment.machine,
    }
    head = (
        f"{origin.name}: {_counted(len(brought.new), 'new outcome')} from "
        f"{brought.environment.machine}, {brought.known} known before; "
        f"still waiting: {_counted(brought.waiting, 'job')}"
    )
    lines = [head]
    if brought.machine_before:
        lines.append(f"note: earlier results are from another machine: {brought.machine_before}")
    lines += [f"unserved {one.job_id}: {_first_line(one.message)}" for one in brought.unserved]
    batch = read_batch(origin.exchange.folder)
    if batch is not None:
        verdict = batch.judge(origin.exchange, origin.exchange.folder / "records")
        told["verdicts"] = verdict.model_dump(mode="json")
        lines.append(verdict.words())
    else:
        lines.append(f"`kernelpilot resume {origin.run or 'RUN'}` goes on")
    return told, "\n".join(lines)


def _counted(number: int, noun: str) -> str:
    """Return `1 job`, `2 jobs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _first_line(message: str) -> str:
    return message.partition("\n")[0]


def main() -> None:
    """Run the command line; every error a user can put right is one line and an exit code."""
    from graph.errors import GraphError  # noqa: PLC0415 - help is instant

    try:
        run_app()
    except GraphError as error:
        typer.echo(f"kernelpilot-runner: {error}", err=True)
        sys.exit(Exit.USAGE)


if __name__ == "__main__":
    main()
