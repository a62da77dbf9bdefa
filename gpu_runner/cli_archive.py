"""The command `execute` of `kernelpilot-runner`: the jobs of an archive, on this machine alone.

`export` and `import` belong to the side that has the run: `graph/cli_archive.py`.
"""

import json
import os
import signal
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gpu_runner.archive_execute import Executed

_EXECUTOR = "gpu_runner.tasks.execute:execute"
_PATH = "/usr/local/bin:/usr/bin:/bin"
"""For a login or a scheduler that gives none: a compiler finds its linker by it."""
_OWNER = "execute"
_OWNER_PATIENCE_S = 15.0
"""How long to wait for the end of an earlier process here, and of its child."""


class Exit(IntEnum):
    """Exit codes of `execute`; 2 is that of an archive that cannot be used."""

    DONE = 0
    UNSERVED = 3
    STOPPED = 5


def execute(
    archive: Annotated[
        Path, typer.Argument(help="An archive of jobs, of `export`.", metavar="ARCHIVE")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The archive of results. Default: ARCHIVE with `.results.zip` for its ending.",
            metavar="RESULTS",
            dir_okay=False,
        ),
    ] = None,
    *,
    workspace: Annotated[
        Path | None,
        typer.Option(
            help="Directory for caches, outcomes and logs; it is what lets a killed command go "
            "on. Default: ARCHIVE with `.work` for its ending.",
            metavar="DIR",
            file_okay=False,
        ),
    ] = None,
    grace_s: Annotated[
        float,
        typer.Option(help="Seconds past a job's own timeout before it is killed.", min=0),
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
    executor: Annotated[str, typer.Option(hidden=True)] = _EXECUTOR,
) -> None:
    """Run the jobs of an archive here: no network, no broker, each job in fresh processes.

    After a stop, a crash or `kill -9` the same command goes on; a job that has finished is not
    run again. What could not be served (a tool is missing, the disk is full) is tried again.
    Whoever wrote the archive can run programs here, as the owner of a run always can: its
    baselines and references are trusted, its candidates are not.

    Exit code: 0 every job has a result, 2 the archive cannot be used, 3 a job could not be
    served, 5 stopped before the end.
    """
    from gpu_runner.archive_content import read_jobs  # noqa: PLC0415 - help loads nothing heavy
    from gpu_runner.archive_execute import ArchiveRun, make_folder  # noqa: PLC0415 - same
    from gpu_runner.device.nursery import zygote  # noqa: PLC0415 - same
    from gpu_runner.execution import ExecutionPlan  # noqa: PLC0415 - same
    from gpu_runner.fitness import fit_machine  # noqa: PLC0415 - same
    from gpu_runner.host.nursery import nursery  # noqa: PLC0415 - same
    from gpu_runner.process_tree import adopt_orphans, signals_as_bytes  # noqa: PLC0415 - same
    from gpu_runner.spool import Spool  # noqa: PLC0415 - same
    from gpu_runner.supervisors import Supervisors  # noqa: PLC0415 - same

    jobs = read_jobs(archive)
    folder = make_folder(workspace or archive.with_suffix(".work"))
    results = output or archive.with_suffix(".results.zip")
    if results.resolve() == archive.resolve():
        raise typer.BadParameter(f"{results} holds the jobs; results need a file of their own")
    os.environ.setdefault("PATH", _PATH)
    adopt_orphans()
    lock = Spool(folder).lock(_OWNER, patience_s=_OWNER_PATIENCE_S)
    plan = ExecutionPlan(workspace=folder, executor=executor, grace_s=grace_s)
    machine = fit_machine()

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    with (
        signals_as_bytes(signal.SIGTERM, signal.SIGINT) as stop,
        zygote(folder) as device_zygote,
        nursery(folder) as subject_zygote,
        Supervisors().prepared(executor) as supervisors,
    ):
        run = ArchiveRun(
            jobs,
            plan,
            lock=lock,
            tell=tell,
            spared=device_zygote | subject_zygote,
            supervisors=supervisors,
        )
        done = run.run(stop, machine, results)
    typer.echo(json.dumps(_summary(done, folder)) if as_json else _words(done))
    raise typer.Exit(_exit_code(done))


def _exit_code(done: "Executed") -> Exit:
    if done.is_stopped:
        return Exit.STOPPED
    return Exit.UNSERVED if done.unserved else Exit.DONE


def _summary(done: "Executed", workspace: Path) -> dict[str, object]:
    return {
        "results": str(done.results),
        "workspace": str(workspace),
        "jobs": done.jobs,
        "ended": len(done.outcomes),
        "kept": done.kept,
        "unserved": len(done.unserved),
        "is_stopped": done.is_stopped,
        "outcomes": {job_id: outcome.kind for job_id, outcome in done.outcomes.items()},
    }


def _words(done: "Executed") -> str:
    lines = [f"{len(done.outcomes)} of {done.jobs} jobs ended, {done.kept} of them before"]
    if done.unserved:
        lines.append(f"{len(done.unserved)} could not be served; put right what their lines say")
    if done.is_stopped or done.unserved:
        lines.append("the same command goes on")
    lines.append(f"results: {done.results}; at home: kernelpilot-runner import {done.results.name}")
    return "\n".join(lines)
