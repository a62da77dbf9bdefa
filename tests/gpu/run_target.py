"""One whole run on a GPU machine, with everything that a reader asks of it in one table at the end.

`python -m tests.gpu.run_target int8_scaled_mm --minutes 4 [--runs DIR] [--set a.b=c]`: as
`kernelpilot run`, then a row a workload: kernel, every baseline, the speed-up over the best of them
with its interval, and the floor. Exit code 1 where nothing was promoted.
"""

import argparse
import asyncio
import shutil
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from gpu_runner.message import Message
from gpu_runner.records import Comparison, Decision, Verdict
from graph.console import print_result
from graph.devices import choose
from graph.launch import start
from graph.ledger import RunResult
from graph.run_files import RunFiles
from graph.settings import load_settings
from graph.targets import load_target

_MINUTE_S = 60.0
OVER_W = "over W"


class Row(Message):
    """One workload of the final claims."""

    workload: str
    kernel_us: float
    baselines_us: dict[str, float]
    best: str
    """The baseline that the kernel gains least over."""
    compared: Comparison
    """With that one."""
    floor_us: float | None = None


def rows(decisions: tuple[Decision, ...], floors_us: Mapping[str, float]) -> tuple[Row, ...]:
    """Return a row for each workload and one for the whole, first."""
    if not decisions:
        return ()
    names = [OVER_W, *decisions[0].workloads]
    found = []
    for name in names:
        compared = {
            d.against: d.overall if name == OVER_W else d.workloads[name] for d in decisions
        }
        best = min(compared, key=lambda against: compared[against].speedup)
        found.append(
            Row(
                workload=name,
                kernel_us=compared[best].candidate_us,
                baselines_us={against: c.against_us for against, c in compared.items()},
                best=best,
                compared=compared[best],
                floor_us=floors_us.get(name),
            )
        )
    return tuple(found)


def table(title: str, found: tuple[Row, ...]) -> Table:
    """Return the rows as a person reads them."""
    view = Table(title=title, title_justify="left")
    baselines = tuple(found[0].baselines_us) if found else ()
    for heading in ("workload", "kernel us", *baselines, "vs best", "interval", "", "floor us"):
        view.add_column(heading, overflow="fold")
    for row in found:
        floor = f"{row.floor_us:.1f} ({row.floor_us / row.kernel_us:.0%})" if row.floor_us else ""
        view.add_row(
            row.workload,
            f"{row.kernel_us:.2f}",
            *(f"{row.baselines_us[name]:.2f}" for name in baselines),
            f"{row.compared.speedup:.3f}x {row.best.removeprefix('torch ')}",
            f"[{row.compared.low:.3f}, {row.compared.high:.3f}]".replace("[", "\\["),
            _MARKS.get(row.compared.verdict, row.compared.verdict.value),
            floor,
        )
    return view


_MARKS = {Verdict.FASTER: "faster", Verdict.SLOWER: "SLOWER"}


async def run(arguments: argparse.Namespace, console: Console) -> tuple[RunResult, RunFiles]:
    """Optimise one target."""
    settings = load_settings(
        assignments=(*arguments.set, f"run.directory={arguments.runs}")
        if arguments.runs
        else tuple(arguments.set)
    )
    device = await choose(arguments.device, arguments.target, settings.pool)
    target = load_target(
        arguments.target,
        device,
        {**settings.target, "budget": {"wall_s": arguments.minutes * _MINUTE_S}},
    )
    return await start(settings, target, console)


def main() -> int:
    """Run, print the summary, the attempts and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", default="", help="where the run directory is made")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    console = Console(width=140)
    result, files = asyncio.run(run(arguments, console))
    facts = files.facts(result.best_attempt) if result.best_attempt else None
    floors_us = {roof.workload: roof.floor_us for roof in facts.roofline} if facts else {}
    for attempt in files.attempts():
        console.print(attempt_words(files, attempt.attempt_id), markup=False, soft_wrap=True)
    print_result(console, result, str(files.root), floors_us)
    shutil.rmtree(files.root / "pool", ignore_errors=True)
    console.print(table(f"{arguments.target}: {result.best_attempt}", rows(result.best, floors_us)))
    return 0 if result.best_attempt else 1


def attempt_words(files: RunFiles, attempt_id: str) -> str:
    """Return one attempt of the ledger in a line."""
    attempt = next(a for a in files.attempts() if a.attempt_id == attempt_id)
    decision = attempt.claims[0] if attempt.claims else attempt.feedback
    told = attempt.message.partition("\n")[0][:160]
    if decision is not None:
        told = f"{decision.overall.speedup:.3f}x vs {decision.against} {told}"
    chosen = " ".join(f"{name}={value}" for name, value in attempt.parameters.items())
    reason = f" {attempt.reason.value}" if attempt.reason else ""
    outcome = f"{attempt.outcome.value}{reason}"
    return f"{attempt_id} {attempt.language}/{attempt.recipe} {chosen}: {outcome} {told}".rstrip()


if __name__ == "__main__":
    raise SystemExit(main())
