"""The command line `kernelpilot`. Commands import what they need when they run.

`--help`, `status` and `targets` must answer at once, so nothing here imports langgraph, torch or
a team at the top.
"""

# An option is a parameter and a flag is a boolean one: that is how typer reads a command.
# ruff: noqa: FBT002, PLR0913, PLR0917

import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from agents.errors import AgentError
from agents.request import Request, is_request
from gpu_runner.candidate import Candidate, Contender, Language
from gpu_runner.errors import RunnerError
from graph.cli_costs import costs
from graph.cli_digest import digest
from graph.cli_lessons import lessons
from graph.cli_steer import cancel, hint, pause, pin, veto
from graph.durable import DISK_FULL
from graph.errors import (
    ControlRefused,
    EvaluationError,
    GraphError,
    KernelNotFound,
    RunNotFound,
    SettingsError,
    TargetError,
)
from graph.ledger import EXIT_CODES, ExitReason, RunResult
from graph.run_files import RunFiles
from graph.runs import find_run
from graph.settings import Settings, load_settings
from graph.spans import seconds_of
from graph.target import Target
from knowledge_store.cli import app as knowledge

logger = logging.getLogger(__name__)
app = typer.Typer(
    name="kernelpilot",
    help="Finds, proves and ships faster kernels. Every number survives a second look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(knowledge, name="knowledge")
_USAGE = 2

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Config = Annotated[
    list[Path] | None, typer.Option("--config", help="A YAML file over configs/default.yaml.")
]
Assign = Annotated[
    list[str] | None, typer.Option("--set", help="One setting: section.key=value. Repeatable.")
]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, or auto: a GPU where the target and the pool have one.")
]
Pool = Annotated[
    str | None,
    typer.Option(
        help="Who runs the jobs: a broker's endpoint, or `archive` (`archive:DIR`) to carry them "
        "to a machine without a network.",
        metavar="URL",
    ),
]
RunName = Annotated[
    str, typer.Argument(help="Run id, a unique beginning of one, a path, `latest`.")
]


@app.command()
def run(
    target: Annotated[
        str,
        typer.Argument(help="A name in configs/targets/, a YAML file, or a request in a sentence."),
    ],
    rounds: Annotated[int | None, typer.Option(help="Rounds at most.")] = None,
    budget: Annotated[str | None, typer.Option(help="Wall clock at most: 300s, 5m, 2h.")] = None,
    device: Device = "auto",
    lanes: Annotated[int | None, typer.Option(help="Candidates a round.")] = None,
    team: Annotated[
        str | None, typer.Option(help="playbook, models, anthropic, openai or scripted:FILE.")
    ] = None,
    assign: Assign = None,
    config: Config = None,
    run_dir: Annotated[Path | None, typer.Option(help="The run directory itself.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice.")] = None,
    pool: Pool = None,
    as_json: Json = False,
) -> None:
    """Optimise a target until its goal, its budget or its plateau; ship what was proved."""
    from graph.launch import start  # noqa: PLC0415 - langgraph takes a second to import
    from graph.requested import request_of  # noqa: PLC0415 - with the rest of the command

    overrides: dict[str, dict[str, JsonValue]] = {"budget": {}, "scope": {}}
    if rounds is not None:
        overrides["budget"]["rounds"] = rounds
    if budget is not None:
        overrides["budget"]["wall_s"] = seconds_of(budget)
    if lanes is not None:
        overrides["scope"]["lanes"] = lanes
    settings = _settings(config, assign, team=team, seed=seed, pool=pool)
    request = request_of(target) if is_request(target) else None
    chosen = _target(target, device, settings, overrides, request)
    result, files = asyncio.run(start(settings, chosen, _console(as_json), run_dir, request))
    _end(result, files, as_json=as_json)


