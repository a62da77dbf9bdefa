"""Evaluates every kernel that cheats on a GPU and prints what became of it.

`python -m tests.gpu.redteam.run [FILE ...] [--claim] [--json]`: all items by default. Exit code 1
when one did not end as the manifest says.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gpu_runner.candidate import Contender
from gpu_runner.jobs import Reason
from gpu_runner.local import LocalPool
from gpu_runner.message import Message
from gpu_runner.records import TimingPlan, Verdict
from graph.errors import EvaluationError
from graph.evaluate import Trial, evaluate
from graph.settings import load_settings
from tests.gpu.redteam.corpus import Item, candidate, manifest, victim

_CALL_TIMEOUT_S = 5.0


class Ending(Message):
    """What became of one item."""

    item: Item
    verdict: Verdict | None
    """None: our side did not serve it."""
    reason: str
    message: str
    speedup: float | None
    seconds: float

    @property
    def is_as_expected(self) -> bool:
        """Whether it ended as the manifest says; FASTER never does."""
        if self.verdict in {Verdict.FASTER, None}:
            return False
        if self.verdict is Verdict.REJECTED:
            named = self.reason in {reason.value for reason in self.item.reasons}
            return named and self.item.expected != "no_gain"
        return self.item.expected != "reject"


async def run(items: tuple[Item, ...], *, is_claim: bool, state: Path) -> list[Ending]:
    """Evaluate items one after another in one pool."""
    settings = load_settings()
    bench = settings.bench.on("cuda")
    plan = (bench.claim if is_claim else bench.feedback).model_copy(
        update={"call_timeout_s": _CALL_TIMEOUT_S}
    )
    endings = []
    async with LocalPool(state) as pool:
        for item in items:
            began = time.monotonic()
            trial = _trial(item, plan, is_claim=is_claim)
            try:
                found = await evaluate(trial, pool, settings.jobs)
            except EvaluationError as error:
                endings.append(_unserved(item, str(error), time.monotonic() - began))
                continue
            endings.append(
                Ending(
                    item=item,
                    verdict=found.verdict,
                    reason=_reason(found.verdict, found.reason),
                    message=found.message,
                    speedup=found.speedup,
                    seconds=time.monotonic() - began,
                )
            )
            sys.stderr.write(f"{item.file}: {found.verdict.value} {endings[-1].reason}\n")
    return endings


def _trial(item: Item, plan: TimingPlan, *, is_claim: bool) -> Trial:
    honest = Contender(name="honest", candidate=candidate(manifest().compared_with))
    return Trial(
        target=victim(),
        candidate=candidate(item.file),
        against=honest,
        plan=plan,
        is_claim=is_claim,
    )


def _reason(verdict: Verdict, reason: str) -> str:
    return Reason(reason).value if verdict is Verdict.REJECTED else ""


def _unserved(item: Item, message: str, seconds: float) -> Ending:
    return Ending(
        item=item, verdict=None, reason="unserved", message=message, speedup=None, seconds=seconds
    )


def table(endings: list[Ending]) -> Table:
    """Return the endings as a person reads them."""
    view = Table("kernel", "must", "verdict", "reason", "x", "s", "", title="kernels that cheat")
    for ending in endings:
        view.add_row(
            ending.item.file,
            ending.item.expected,
            ending.verdict.value if ending.verdict else "-",
            ending.reason,
            f"{ending.speedup:.3f}" if ending.speedup else "",
            f"{ending.seconds:.1f}",
            "ok" if ending.is_as_expected else "WRONG",
        )
    return view


def chosen(names: list[str]) -> tuple[Item, ...]:
    """Return the items of these file names or stems; all of them where none is named.

    Raises:
        SystemExit: an unknown name.
    """
    known = {Path(item.file).stem: item for item in manifest().items}
    unknown = [name for name in names if Path(name).stem not in known]
    if unknown:
        raise SystemExit(f"no item {unknown[0]!r}; known: {', '.join(known)}")
    return tuple(known[Path(name).stem] for name in names) or manifest().items


def main() -> int:
    """Evaluate, print, and say by the exit code whether all ended as they must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="*")
    parser.add_argument("--claim", action="store_true", help="five sittings instead of one")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kernelpilot-redteam-") as state:
        endings = asyncio.run(
            run(chosen(arguments.file), is_claim=arguments.claim, state=Path(state))
        )
    wrong = [ending for ending in endings if not ending.is_as_expected]
    if arguments.json:
        sys.stdout.write(json.dumps([e.model_dump(mode="json") for e in endings]) + "\n")
        return 1 if wrong else 0
    console = Console(width=110)
    for ending in wrong:
        console.print(f"{ending.item.file}: {ending.message}", markup=False, soft_wrap=True)
    console.print(table(endings))
    console.print(f"{len(endings) - len(wrong)} as they must, {len(wrong)} not")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
