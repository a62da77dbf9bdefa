"""How long a verdict on a CUDA candidate of about 20 us takes, and what a job costs beside it.

`python -m tests.gpu.speed [--runs 10] [--against torch|incumbent] [--json]`: each run builds,
checks (every hidden shape) and benches (one sitting of feedback) a candidate never seen before.
"""

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from gpu_runner.candidate import Candidate, Contender
from gpu_runner.client import JobPool
from gpu_runner.jobs import AnyJob, AnyOutcome, Bench, Benched, Build, Built, Check, Checked
from gpu_runner.local import LocalPool
from graph.errors import EvaluationError
from graph.settings import Settings, load_settings
from graph.target import Target
from tests.gpu.subjects import honest_kernel, silu_target

_SIZE_US = 20
_EMPTY_JOBS = 20
_WANTED = {
    "verdict_s": "at most 5",
    "evaluations_an_hour": "at least 120",
    "job_overhead_ms": "at most 50",
}


def jobs_of(
    target: Target, candidate: Candidate, against: Contender, settings: Settings
) -> tuple[Build, Check, Bench]:
    """Return the three jobs of one verdict."""
    token = secrets.token_hex(4)
    return (
        Build(
            job_id=f"speed-{token}-build",
            problem=target.problem,
            timeout_s=settings.jobs.build_s,
            candidate=candidate,
        ),
        Check(
            job_id=f"speed-{token}-check",
            problem=target.problem,
            timeout_s=settings.jobs.check_s,
            candidate=candidate,
            workloads=target.workloads,
        ),
        Bench(
            job_id=f"speed-{token}-bench",
            problem=target.problem,
            timeout_s=settings.jobs.feedback_s,
            candidate=candidate,
            against=(against,),
            workloads=target.public,
            plan=settings.bench.cuda.feedback,
        ),
    )


async def timed(pool: JobPool, job: AnyJob) -> tuple[AnyOutcome, float]:
    """Return the outcome of a job and its seconds from here to here.

    Raises:
        EvaluationError: it ended as something else than it is for.
    """
    began = time.monotonic()
    outcome = await pool.run(job)
    seconds = time.monotonic() - began
    if not isinstance(outcome, Built | Checked | Benched):
        raise EvaluationError(f"{job.kind}: {outcome.kind}: {getattr(outcome, 'message', '')}")
    return outcome, seconds


async def measure(runs: int, against: str, state: Path) -> dict[str, float]:
    """Return the medians over the runs; the first run fills caches and is left out."""
    settings = load_settings()
    target = silu_target(_SIZE_US)
    rival = target.baselines[0]
    if against == "incumbent":
        rival = Contender(name="incumbent", candidate=honest_kernel())
    seconds: dict[str, list[float]] = {"build": [], "check": [], "bench": []}
    kernel_us: list[float] = []
    async with LocalPool(state) as pool:
        for number in range(runs + 1):
            for job in jobs_of(target, honest_kernel(number), rival, settings):
                outcome, spent = await timed(pool, job)
                if number:
                    seconds[job.kind].append(spent)
                if isinstance(outcome, Benched):
                    kernel_us += outcome.record.sittings[0].series[0].candidate_us
        overhead = await _overhead(pool, target, settings)
    return {**figures(seconds), "job_overhead_ms": overhead * 1e3, "kernel_us": median(kernel_us)}


async def _overhead(pool: JobPool, target: Target, settings: Settings) -> float:
    """Return the median seconds of a job that has nothing to do: its artefact is cached."""
    spent = []
    for _ in range(_EMPTY_JOBS):
        job = jobs_of(target, honest_kernel(0), target.baselines[0], settings)[0]
        _, seconds = await timed(pool, job)
        spent.append(seconds)
    return median(spent)


def figures(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return medians by stage, and of whole verdicts."""
    verdicts = [sum(parts) for parts in zip(*seconds.values(), strict=True)]
    verdict_s = median(verdicts)
    stages = {f"{stage}_s": median(spent) for stage, spent in seconds.items()}
    return {**stages, "verdict_s": verdict_s, "evaluations_an_hour": 3600 / verdict_s}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--against", choices=("torch", "incumbent"), default="incumbent")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kernelpilot-speed-") as state:
        found = asyncio.run(measure(arguments.runs, arguments.against, Path(state)))
    if arguments.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    view = Table("figure", "measured", "wanted", title=f"a verdict against {arguments.against}")
    for name, value in found.items():
        view.add_row(name, f"{value:.2f}", _WANTED.get(name, ""))
    Console(width=90).print(view)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