@app.command()
def resume(
    name: RunName,
    assign: Assign = None,
    config: Config = None,
    pool: Pool = None,
    as_json: Json = False,
) -> None:
    """Go on with a run that was cancelled, killed or broke off."""
    from graph.launch import proceed  # noqa: PLC0415 - langgraph takes a second to import

    settings = _settings(config, assign, pool=pool)
    files = _find(settings, name)
    result = asyncio.run(proceed(settings, files, _console(as_json)))
    _end(result, files, as_json=as_json)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="As for `resume`; all runs without.")] = None,
    assign: Assign = None,
    as_json: Json = False,
) -> None:
    """Say how runs stand, from their directories alone."""
    from graph.status import all_status, status_of  # noqa: PLC0415 - with the rest of the command

    settings = _settings(None, assign)
    if name is not None:
        found = status_of(_find(settings, name))
        if as_json:
            _print_json(found.model_dump(mode="json"))
            return
        for key, value in found.model_dump(mode="json").items():
            if value not in {None, ""}:
                typer.echo(f"{key:>12}  {value}")
        return
    runs = all_status(settings.run.directory)
    if as_json:
        _print_json({"runs": [run.model_dump(mode="json") for run in runs]})
        return
    table = Table()
    for heading in ("run", "state", "round", "attempts", "promoted", "best"):
        table.add_column(heading)
    for one in runs:
        counts = (f"{one.round}/{one.rounds}", str(one.attempts), str(one.promoted))
        table.add_row(one.run_id, one.state, *counts, one.best.replace("[", "\\["))
    Console().print(table if runs else f"no runs in {settings.run.directory}")


@app.command()
def report(name: RunName, assign: Assign = None, as_json: Json = False) -> None:
    """Render the HTML report of a run again, from its ledger and records."""
    from graph.launch import rendered  # noqa: PLC0415 - with the rest of the command

    path = rendered(_find(_settings(None, assign), name))
    if as_json:
        _print_json({"report": str(path)})
    else:
        typer.echo(path)


@app.command()
def targets(as_json: Json = False) -> None:
    """List the targets that come with the program."""
    from graph.targets import describe_targets  # noqa: PLC0415 - with the rest of the command

    described = describe_targets()
    if as_json:
        _print_json({"targets": [dict(one) for one in described]})
        return
    table = Table()
    for heading in ("target", "devices", "what"):
        table.add_column(heading)
    for one in described:
        table.add_row(one["name"], one["devices"], one["description"])
    Console().print(table)


@app.command()
def evaluate(
    target: Annotated[
        str, typer.Argument(help="As for `run`: a name, a YAML file or a request in a sentence.")
    ],
    candidate: Annotated[
        str, typer.Argument(help="A source file, a directory, RUN:a0007, or a0007 of the latest.")
    ],
    against: Annotated[
        str, typer.Option(help="Another candidate, or a baseline's name; the first baseline.")
    ] = "",
    language: Annotated[Language | None, typer.Option(help="Where the suffix is unclear.")] = None,
    device: Device = "auto",
    sittings: Annotated[int | None, typer.Option(min=1, help="Exactly so many.")] = None,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="One sitting: quick, and no claim.")
    ] = False,
    workspace: Annotated[
        Path | None, typer.Option(help="Keep the records here, and the build cache.")
    ] = None,
    assign: Assign = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Judge one candidate: is it right on every workload, and is it faster?"""
    from graph.candidates import is_candidate_name, read_candidate  # noqa: PLC0415 - with the rest of the command
    from graph.evaluate import Trial, contender_of  # noqa: PLC0415 - same
    from graph.launch import judge, timing_for  # noqa: PLC0415 - same
    from graph.requested import request_of  # noqa: PLC0415 - same

    settings = _settings(config, assign)
    request = request_of(target) if is_request(target) else None
    chosen = _target(target, device, settings, {}, request)

    def read(name: str) -> Candidate:
        return read_candidate(name, chosen.problem, settings.run.directory, language)

    is_candidate = is_candidate_name(against) if against else False
    trial = Trial(
        target=chosen,
        candidate=read(candidate),
        against=Contender(name="against", candidate=read(against))
        if is_candidate
        else contender_of(chosen, against),
        plan=timing_for(settings.bench.on(chosen.hardware.device), sittings, feedback=feedback),
        is_claim=not feedback,
    )
    state = workspace or settings.run.directory / ".evaluate"
    found = asyncio.run(judge(trial, settings, state, workspace, _console(as_json=True)))
    if as_json:
        _print_json(found.model_dump(mode="json"))
    else:
        typer.echo(found.words())


@app.command()
def doctor(
    models: Annotated[
        bool,
        typer.Option("--models", help="Only the models that are set: what can they do?"),
    ] = False,
    assign: Assign = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say what this machine has, what is missing, and how to get it."""
    from graph.doctor import diagnoses, model_diagnoses  # noqa: PLC0415 - probes the machine

    found = asyncio.run(model_diagnoses(_settings(config, assign))) if models else diagnoses()
    if as_json:
        _print_json({"checks": list(found), "is_ok": all(bool(one["is_ok"]) for one in found)})
    else:
        for one in found:
            mark = "ok " if one["is_ok"] else "-- "
            remedy = f"  -> {one['remedy']}" if not one["is_ok"] and one["remedy"] else ""
            typer.echo(f"{mark} {one['name']:24} {one['detail']}{remedy}")
    if not all(one["is_ok"] for one in found if one["is_needed"]):
        raise typer.Exit(1)


