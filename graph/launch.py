"""Puts a run together from settings: pool, team, console, loop. What the command line calls."""

import asyncio
import shutil
import time
from pathlib import Path

from rich.console import Console

from agents.request import Request
from gpu_runner.records import TimingPlan
from graph.archive import POOL
from graph.console import RunConsole
from graph.devices import refuse_mismatch
from graph.errors import EvaluationError, SettingsError
from graph.evaluate import Evaluation, Trial, evaluate
from graph.ledger import RunResult
from graph.lock import refuse_held
from graph.progress import clock
from graph.run_files import RunFiles
from graph.runs import make_run
from graph.settings import BenchPlans, Settings
from graph.surveying import refuse_unpriced, survey
from graph.target import Target
from graph.wiring import make_team, open_pool, team_name

_LEAST_CLAIM = 5


async def start(
    settings: Settings,
    target: Target,
    console: Console,
    run_dir: Path | None = None,
    request: Request | None = None,
) -> tuple[RunResult, RunFiles]:
    """Make a run directory and run the loop in it.

    Raises:
        GraphError, RunnerError: the run cannot be started; nothing is left behind.
    """
    from graph.run import begin, drive  # noqa: PLC0415 - langgraph takes a second to import

    name = team_name(settings.team, models=settings.models)
    team = make_team(name, settings.models)
    refuse_unpriced(team, target)
    await survey(team, console)
    files = make_run(settings.run.directory, target.name, run_dir)
    shown = RunConsole(console, heartbeat_s=settings.run.heartbeat_s)
    try:
        async with open_pool(settings.pool, files.root / POOL) as pool:
            await begin(files, target, name, pool, seed=settings.run.seed, request=request)
            async with shown.showing():
                return await drive(files, settings, team, pool, (shown,)), files
    finally:
        if not (files.root / "run.json").exists() and run_dir is None:
            shutil.rmtree(files.root, ignore_errors=True)


async def proceed(settings: Settings, files: RunFiles, console: Console) -> RunResult:
    """Take a run up again with the team it began with.

    Raises:
        GraphError, RunnerError: it cannot be taken up.
    """
    from graph.run import drive, finished  # noqa: PLC0415 - langgraph takes a second to import

    manifest = files.read_manifest()
    done = finished(files)
    if done is not None:
        return done
    refuse_held(files.root)  # the pool of the other process would keep us waiting, then say less
    team = make_team(_team_of(settings, manifest.team), settings.models)
    await survey(team, console)
    shown = RunConsole(console, heartbeat_s=settings.run.heartbeat_s)
    async with open_pool(settings.pool, files.root / POOL) as pool, shown.showing():
        return await drive(files, settings, team, pool, (shown,))


def _team_of(settings: Settings, began_with: str) -> str:
    """Return who goes on: who began, unless a team is named."""
    named = settings.team.name != "auto"
    chosen = settings.team if named else settings.team.model_copy(update={"name": began_with})
    return team_name(chosen, models=settings.models)


def rendered(files: RunFiles) -> Path:
    """Render the report of a run, ended or not; return its path."""
    from graph.publish import report  # noqa: PLC0415 - with the templates

    return report(files)


async def judge(
    trial: Trial, settings: Settings, state: Path, records: Path | None, console: Console
) -> Evaluation:
    """Evaluate one candidate on a pool of its own, or on the one that is set.

    Args:
        trial: what is judged.
        settings: pool, timeouts.
        state: where the pool of its own keeps its build cache; evaluations take turns there.
        records: where to keep the measurement record; None keeps none.
        console: gets a line now and then; not the result.

    Raises:
        EvaluationError: the pool that is set does not answer before somebody carries an archive.
    """
    if settings.pool.is_archive:
        raise EvaluationError(
            "an evaluation waits for no archive; make an archive of it: kernelpilot-runner export "
            f"{trial.target.name} --candidate FILE"
        )
    began = time.monotonic()

    async def tell() -> None:
        while True:
            console.print(f"[{clock(time.monotonic() - began)}] judging {trial.target.name}")
            await asyncio.sleep(settings.run.heartbeat_s)

    teller = asyncio.create_task(tell())
    try:
        async with open_pool(settings.pool, state / "pool") as pool:
            refuse_mismatch(trial.target, await pool.environment())
            kept = records / "records" if records else None
            return await evaluate(trial, pool, settings.jobs, kept)
    finally:
        teller.cancel()
        _forget_jobs(state / "pool")


def _forget_jobs(state: Path) -> None:
    """Remove what the jobs of an evaluation left: nothing comes back for them."""
    for path in (*state.glob("spool/evaluate-*.json"), *state.glob("logs/evaluate-*.log")):
        path.unlink(missing_ok=True)


def timing_for(bench: BenchPlans, sittings: int | None, *, feedback: bool) -> TimingPlan:
    """Return how much an evaluation measures.

    Raises:
        SettingsError: too few sittings for a claim.
    """
    if not feedback and sittings is not None and sittings < _LEAST_CLAIM:
        raise SettingsError(
            f"--sittings {sittings}: a claim needs {_LEAST_CLAIM} at least; else add --feedback"
        )
    plan = bench.feedback if feedback else bench.claim
    if sittings is None:
        return plan
    return plan.model_copy(update={"sittings": sittings, "most_sittings": sittings})
