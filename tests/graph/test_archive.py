"""Runs whose jobs are carried by hand: the same run as with a pool, in pieces."""

import pytest

from gpu_runner.archive_exchange import Exchange
from gpu_runner.archive_pool import UNSEEN, ArchivePool
from graph.archive import POOL, batch_folder, exchange_folder, find_origin, origin_of_run
from graph.errors import RunError, RunNotFound, TargetError
from graph.ledger import EXIT_CODES, ExitReason
from graph.run import begin, drive, finished
from graph.run_files import RunFiles
from graph.settings import PoolSettings, load_settings
from graph.target import Budget, Hardware
from graph.wiring import open_pool
from tests.gpu_runner.executors import make_job
from tests.graph.builders import make_manifest, make_target
from tests.graph.journeys import carry
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam

TABLE = {"1.0": "us=80", "1.1": "check=fail", "2.0": "us=60 lost=1", "2.1": "build=fail"}


def set_to(endpoint: str) -> PoolSettings:
    return PoolSettings(endpoint=endpoint, state="")


def target(**changes):
    return make_target(budget=Budget(rounds=2, plateau_attempts=50), **changes)


@pytest.fixture
def carried(tmp_path):
    """Drive a run by journeys until it ends; returns it, its result and the journeys."""

    async def run(table=None, **changes):
        files = RunFiles(tmp_path / "carried" / "softmax-test")
        exchange = Exchange(files.root / POOL)
        far, team = ScenarioPool(), TableTeam(TABLE if table is None else table)
        pool = ArchivePool(exchange.folder)
        await begin(files, target(**changes), team.name, pool, seed=0)
        journeys: list[list[str]] = []
        while True:
            # Each process has a pool and a desk of its own, as after `resume`.
            pool = ArchivePool(exchange.folder)
            result = await drive(files, load_settings(), team, pool)
            if result.exit_reason is not ExitReason.WAITING:
                return files, result, journeys, far
            journeys.append(sorted(job.job_id for job in exchange.pending()))
            await carry(exchange, tmp_path, far, machine="far away")

    return run


def facts_of(attempts):
    """What an attempt came to, without how long our own process took for it."""
    return [attempt.model_copy(update={"seconds": {}}) for attempt in attempts]


async def test_a_carried_run_ends_as_the_same_run_on_a_pool_there(carried, run_loop):
    files, result, journeys, far = await carried()
    assert files.read_manifest().environment.machine == "far away"
    ran = await run_loop(TableTeam(TABLE), target=target())
    assert facts_of(files.attempts()) == facts_of(ran.files.attempts())
    assert result.exit_reason is ran.result.exit_reason
    assert result.best == ran.result.best
    assert set(files.records()) == set(ran.files.records())
    assert {job.job_id for job in far.ran} == {job.job_id for job in ran.pool.ran}
    assert len(far.ran) == len(ran.pool.ran), "no job was run twice"
    assert journeys[0] == ["softmax-test-admit-t0"]
    assert len(journeys[1]) == 2, "both lanes go out together"


async def test_a_job_that_was_not_served_goes_out_again_as_its_next_try(carried):
    _, _, journeys, _ = await carried({"1.0": "us=80 lost=1"})
    tries = [job_id for jobs in journeys for job_id in jobs if "a0001-build" in job_id]
    assert [job_id.rpartition("-")[2] for job_id in tries] == ["t0", "t1"]
    assert all(len(jobs) == len(set(jobs)) for jobs in journeys)


async def test_a_run_that_waits_says_so_and_is_not_over(tmp_path):
    files = RunFiles(tmp_path / "softmax-test")
    pool = ArchivePool(files.root / POOL)
    await begin(files, target(), "table", pool, seed=0)
    result = await drive(files, load_settings(), TableTeam(), pool)
    assert result.exit_reason is ExitReason.WAITING
    assert result.message == (
        "waiting for results of 1 job (`kernelpilot-runner export softmax-test`, execute, "
        "import); `kernelpilot resume softmax-test` goes on"
    )
    assert EXIT_CODES[result.exit_reason] == 8
    assert finished(files) is None
    again = await drive(files, load_settings(), TableTeam(), pool)
    assert again.exit_reason is ExitReason.WAITING
    assert len(Exchange(files.root / POOL).pending()) == 1


async def test_an_outcome_of_another_job_breaks_the_run_off_with_the_reason(tmp_path):
    files = RunFiles(tmp_path / "softmax-test")
    exchange = Exchange(files.root / POOL)
    await begin(files, target(), "table", ArchivePool(exchange.folder), seed=0)
    job_id = "softmax-test-admit-t0"
    exchange.put(make_job(job_id))
    await carry(exchange, tmp_path, ScenarioPool())
    result = await drive(files, load_settings(), TableTeam(), ArchivePool(exchange.folder))
    assert result.exit_reason is ExitReason.ERROR
    assert f"the outcome of {job_id}" in result.message


