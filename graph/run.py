"""Drives one run in this process: lock, checkpoints, signals, and how every ending is written."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.runtime import RunControl
from langgraph.types import StateSnapshot

from agents.errors import AgentError, ModelUnavailable
from agents.lessons import recalled
from agents.request import Request
from agents.roles import Team
from gpu_runner.candidate import Language
from gpu_runner.client import JobPool
from gpu_runner.errors import ArchiveError, PoolError, ResultsAwaited
from graph.archive import with_machine
from graph.asking import Asking
from graph.assemble import assemble, recursion_limit
from graph.checkpoints import open_saver
from graph.desk import Desk
from graph.devices import refuse_mismatch
from graph.durable import DISK_FULL
from graph.ending import broken_off
from graph.errors import GraphError, LoopError, RunPaused, RunStopped
from graph.events import AnyEvent, Exited, LessonsRecalled, RunStarted
from graph.learning import lessons_of, scope_of
from graph.ledger import OPEN_ENDINGS, ExitReason, RunManifest, RunResult
from graph.library import Library, store_of
from graph.lock import locked
from graph.memory import read_lessons, store_path, teach
from graph.meter import Meter
from graph.run_files import RunFiles
from graph.runs import run_id_of
from graph.services import Services
from graph.settings import Settings
from graph.state import GRAPH_VERSION, RunState, first_state
from graph.steering import Steering, watched
from graph.target import Target
from graph.wiring import program_version

logger = logging.getLogger(__name__)

Listener = Callable[[AnyEvent], None]


async def begin(
    files: RunFiles,
    target: Target,
    team: str,
    pool: JobPool,
    *,
    seed: int,
    request: Request | None = None,
) -> RunManifest:
    """Write the manifest of a new run; `team` is how it was chosen, so that it can be again.

    Raises:
        TargetError: the target is for a GPU and the pool has none.
        PoolError: the pool does not answer.
    """
    environment = await pool.environment()
    refuse_mismatch(target, environment)
    manifest = RunManifest(
        run_id=run_id_of(files.root),
        kernelpilot_version=program_version(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
        team=team,
        target=target,
        environment=environment,
        request=request.text if request else "",
        assumptions=request.assumptions if request else (),
    )
    files.write_manifest(manifest)
    return manifest


async def drive(
    files: RunFiles,
    settings: Settings,
    team: Team,
    pool: JobPool,
    listeners: tuple[Listener, ...] = (),
) -> RunResult:
    """Run the loop to its end, from the start or from where the last process left it.

    Returns:
        How it ended. A run that was cancelled or broke off can be driven again.

    Raises:
        RunError: the run is locked, damaged, or of a later version.
    """
    with locked(files.root):
        manifest = files.read_manifest()
        done = finished(files)
        if done is not None:
            return done
        manifest = await with_machine(manifest, files, pool)
        return await _drive(files, manifest, settings, team, pool, listeners)


def finished(files: RunFiles) -> RunResult | None:
    """Return the result of a run that came to its end; None where it can be driven on."""
    result = files.result()
    if result is None or result.exit_reason in OPEN_ENDINGS:
        return None
    return result


async def _drive(
    files: RunFiles,
    manifest: RunManifest,
    settings: Settings,
    team: Team,
    pool: JobPool,
    listeners: tuple[Listener, ...],
) -> RunResult:
    events = files.events
    meter = Meter(events.read())
    events.measure_by(meter.elapsed_s)
    for listener in (meter.add, *listeners):
        events.listen(listener)
    sessions = sum(isinstance(event, RunStarted) for event in events.read())
    target = manifest.target
    events.append(
        RunStarted(
            key=f"run_started:{sessions}",
            run_id=manifest.run_id,
            target=target.name,
            device=target.hardware.device,
            team=team.name,
            rounds=target.budget.rounds,
            lanes=target.scope.lanes,
            wall_s=target.budget.wall_s,
            is_resumed=sessions > 0,
        )
    )
    stop = asyncio.Event()
    control = RunControl()
    steering = Steering(files)
    services = Services(
        manifest=manifest,
        files=files,
        team=team,
        asking=Asking(team, files, reply_s=settings.team.reply_s, stop=stop),
        desk=Desk(pool, files, tries=settings.jobs.tries, stop=stop),
        meter=meter,
        jobs=settings.jobs,
        loop=settings.loop,
        bench=settings.bench.on(target.hardware.device),
        library=Library(
            store=store_of(settings.knowledge.store), embedder=settings.knowledge.embedder
        ),
        steering=steering,
    )
    if manifest.request:
        assumed = "; ".join(manifest.assumptions) or "nothing was left open"
        services.decide("request", target.name, f"assumed: {assumed}", at="text")
    memory = store_path(settings.memory.lessons, files.root)
    _recall(services, memory)
    with _signals(stop, control):
        async with watched(steering, control, stop):
            result = await _ending(services, _loop(services, settings, control))
    with _even_on_a_full_disk():
        if memory is not None and result.exit_reason not in OPEN_ENDINGS:
            rows = files.attempts()
            teach(memory, lessons_of(manifest, rows, result.best_attempt, result.best))
        events.append(
            Exited(key=f"exit:{sessions}", exit_reason=result.exit_reason, message=result.message)
        )
    return result


def _recall(services: Services, store: Path | None) -> None:
    """Keep and log what earlier runs learnt that bears on this one; once, when it begins."""
    if services.files.lessons() is not None or store is None:
        return
    manifest = services.manifest
    languages = services.view(first_state()).languages
    here = scope_of(manifest, (*languages, Language.CPP)[0])
    found = recalled(read_lessons(store), here, languages, manifest.created_at)
    words = "; ".join(lesson.words() for lesson in found) or f"nothing on {here.family} in {store}"
    ids = tuple(lesson.lesson_id for lesson in found)
    services.tell(LessonsRecalled(key="lessons_recalled", lessons=ids, words=words))
    services.files.save_lessons(found)


async def _loop(services: Services, settings: Settings, control: RunControl) -> RunResult:
    """Run the graph until it is done; its last node writes the result."""
    files = services.files
    target = services.target
    async with open_saver(files.root / "checkpoints.sqlite") as saver:
        graph = assemble(
            saver,
            lanes=target.scope.lanes,
            repairs=settings.loop.repairs,
            retries=settings.team.retries,
        )
        config = RunnableConfig(
            configurable={"thread_id": services.manifest.run_id},
            recursion_limit=recursion_limit(target.budget, settings.loop.repairs),
        )
        before = await graph.aget_state(config)
        if not before.values.get("is_done"):
            await graph.ainvoke(
                _entry(before), config, context=services, durability="sync", control=control
            )
        state = await graph.aget_state(config)
        result = files.result()
        if control.drain_requested and not state.values.get("is_done"):
            raise RunStopped("cancelled")
        if not state.values.get("is_done") or result is None:
            raise LoopError(
                f"the loop of {files.root.name} stopped before its end "
                f"(next: {state.next or 'nothing'}); this is a fault of kernelpilot"
            )
        return result


def _entry(before: StateSnapshot) -> RunState | None:
    """Return what to invoke the graph with: a first state, or None to go on."""
    if not before.values:
        return first_state()
    written = before.values.get("graph_version")
    if written != GRAPH_VERSION:
        raise LoopError(
            f"the checkpoint has graph version {written}, this program has {GRAPH_VERSION}; "
            "delete checkpoints.sqlite to begin the loop again over the same ledger"
        )
    # A step whose writes are stored and whose checkpoint is not has a task, yet nothing in `next`.
    if not before.next and not before.tasks:
        raise LoopError(
            "the checkpoint names no next step, yet the run is not done: it was made by another "
            "version; delete checkpoints.sqlite to begin the loop again over the same ledger"
        )
    return None


async def _ending(services: Services, loop: Coroutine[Any, Any, RunResult]) -> RunResult:
    """Await the loop; turn what broke it off into a result that says so."""
    try:
        return await loop
    except (RunStopped, GraphDrained) as error:
        is_forced = isinstance(error, RunPaused)
        is_pause = is_forced or services.steering.asked == "pause"
        reason = ExitReason.PAUSED if is_pause else ExitReason.CANCELLED
        message = str(error) if is_forced else f"{reason.value} by the user"
        return _broken_off(services, reason, message)
    except ResultsAwaited as error:
        export = f"kernelpilot-runner export {services.manifest.run_id}"
        message = f"{error} (`{export}`, execute, import)"
        return _broken_off(services, ExitReason.WAITING, message)
    except GraphRecursionError as error:
        return _broken_off(services, ExitReason.ERROR, f"the loop did not end: {error}")
    except (AgentError, GraphError, PoolError, ArchiveError) as error:
        is_away = isinstance(error, ModelUnavailable)
        reason = ExitReason.PAUSED if is_away else ExitReason.ERROR
        return _broken_off(services, reason, str(error))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        return _broken_off(
            services, ExitReason.ERROR, f"the disk of {services.files.root} is full; free space"
        )


def _broken_off(services: Services, reason: ExitReason, message: str) -> RunResult:
    result = broken_off(services.files, reason, message, services.meter)
    with _even_on_a_full_disk():
        services.files.save_result(result)
    return result


@contextmanager
def _even_on_a_full_disk() -> Iterator[None]:
    """Let a full disk keep the end of a run from being written, not from being told."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        logger.warning("the end of the run cannot be written: %s", error)


@contextmanager
def _signals(stop: asyncio.Event, control: RunControl) -> Iterator[None]:
    """Stop in order on SIGINT and SIGTERM; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        control.request_drain(signal.Signals(number).name)
        stop.set()

    with ExitStack() as undo:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, on_signal, number)
            except (ValueError, RuntimeError, NotImplementedError):
                continue  # not the main thread: whoever runs us there stops us in its own way
            undo.callback(loop.remove_signal_handler, number)
        yield
