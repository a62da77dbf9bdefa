"""Is identical code ever called faster on a GPU, and how far apart do its medians lie?

`python -m tests.gpu.aa [--claims 20] [--sizes 5,20,100] [--json]`: measures one kernel against
itself. A claim is five sittings of a job with many, each sitting in fresh processes with a fresh
key; every sitting is a feedback decision as well. Exit code 1 when a claim says FASTER or SLOWER,
or the medians of a kernel of 20 us or more differ by over 0.3 %.
"""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from gpu_runner.candidate import Contender
from gpu_runner.client import JobPool
from gpu_runner.decision import LEAST_SITTINGS_FOR_A_CLAIM, decide
from gpu_runner.jobs import Bench, Benched
from gpu_runner.local import LocalPool
from gpu_runner.message import Message
from gpu_runner.records import BenchRecord, Decision, Verdict
from graph.errors import EvaluationError
from graph.settings import load_settings
from tests.gpu.subjects import ROWS, honest_kernel, silu_target

SAME = "same"
_CLAIMS_A_JOB = 6
_MOST_DIFFERENCE = 0.003
_LONG_US = 15.0
"""Kernels from about 20 us on; they may turn out somewhat faster than they aim at."""


class Series(Message):
    """All that was decided of one size."""

    aimed_us: int
    kernel_us: float
    claims: dict[Verdict, int]
    feedback: dict[Verdict, int]
    median_difference: float
    """Median over the claims of |speed-up - 1|."""
    largest_difference: float
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether no claim tells identical code apart, and the medians agree where they should."""
        told_apart = {Verdict.FASTER, Verdict.SLOWER} & set(self.claims)
        is_close = self.median_difference <= _MOST_DIFFERENCE or self.kernel_us < _LONG_US
        return not told_apart and is_close


def parts(record: BenchRecord, size: int) -> tuple[BenchRecord, ...]:
    """Cut a record into records of `size` sittings each; a rest is left out."""
    whole = len(record.sittings) // size * size
    return tuple(
        record.model_copy(update={"sittings": record.sittings[start : start + size]})
        for start in range(0, whole, size)
    )


def series(aimed_us: int, records: list[BenchRecord], seconds: float) -> Series:
    """Return what the records decide."""
    claims = [
        decide(part, SAME, basis="claim")
        for record in records
        for part in parts(record, LEAST_SITTINGS_FOR_A_CLAIM)
    ]
    feedback = [
        decide(part, SAME, basis="feedback") for record in records for part in parts(record, 1)
    ]
    differences = [abs(claim.overall.speedup - 1) for claim in claims]
    return Series(
        aimed_us=aimed_us,
        kernel_us=median(claim.overall.candidate_us for claim in claims),
        claims=_counted(claims),
        feedback=_counted(feedback),
        median_difference=median(differences),
        largest_difference=max(differences),
        seconds=seconds,
    )


def _counted(decisions: list[Decision]) -> dict[Verdict, int]:
    return dict(Counter(decision.overall.verdict for decision in decisions))


async def measure(pool: JobPool, aimed_us: int, claims: int) -> list[BenchRecord]:
    """Return records with the sittings of so many claims.

    Raises:
        EvaluationError: a job ended without a record.
    """
    settings = load_settings()
    target = silu_target(aimed_us)
    kernel = honest_kernel()
    records = []
    while claims > 0:
        now = min(claims, _CLAIMS_A_JOB)
        claims -= now
        sittings = now * LEAST_SITTINGS_FOR_A_CLAIM
        plan = settings.bench.cuda.claim.model_copy(
            update={"sittings": sittings, "most_sittings": sittings}
        )
        job = Bench(
            job_id=f"aa-{aimed_us}-{secrets.token_hex(4)}",
            problem=target.problem,
            timeout_s=settings.jobs.claim_s,
            candidate=kernel,
            against=(Contender(name=SAME, candidate=kernel),),
            workloads=target.public,
            plan=plan,
        )
        outcome = await pool.run(job)
        if not isinstance(outcome, Benched):
            raise EvaluationError(f"{outcome.kind}: {getattr(outcome, 'message', '')}")
        records.append(outcome.record)
    return records


async def run(sizes: tuple[int, ...], claims: int, state: Path) -> list[Series]:
    """Measure every size."""
    found = []
    async with LocalPool(state) as pool:
        for aimed_us in sizes:
            began = time.monotonic()
            records = await measure(pool, aimed_us, claims)
            found.append(series(aimed_us, records, time.monotonic() - began))
            sys.stderr.write(f"{found[-1]!r}\n")
    return found


def table(found: list[Series]) -> Table:
    """Return the series as a person reads them."""
    view = Table("kernel us", "claims", "feedback", "median diff", "largest", "s", "")
    view.title = "identical code against itself"
    for one in found:
        view.add_row(
            f"{one.kernel_us:.2f}",
            _words(one.claims),
            _words(one.feedback),
            f"{one.median_difference:.2%}",
            f"{one.largest_difference:.2%}",
            f"{one.seconds:.0f}",
            "ok" if one.is_good else "WRONG",
        )
    return view


def _words(counts: dict[Verdict, int]) -> str:
    return ", ".join(f"{count} {verdict.value}" for verdict, count in sorted(counts.items()))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=int, default=20)
    parser.add_argument("--sizes", default=",".join(map(str, ROWS)))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = tuple(int(size) for size in arguments.sizes.split(","))
    with tempfile.TemporaryDirectory(prefix="kernelpilot-aa-") as state:
        found = asyncio.run(run(sizes, arguments.claims, Path(state)))
    if arguments.json:
        sys.stdout.write(json.dumps([one.model_dump(mode="json") for one in found]) + "\n")
    else:
        Console(width=110).print(table(found))
    return 0 if all(one.is_good for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
