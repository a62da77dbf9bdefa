"""Jobs are run once for their id."""

import asyncio
import math

import pytest

from gpu_runner.jobs import Bench, Build, Built, Unserved
from gpu_runner.records import TimingPlan
from graph.desk import Desk
from graph.errors import RunStopped
from graph.events import JobFinished, JobSubmitted
from graph.run_files import RunFiles
from tests.builders import make_candidate, make_problem, make_workload
from tests.graph.builders import make_baseline
from tests.graph.pool import ScenarioPool


def build(text: str = "// us=80") -> Build:
    return Build(
        job_id="run-r001-l0-a0001-build",
        problem=make_problem(),
        candidate=make_candidate(text=text),
        timeout_s=50,
    )


def bench(timeout_s: float = 50, most_s: float = 1.0) -> Bench:
    return Bench(
        job_id="run-r001-l0-a0001-bench",
        problem=make_problem(),
        candidate=make_candidate(text="// us=80"),
        against=(make_baseline(),),
        workloads=(make_workload(),),
        timeout_s=timeout_s,
        plan=TimingPlan(most_s=most_s),
    )


def whole(wanted_s: float) -> float | None:
    return wanted_s


@pytest.fixture
def files(tmp_path):
    return RunFiles(tmp_path)


@pytest.fixture
def stop():
    return asyncio.Event()


def make_desk(pool, files, stop, tries: int = 3) -> Desk:
    return Desk(pool, files, tries=tries, stop=stop)


async def test_a_job_is_handed_in_under_the_number_of_its_try(files, stop):
    pool = ScenarioPool()
    outcome = await make_desk(pool, files, stop).run(build(), time_left=whole, attempt_id="a0001")
    assert isinstance(outcome, Built)
    assert [job.job_id for job in pool.ran] == ["run-r001-l0-a0001-build-t0"]
    assert [event.kind for event in files.events.read()] == ["job_submitted", "job_finished"]


async def test_a_finished_job_is_not_run_again(files, stop):
    first = await make_desk(ScenarioPool(), files, stop).run(build(), time_left=whole)
    pool = ScenarioPool()
    again = await make_desk(pool, RunFiles(files.root), stop).run(build(), time_left=whole)
    assert again == first
    assert pool.ran == []


async def test_what_our_side_lost_is_tried_again_under_a_new_id(files, stop):
    pool = ScenarioPool()
    outcome = await make_desk(pool, files, stop).run(build("// lost=2"), time_left=whole)
    assert isinstance(outcome, Built)
    assert [job.job_id[-2:] for job in pool.ran] == ["t0", "t1", "t2"]


async def test_tries_are_bounded(files, stop):
    pool = ScenarioPool()
    outcome = await make_desk(pool, files, stop, tries=2).run(build("// lost=9"), time_left=whole)
    assert isinstance(outcome, Unserved)
    assert len(pool.ran) == 2


async def test_a_rejection_is_not_tried_again(files, stop):
    pool = ScenarioPool()
    outcome = await make_desk(pool, files, stop).run(build("// build=fail"), time_left=whole)
    assert outcome.kind == "rejected"
    assert len(pool.ran) == 1


async def test_after_a_kill_the_tries_go_on_where_they_were(files, stop):
    lost = ScenarioPool()
    await make_desk(lost, files, stop, tries=1).run(build("// lost=1"), time_left=whole)
    pool = ScenarioPool()
    outcome = await make_desk(pool, RunFiles(files.root), stop).run(build(), time_left=whole)
    assert isinstance(outcome, Built)
    assert [job.job_id[-2:] for job in pool.ran] == ["t1"]


async def test_the_timeout_is_cut_anew_before_each_try(files, stop):
    allowances = iter([30.0, 20.0, 10.0])
    pool = ScenarioPool()
    desk = make_desk(pool, files, stop)

    def left(wanted_s: float) -> float:
        return wanted_s if wanted_s == math.inf else next(allowances)

    await desk.run(build("// lost=2"), time_left=left)
    assert [job.timeout_s for job in pool.ran] == [30.0, 20.0, 10.0]


async def test_without_time_no_job_is_handed_in_and_nothing_is_remembered(files, stop):
    pool = ScenarioPool()
    outcome = await make_desk(pool, files, stop).run(build(), time_left=lambda _: None)
    assert isinstance(outcome, Unserved)
    assert "budget" in outcome.message
    assert pool.ran == []
    assert files.outcome(outcome.job_id) is None


async def test_waiting_for_a_worker_counts_against_the_wall_clock(files, stop):
    pool = ScenarioPool(delay_s=60)

    def left(wanted_s: float) -> float:
        return min(wanted_s, 0.05)

    outcome = await make_desk(pool, files, stop).run(build(), time_left=left)
    assert isinstance(outcome, Unserved)
    assert "budget" in outcome.message
    assert files.outcome(outcome.job_id) is None


async def test_a_job_handed_in_before_a_kill_is_handed_in_the_same_again(files, stop):
    job = bench(timeout_s=1 / 3, most_s=1 / 7)
    submitted = job.model_copy(update={"job_id": f"{job.job_id}-t0"})
    files.events.append(
        JobSubmitted(
            key=f"job_submitted:{submitted.job_id}",
            job_id=submitted.job_id,
            job="bench",
            timeout_s=submitted.timeout_s,
            plan=submitted.plan,
        )
    )
    pool = ScenarioPool()
    later = bench(timeout_s=20, most_s=2.0)
    await make_desk(pool, RunFiles(files.root), stop).run(later, time_left=whole)
    assert pool.ran == [submitted]


async def test_an_outcome_without_its_event_is_logged_on_the_way_back(files, stop):
    files.save_outcome(
        Built(
            job_id="run-r001-l0-a0001-build-t0",
            artefact_digest="0" * 64,
            compiler="g++",
            seconds=1.5,
            is_cached=False,
        )
    )
    await make_desk(ScenarioPool(), files, stop).run(build(), time_left=whole)
    (event,) = files.events.read()
    assert isinstance(event, JobFinished)
    assert (event.seconds, event.outcome) == (1.5, "built")


async def test_cancelling_abandons_the_job_and_remembers_nothing(files, stop):
    pool = ScenarioPool(delay_s=60)
    running = asyncio.ensure_future(make_desk(pool, files, stop).run(build(), time_left=whole))
    await asyncio.sleep(0.01)
    stop.set()
    with pytest.raises(RunStopped):
        await running
    assert files.outcome("run-r001-l0-a0001-build-t0") is None


async def test_what_a_closing_pool_says_is_not_held_against_the_job(files, stop):
    class Closing(ScenarioPool):
        async def run(self, job):
            stop.set()
            return Unserved(
                job_id=job.job_id, cause="cancelled", message="closing", is_retryable=False
            )

    with pytest.raises(RunStopped):
        await make_desk(Closing(), files, stop).run(build(), time_left=whole)
    assert files.outcome("run-r001-l0-a0001-build-t0") is None
