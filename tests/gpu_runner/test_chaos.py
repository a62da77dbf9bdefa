"""Random kills while jobs run: every job ends once, whatever dies."""

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from gpu_runner.local import LocalPlan, LocalPool
from tests.gpu_runner.executors import EXECUTOR, executions, make_built, make_job

ROOT = Path(__file__).parents[2]
PLAN = LocalPlan(executor=EXECUTOR, beat_s=0.1)
JOBS = 6
KILLS = 6

pytestmark = pytest.mark.processes


async def disturb(pool, fortune):
    """Kill or freeze broker and worker at random moments; a frozen one is killed after a while."""
    for _ in range(KILLS):
        await asyncio.sleep(fortune.uniform(0.1, 0.7))
        name = fortune.choice(["broker", "local-0"])
        pid = pool.pids.get(name)
        if pid is None:
            continue
        if fortune.random() < 0.3:
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(fortune.uniform(0.05, 0.3))
        os.kill(pid, signal.SIGKILL)


async def test_no_job_is_lost_and_none_finishes_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    fortune = random.Random(20)
    jobs = [make_job(f"job-{i}", f"sleep {fortune.uniform(0.0, 0.3):.2f}") for i in range(JOBS)]
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        runs = [asyncio.create_task(pool.run(job)) for job in jobs]
        await disturb(pool, fortune)
        outcomes = await asyncio.gather(*runs)
        again = await asyncio.gather(*(pool.run(job) for job in jobs))
    assert outcomes == again == [make_built(job.job_id) for job in jobs]
    # A child may be killed after its outcome is in the spool and before it has logged that.
    assert set(Counter(executions(tmp_path)).values()) <= {1}
    started = Counter(executions(tmp_path, "started"))
    assert started.keys() == {job.job_id for job in jobs}
    assert started.total() <= JOBS + KILLS
