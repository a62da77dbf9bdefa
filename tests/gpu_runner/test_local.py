"""A pool of real processes, and what is left of its promises when they are killed."""

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from gpu_runner.errors import PoolError
from gpu_runner.local import LocalPlan, LocalPool
from tests.gpu_runner.executors import (
    EXECUTOR,
    executions,
    is_alive,
    make_built,
    make_job,
    seen,
    until,
)

ROOT = Path(__file__).parents[2]
PLAN = LocalPlan(executor=EXECUTOR, beat_s=0.1)

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def _executors_can_be_imported(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def kill(pool, name):
    os.kill(pool.pids[name], signal.SIGKILL)


def socket_folder(state):
    return Path((state / "socket_folder").read_text())


def mode(path):
    """Permissions, or None where nothing is."""
    return path.stat().st_mode & 0o777 if path.exists() else None


async def started(state, count=1):
    await until(lambda: len(executions(state, "started")) == count)


async def test_jobs_are_run_and_nothing_is_left_running(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    deep = tmp_path / ("d" * 100)  # too long for a socket's path
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    state = tmp_path / "state"
    async with LocalPool(state, workers=2, plan=PLAN) as pool:
        assert (await pool.environment()).cores == os.cpu_count()
        runs = [asyncio.create_task(pool.run(make_job(f"job-{i}", "await go"))) for i in range(2)]
        await started(state, 2)  # both at once
        (state / "go").touch()
        assert await asyncio.gather(*runs) == [make_built(f"job-{i}") for i in range(2)]
        secret = seen(await pool.run(make_job("secret", "variable ANTHROPIC_API_KEY")))
        threads = seen(await pool.run(make_job("threads", "variable OMP_NUM_THREADS")))
        pids = list(pool.pids.values())
        folder = socket_folder(state)
        assert mode(folder) == 0o700
        second = LocalPool(state, plan=LocalPlan(owner_patience_s=0.1))
        with pytest.raises(PoolError, match=f"in use by process {os.getpid()} "):
            await second.__aenter__()
    assert (secret.compiler, threads.compiler) == ("(unset)", "2")
    assert len(pids) == 3
    assert not any(is_alive(pid) for pid in pids)
    assert mode(folder) is None
    assert not any(deep.iterdir())


async def refusal(pool, job) -> str:
    """What is said of a job whose id is taken: by the broker, or by the worker of a new broker."""
    try:
        outcome = await pool.run(job)
    except PoolError as error:
        return str(error)
    return str(outcome.message)


async def test_a_finished_job_is_answered_and_not_run_again(tmp_path):
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        first = await pool.run(make_job())
        assert await pool.run(make_job()) == first
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        assert await pool.run(make_job()) == first
        assert "another job" in await refusal(pool, make_job(order="sleep 0"))
    assert executions(tmp_path, "started") == ["job"]


async def test_worker_killed_in_a_job_runs_it_once_more(tmp_path):
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        run = asyncio.create_task(pool.run(make_job(order="await go")))
        await started(tmp_path)
        kill(pool, "local-0")
        await started(tmp_path, 2)
        (tmp_path / "go").touch()
        assert await run == make_built()
    assert executions(tmp_path, "started") == ["job", "job"]
    assert executions(tmp_path) == ["job"]


async def test_broker_killed_in_a_job_finds_it_running(tmp_path):
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        run = asyncio.create_task(pool.run(make_job(order="await go")))
        await started(tmp_path)
        before = pool.pids["broker"]
        kill(pool, "broker")
        await until(lambda: pool.pids.get("broker", before) != before)
        (tmp_path / "go").touch()
        assert await run == make_built()
    assert executions(tmp_path, "started") == ["job"]
    assert executions(tmp_path) == ["job"]


async def test_broker_killed_while_the_job_ends_gets_the_outcome_later(tmp_path):
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        run = asyncio.create_task(pool.run(make_job(order="await go")))
        await started(tmp_path)
        os.kill(pool.pids["broker"], signal.SIGSTOP)
        (tmp_path / "go").touch()
        await until(lambda: executions(tmp_path))
        kill(pool, "broker")
        assert await run == make_built()
    assert executions(tmp_path, "started") == ["job"]


async def test_broker_and_worker_killed_in_a_job_run_it_once_more(tmp_path):
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        run = asyncio.create_task(pool.run(make_job(order="await go")))
        await started(tmp_path)
        kill(pool, "broker")
        kill(pool, "local-0")
        await started(tmp_path, 2)
        (tmp_path / "go").touch()
        assert await run == make_built()
    assert executions(tmp_path) == ["job"]


async def test_worker_killed_between_spool_and_send_answers_from_the_spool(tmp_path):
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        run = asyncio.create_task(pool.run(make_job(order="await go")))
        await started(tmp_path)
        os.kill(pool.pids["local-0"], signal.SIGSTOP)
        (tmp_path / "go").touch()
        await until(lambda: executions(tmp_path))
        kill(pool, "local-0")
        assert await run == make_built()
    assert executions(tmp_path, "started") == ["job"]
    assert executions(tmp_path) == ["job"]


async def test_a_poison_job_that_kills_its_worker_every_time_is_given_up(tmp_path):
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        run = asyncio.create_task(pool.run(make_job(order="await never")))
        for count in (1, 2, 3):
            await started(tmp_path, count)
            # The broker has seen it run once the worker has answered a further beat.
            await asyncio.sleep(2 * PLAN.beat_s)
            kill(pool, "local-0")
        outcome = seen(await run)
        assert (outcome.kind, outcome.cause) == ("unserved", "runner_lost")
        assert "lost its worker 3 times" in outcome.message
        assert await pool.run(make_job("other")) == make_built("other")
    assert executions(tmp_path, "started") == ["job"] * 3 + ["other"]


async def test_closing_ends_a_deaf_job_and_what_it_left_behind(tmp_path):
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        run = asyncio.create_task(pool.run(make_job(order="hang")))
        await until((tmp_path / "daemon").exists)
    with pytest.raises(PoolError, match="closed"):
        await run
    assert not is_alive(int((tmp_path / "daemon").read_text()))


OWNER = """
import asyncio, sys
from pathlib import Path
from gpu_runner.local import LocalPlan, LocalPool
from tests.gpu_runner.executors import EXECUTOR, make_job

async def own():
    async with LocalPool(Path(sys.argv[1]), plan=LocalPlan(executor=EXECUTOR)) as pool:
        await pool.run(make_job("first"))
        await pool.run(make_job("second", "await go"))

asyncio.run(own())
"""


async def test_everything_dies_with_its_owner_and_the_next_one_goes_on(tmp_path):
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, str(tmp_path))
    await started(tmp_path, 2)
    folder = socket_folder(tmp_path)
    owner.kill()
    await owner.wait()
    (tmp_path / "go").touch()
    async with LocalPool(tmp_path, plan=PLAN) as pool:
        jobs = (make_job("first"), make_job("second", "await go"))
        assert [await pool.run(job) for job in jobs] == [make_built("first"), make_built("second")]
        assert mode(folder) is None
        assert len(set(executions(tmp_path))) == len(executions(tmp_path)) == 2


async def test_a_worker_that_does_not_stay_up_ends_the_wait(tmp_path):
    plan = LocalPlan(executor=EXECUTOR, grace_s=-1)
    async with LocalPool(tmp_path, plan=plan) as pool:
        outcome = seen(await pool.run(make_job()))
        assert (outcome.cause, outcome.is_retryable) == ("runner_lost", True)
        assert "local-0 does not stay up: exit code 2" in outcome.message
        assert "--grace-s" in outcome.message
        with pytest.raises(PoolError, match="does not stay up"):
            await pool.environment()


async def test_a_pool_that_is_not_open_says_so(tmp_path):
    with pytest.raises(PoolError, match="async with LocalPool"):
        await LocalPool(tmp_path).run(make_job())