# -- the machine -----------------------------------------------------------------------------------


async def test_nothing_but_the_admission_is_done_before_the_machine_is_known(tmp_path):
    files = RunFiles(tmp_path / "softmax-test")
    pool = ArchivePool(files.root / POOL)
    manifest = await begin(files, target(), "table", pool, seed=0)
    assert manifest.environment == UNSEEN
    team = TableTeam()
    await drive(files, load_settings(), team, pool)
    assert team.asked == []
    assert files.read_manifest().environment == UNSEEN


async def test_a_gpu_target_whose_jobs_ran_on_a_processor_is_refused(tmp_path):
    files = RunFiles(tmp_path / "softmax-test")
    exchange = Exchange(files.root / POOL)
    on_gpu = target(hardware=Hardware(device="cuda", arch="sm_90a"))
    await begin(files, on_gpu, "table", ArchivePool(exchange.folder), seed=0)
    await drive(files, load_settings(), TableTeam(), ArchivePool(exchange.folder))
    await carry(exchange, tmp_path, ScenarioPool())
    with pytest.raises(TargetError, match="asked for on a GPU, and the pool's worker is test proc"):
        await drive(files, load_settings(), TableTeam(), ArchivePool(exchange.folder))
    assert files.read_manifest().environment == UNSEEN


# -- which folder ----------------------------------------------------------------------------------


def test_a_pool_that_is_none_of_these_has_no_folder(tmp_path):
    assert exchange_folder(set_to(""), tmp_path) is None
    assert exchange_folder(set_to("ipc:///tmp/archive"), tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("endpoint", ["archive", "archive:"])
def test_a_run_has_its_own_folder_and_remembers_it(tmp_path, endpoint):
    assert exchange_folder(set_to(endpoint), tmp_path / "pool") == tmp_path / "pool"
    assert exchange_folder(set_to(""), tmp_path / "pool") == tmp_path / "pool"
    moved = (tmp_path / "pool").rename(tmp_path / "moved")
    assert exchange_folder(set_to(""), moved) == moved


def test_a_shared_folder_is_remembered_and_may_be_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exchange_folder(set_to("archive:shared"), tmp_path / "a") == tmp_path / "shared"
    monkeypatch.chdir("/")
    assert exchange_folder(set_to(""), tmp_path / "a") == tmp_path / "shared"
    assert exchange_folder(set_to("archive"), tmp_path / "a") == tmp_path / "a"
    assert exchange_folder(set_to("tcp://127.0.0.1:7766"), tmp_path / "a") is None
    assert exchange_folder(set_to(""), tmp_path / "a") == tmp_path / "a"


async def test_a_plain_resume_does_not_measure_here(tmp_path):
    async with open_pool(set_to("archive"), tmp_path) as pool:
        assert isinstance(pool, ArchivePool)
    async with open_pool(set_to(""), tmp_path) as pool:
        assert isinstance(pool, ArchivePool)


# -- what a name means -----------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path):
    """A carried run, a run with a pool, a batch."""
    for run_id in ("softmax-1", "rope-2"):
        RunFiles(tmp_path / run_id).write_manifest(make_manifest(run_id=run_id))
    exchange_folder(set_to("archive"), tmp_path / "softmax-1" / POOL)
    Exchange(batch_folder("softmax-b", tmp_path)).put(make_job())
    return tmp_path


@pytest.mark.parametrize("name", ["softmax-1", "softmax", "soft", "{runs}/softmax-1"])
def test_a_run_is_found_as_by_other_commands(runs, name):
    origin = find_origin(name.format(runs=runs), runs)
    assert (origin.name, origin.run) == ("softmax-1", "softmax-1")
    assert origin.exchange.folder == runs / "softmax-1" / POOL


def test_a_batch_and_a_folder_are_found(runs, monkeypatch):
    batch = find_origin("softmax-b", runs)
    assert (batch.name, batch.run) == ("softmax-b", "")
    assert batch.exchange.pending() == (make_job(),)
    monkeypatch.chdir(runs / ".batches")
    folder = find_origin("softmax-b", runs / "elsewhere")
    assert folder.exchange.pending() == (make_job(),)


def test_a_name_that_means_nothing_says_what_there_is(runs):
    with pytest.raises(RunNotFound, match=r"no run 'gelu' in .*; runs there: rope-2, softmax-1"):
        find_origin("gelu", runs)


def test_a_run_that_a_pool_ran_says_how_to_carry_the_rest(runs):
    with pytest.raises(RunError, match=r"jobs of rope-2 are not carried.*resume .*--pool archive"):
        find_origin("rope-2", runs)
    with pytest.raises(RunError, match="not carried"):
        origin_of_run(RunFiles(runs / "rope-2"))
