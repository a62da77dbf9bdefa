"""A pool that answers from imported results, and ends the wait for all others."""

import asyncio

import pytest

from gpu_runner.archive_exchange import Exchange
from gpu_runner.archive_pool import UNSEEN, ArchivePool
from gpu_runner.client import JobPool
from gpu_runner.errors import ArchiveError, ResultsAwaited
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.test_archive_exchange import bring


@pytest.fixture
def pool(tmp_path):
    pool: JobPool = ArchivePool(tmp_path)
    return pool


async def test_a_job_that_waits_is_put_out(pool, tmp_path):
    with pytest.raises(ResultsAwaited, match=r"waiting for results of 1 job$"):
        await pool.run(make_job())
    assert Exchange(tmp_path).pending() == (make_job(),)


async def test_all_jobs_of_one_moment_are_put_out_before_anybody_is_told(pool, tmp_path):
    async def later(turns, name):
        for _ in range(turns):
            await asyncio.sleep(0)
        return await pool.run(make_job(name))

    told = await asyncio.gather(
        *(later(5 * turns, f"job-{turns}") for turns in range(4)), return_exceptions=True
    )
    assert [error.jobs for error in told if isinstance(error, ResultsAwaited)] == [4] * 4
    assert len(Exchange(tmp_path).pending()) == 4


async def test_what_was_imported_is_answered_at_once(pool, tmp_path):
    with pytest.raises(ResultsAwaited):
        await pool.run(make_job("a"))
    Exchange(tmp_path).take_in(bring(tmp_path / "results.zip", make_job("a")))
    assert await pool.run(make_job("a")) == make_built("a")
    both = pool.run(make_job("a")), pool.run(make_job("b"))
    found = await asyncio.gather(*both, return_exceptions=True)
    assert found[0] == make_built("a")
    assert isinstance(found[1], ResultsAwaited)


async def test_an_outcome_of_another_job_is_an_error_and_not_an_answer(pool, tmp_path):
    Exchange(tmp_path).put(make_job())
    Exchange(tmp_path).take_in(bring(tmp_path / "results.zip", make_job()))
    with pytest.raises(ArchiveError, match="another job of this id"):
        await pool.run(make_job(order="sleep 3"))


async def test_the_machine_is_known_from_its_results(pool, tmp_path):
    assert await pool.environment() == UNSEEN
    Exchange(tmp_path).put(make_job())
    Exchange(tmp_path).take_in(bring(tmp_path / "results.zip", make_job(), machine="far away"))
    assert (await pool.environment()).machine == "far away"


async def test_a_caller_that_gives_up_leaves_its_job_waiting(pool, tmp_path):
    waiting = asyncio.create_task(pool.run(make_job()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await pool.close()
    await pool.close()
    assert Exchange(tmp_path).pending() == (make_job(),)
