"""How long a verdict takes: feedback with a cached build, and a promotion decision.

A softmax of 64 x 1024 (about 100 us for torch on one thread) through the bus, with fresh processes
as always. Each figure is the median of `--runs` evaluations after one that fills the caches. Beside
them what a job costs that has nothing to do, for its artefact is cached.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from gpu_runner.client import JobPool
from gpu_runner.jobs import Build
from gpu_runner.local import LocalPool
from graph.evaluate import Trial, evaluate
from graph.settings import load_settings
from graph.targets import load_target
from tests.benchmarks.subjects import fast_softmax, lean_softmax

_IDLE_JOBS = 20


async def measure(runs: int, state: Path) -> dict[str, float]:
    """Return the median seconds of a feedback and of a claim, and what they measured."""
    settings = load_settings()
    target = load_target(str(lean_softmax(state, 64, 1024)))
    seconds: dict[str, list[float]] = {"feedback": [], "claim": []}
    baseline_us = 0.0
    async with LocalPool(state / "pool") as pool:
        for basis in ("feedback", "claim"):
            is_claim = basis == "claim"
            one = Trial(
                target=target,
                candidate=fast_softmax(),
                against=target.baselines[0],
                plan=settings.bench.claim if is_claim else settings.bench.feedback,
                is_claim=is_claim,
            )
            for number in range(runs + 1):
                began = time.monotonic()
                found = await evaluate(one, pool, settings.jobs)
                if number:
                    seconds[basis].append(time.monotonic() - began)
                baseline_us = found.workloads["only"].against_us
        job_s = await _idle_job_s(pool, one)
    return {
        "job_ms": job_s * 1e3,
        "feedback_s": median(seconds["feedback"]),
        "claim_s": median(seconds["claim"]),
        "baseline_us": baseline_us,
    }


async def _idle_job_s(pool: JobPool, one: Trial) -> float:
    """Return the median seconds of a build whose artefact is cached, from here to here."""
    spent = []
    for number in range(_IDLE_JOBS):
        job = Build(
            job_id=f"idle-{number}",
            problem=one.target.problem,
            timeout_s=60.0,
            candidate=one.candidate,
        )
        began = time.monotonic()
        await pool.run(job)
        spent.append(time.monotonic() - began)
    return median(spent)


def run(runs: int) -> dict[str, float]:
    """Measure in a fresh state directory."""
    with tempfile.TemporaryDirectory(prefix="kernelpilot-latency-") as folder:
        return asyncio.run(measure(runs, Path(folder)))
