"""Shows a run in a terminal, driven by its events only: live where there is a TTY, else lines."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gpu_runner.records import Decision, Verdict
from graph.events import AnyEvent, RunStarted
from graph.ledger import RunResult
from graph.progress import Progress, clock, describe

_RECENT = 12
_FRAMES_PER_S = 4


class RunConsole:
    """A listener of events that prints them."""

    def __init__(self, console: Console, *, heartbeat_s: float) -> None:
        """Show on `console`; in plain mode say something at least every `heartbeat_s` of a job."""
        self._console = console
        self._heartbeat_s = heartbeat_s
        self._progress = Progress()
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._offset_s = 0.0
        self._said_at = time.monotonic()
        self._is_live = console.is_terminal

    def __call__(self, event: AnyEvent) -> None:
        """Take one event."""
        self._progress.add(event)
        self._offset_s = event.elapsed_s - time.monotonic()
        words = describe(event)
        if words is None:
            return
        if self._is_live and not isinstance(event, RunStarted):
            self._recent.append(f"[{clock(event.elapsed_s)}] {words}")
        else:
            self._say(f"[{clock(event.elapsed_s)}] {words}")

    @asynccontextmanager
    async def showing(self) -> AsyncIterator[None]:
        """Show until the block ends."""
        if self._is_live:
            with Live(
                get_renderable=self._frame,
                console=self._console,
                refresh_per_second=_FRAMES_PER_S,
                transient=True,
            ):
                yield
            for line in self._recent:
                self._say(line)
            return
        beat = asyncio.ensure_future(self._beat())
        try:
            yield
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._heartbeat_s))
            if time.monotonic() - self._said_at >= self._heartbeat_s and self._progress.stage:
                self._say(f"[{clock(self._elapsed_s())}] {self._status()}")

    def _elapsed_s(self) -> float:
        return self._offset_s + time.monotonic()

    def _status(self) -> str:
        progress = self._progress
        running = ", ".join(sorted(set(progress.jobs.values())))
        parts = (
            f"round {progress.round}/{progress.rounds}",
            f"{progress.stage}{f' ({running})' if running else ''}",
            progress.best_words(),
            progress.left_words(self._elapsed_s()),
        )
        return " | ".join(part for part in parts if part)

    def _frame(self) -> Group:
        lines = [Text(line, overflow="ellipsis", no_wrap=True) for line in self._recent]
        return Group(*lines, Text(self._status(), style="bold", overflow="ellipsis", no_wrap=True))

    def _say(self, line: str) -> None:
        self._said_at = time.monotonic()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_result(
    console: Console,
    result: RunResult,
    run_dir: str,
    floors_us: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Print the summary table of a run and where things are.

    Args:
        console: to print on.
        result: of the run.
        run_dir: where it lies.
        floors_us: the least time of each workload at the measured ceilings, where it is known.
    """
    for decision in result.best:
        console.print(claim_table(decision, result.best_attempt or "", floors_us))
    if not result.best_attempt:
        console.print("no candidate was promoted: the baseline stays")
    elif not result.best:
        console.print(f"{result.best_attempt} was promoted; its final claim was not made")
    lines = (
        ("exit", f"{result.exit_reason.value}: {result.message}"),
        ("effort", _effort(result)),
        ("to the best", _to_best(result)),
        ("run directory", run_dir),
        ("report", result.report),
        ("repository", result.repository),
    )
    for name, value in lines:
        if value:
            console.print(f"{name:>14}  {value}", markup=False, highlight=False, soft_wrap=True)


_LONGEST_NAME = 22


def claim_table(
    decision: Decision, attempt_id: str, floors_us: Mapping[str, float] = MappingProxyType({})
) -> Table:
    """Return the final kernel against one baseline: over W, then workload by workload."""
    title = f"{attempt_id} vs {decision.against}"
    # Eight columns of a log's 80 characters: no room for edges.
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0)
    )
    table.add_column("workload", no_wrap=True, max_width=_LONGEST_NAME)
    table.add_column("verdict", no_wrap=True)
    floor = ("floor us",) if floors_us else ()
    for heading in ("speed-up", "low", "high", "kernel us", "base us", *floor):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, comparison in (("over W", decision.overall), *decision.workloads.items()):
        table.add_row(
            name,
            Text(comparison.verdict.value, style=_STYLES.get(comparison.verdict, "")),
            f"{comparison.speedup:.2f}x",
            f"{comparison.low:.2f}",
            f"{comparison.high:.2f}",
            f"{comparison.candidate_us:.1f}",
            f"{comparison.against_us:.1f}",
            *([f"{floors_us[name]:.1f}" if name in floors_us else ""] if floor else ()),
        )
    return table


_STYLES = {Verdict.FASTER: "green", Verdict.SLOWER: "red", Verdict.REJECTED: "red"}


def _effort(result: RunResult) -> str:
    return (
        f"{result.rounds} rounds, {result.attempts} attempts, {clock(result.wall_s)} wall clock, "
        f"{result.job_s:.0f} s of check, bench and profile jobs{_paid(result.usd, result.tokens)}"
    )


def _to_best(result: RunResult) -> str:
    """Return what was spent until the best attempt was decided."""
    effort = result.to_best
    if effort is None:
        return ""
    return (
        f"round {effort.rounds}, {clock(effort.wall_s)} wall clock, {effort.job_s:.0f} s of check, "
        f"bench and profile jobs{_paid(effort.usd, effort.tokens)}"
    )


def _paid(usd: float, tokens: int) -> str:
    """Return what models cost; nothing where none was asked."""
    return f", ${usd:.2f} for {tokens} tokens" if tokens or usd else ""