for command in (lessons, digest, costs, pause, hint, veto, pin, cancel):
    app.command()(command)


def main() -> None:
    """Run the command line; every error a user can put right is one line and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    as_json = "--json" in sys.argv
    try:
        app()
    except (
        ControlRefused,
        TargetError,
        SettingsError,
        EvaluationError,
        KernelNotFound,
        RunNotFound,
    ) as error:
        _fail(str(error), _USAGE, as_json=as_json)
    except (GraphError, RunnerError, AgentError) as error:
        _fail(str(error), EXIT_CODES[ExitReason.ERROR], as_json=as_json)
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_CODES[ExitReason.CANCELLED], as_json=as_json)
    except OSError as error:
        if error.errno not in DISK_FULL:
            _fail_unexpectedly(error, as_json=as_json)
        message = f"no space left on the disk ({error.filename or error}); free some, then go on"
        _fail(message, EXIT_CODES[ExitReason.ERROR], as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last one to know: nothing above reports it
        _fail_unexpectedly(error, as_json=as_json)


def _fail_unexpectedly(error: Exception, *, as_json: bool) -> NoReturn:
    logger.error("unexpected error", exc_info=error)
    message = f"unexpected {type(error).__name__}: {error}; this is a fault of kernelpilot"
    _fail(message, EXIT_CODES[ExitReason.ERROR], as_json=as_json)


def _fail(message: str, code: int, *, as_json: bool) -> NoReturn:
    if as_json:
        _print_json({"error": message, "exit_code": code})
    typer.echo(f"kernelpilot: {message}", err=True)
    sys.exit(code)


def _settings(
    config: list[Path] | None,
    assign: list[str] | None,
    *,
    team: str | None = None,
    seed: int | None = None,
    pool: str | None = None,
) -> Settings:
    given = {"team.name": team, "run.seed": seed, "pool.endpoint": pool}
    named = [f"{key}={value}" for key, value in given.items() if value is not None]
    return load_settings(config or (), (*(assign or ()), *named))


def _target(
    name: str,
    device: str,
    settings: Settings,
    overrides: dict[str, dict[str, JsonValue]],
    request: Request | None = None,
) -> Target:
    from graph.devices import AUTO, choose  # noqa: PLC0415 - with the commands that need one
    from graph.requested import amended  # noqa: PLC0415 - same
    from graph.targets import load_target  # noqa: PLC0415 - same

    merged: dict[str, JsonValue] = dict(settings.target)
    for section, changes in overrides.items():
        before = merged.get(section)
        merged[section] = {**(before if isinstance(before, dict) else {}), **changes}
    if request is not None:
        name = request.target
        device = request.device if device == AUTO and request.device else device
    kind = asyncio.run(choose(device, name, settings.pool))
    if request is None:
        return load_target(name, kind, merged)
    asked = request
    return load_target(name, kind, merged, lambda document: amended(document, asked, kind))


def _find(settings: Settings, name: str) -> RunFiles:
    return find_run(settings.run.directory, name)


def _console(as_json: bool) -> Console:  # noqa: FBT001 - the flag of the command line
    return Console(stderr=as_json)


def _end(result: RunResult, files: RunFiles, *, as_json: bool) -> NoReturn:
    code = EXIT_CODES[result.exit_reason]
    if as_json:
        told = result.model_dump(mode="json")
        _print_json({**told, "run_dir": str(files.root), "exit_code": code})
    else:
        from graph.console import print_result  # noqa: PLC0415 - rich tables

        facts = files.facts(result.best_attempt) if result.best_attempt else None
        floors_us = {roof.workload: roof.floor_us for roof in facts.roofline} if facts else {}
        print_result(Console(), result, str(files.root), floors_us)
    raise typer.Exit(code)


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value))


if __name__ == "__main__":
    main()
