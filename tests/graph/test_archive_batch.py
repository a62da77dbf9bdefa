"""Candidates judged far away: one journey, the verdicts of `evaluate`."""

import pytest

from gpu_runner.archive_exchange import Exchange
from gpu_runner.jobs import Unserved
from gpu_runner.message import digest_of
from gpu_runner.records import BenchRecord, TimingPlan, Verdict
from gpu_runner.spool import write_outcome
from graph.archive import batch_folder
from graph.archive_batch import Batch, make_batch, read_batch
from graph.errors import EvaluationError, RunDamaged
from graph.evaluate import evaluate
from graph.settings import load_settings
from tests.builders import make_candidate
from tests.graph.builders import make_target
from tests.graph.journeys import carry
from tests.graph.pool import ScenarioPool

TEXTS = {"fast.cpp": "us=50", "wrong.cpp": "check=fail", "stale.cpp": "bench=fail"}


def make(**changes) -> Batch:
    values = {
        "name": "softmax-batch",
        "target": make_target(),
        "candidates": {name: make_candidate(text=f"// {text}") for name, text in TEXTS.items()},
        "plan": TimingPlan(sittings=5, most_sittings=5),
        "jobs": load_settings().jobs,
    }
    return Batch(**{**values, **changes})


@pytest.fixture
def judge(tmp_path):
    async def judge(batch, pool=None):
        origin = make_batch(batch, tmp_path)
        await carry(origin.exchange, tmp_path, pool or ScenarioPool())
        return batch.judge(origin.exchange, origin.exchange.folder / "records")

    return judge


def test_every_candidate_is_checked_once_and_timed_against_every_baseline():
    jobs = make().all_jobs()
    assert [job.job_id.removeprefix("softmax-batch-") for job in jobs] == [
        "admit",
        *("c0-check", "c0-bench-0", "c0-bench-1"),
        *("c1-check", "c1-bench-0", "c1-bench-1"),
        *("c2-check", "c2-bench-0", "c2-bench-1"),
    ]
    names = [[side.name for side in job.against] for job in jobs if job.kind == "bench"]
    assert names == [["torch eager"], ["torch compile"]] * 3
    assert make().all_jobs() == jobs, "the same jobs whenever they are asked for"


async def test_the_verdicts_are_those_of_evaluate(judge, tmp_path):
    batch = make()
    verdict = await judge(batch)
    for name, candidate in batch.candidates.items():
        for trial, found in zip(batch.trials(candidate), verdict.evaluations[name], strict=True):
            expected = await evaluate(trial, ScenarioPool(), batch.jobs)
            assert found == expected
    assert [found.verdict for found in verdict.evaluations["fast.cpp"]] == [Verdict.FASTER] * 2
    assert [found.stage for found in verdict.evaluations["wrong.cpp"]] == ["check"] * 2
    assert [found.stage for found in verdict.evaluations["stale.cpp"]] == ["bench"] * 2
    assert verdict.notes == ()


async def test_the_records_are_kept_and_named_in_the_verdicts(judge, tmp_path):
    verdict = await judge(make())
    folder = batch_folder("softmax-batch", tmp_path) / "records"
    named = {found.record_id for found in verdict.evaluations["fast.cpp"]}
    assert {path.stem for path in folder.iterdir()} == named
    for record_id in named:
        content = (folder / f"{record_id}.json").read_bytes()
        assert BenchRecord.model_validate_json(content).record_id == record_id


async def test_words_name_candidate_baseline_and_interval(judge):
    lines = (await judge(make())).words().splitlines()
    assert lines[0].startswith("fast.cpp vs torch eager: FASTER: claim of 5 sittings")
    assert any(
        line.startswith("wrong.cpp vs torch eager: REJECTED: wrong_result") for line in lines
    )


async def test_results_that_have_not_come_are_named(tmp_path):
    batch = make()
    exchange = make_batch(batch, tmp_path).exchange
    verdict = batch.judge(exchange, tmp_path / "records")
    assert verdict.evaluations == dict.fromkeys(TEXTS, ())
    assert len(verdict.notes) == 6
    assert verdict.notes[0] == "fast.cpp vs torch eager: its results have not come yet"
    assert verdict.words().startswith("not judged: fast.cpp")


async def test_what_was_not_served_is_named_and_still_waits(judge, tmp_path):
    batch = make(candidates={"lost.cpp": make_candidate(text="// us=50 lost=1")})
    verdict = await judge(batch)
    assert verdict.evaluations == {"lost.cpp": ()}
    assert "could not serve the job (runner_lost): worker gone" in verdict.notes[0]
    exchange = Exchange(batch_folder("softmax-batch", tmp_path))
    waiting = {job.job_id for job in exchange.pending()}
    assert "softmax-batch-c0-check" in waiting
    assert "softmax-batch-admit" not in waiting


async def test_only_the_first_line_of_a_failure_is_a_note(tmp_path):
    batch = make(candidates={"a.cpp": make_candidate(text="// us=50")})
    exchange = make_batch(batch, tmp_path).exchange
    check = batch.all_jobs()[1]
    outcome = Unserved(
        job_id=check.job_id, cause="internal_error", message="one\ntwo", is_retryable=False
    )
    path = exchange.folder / "spool" / f"{check.job_id}.json"
    path.parent.mkdir()
    write_outcome(path, outcome, spec_digest=digest_of(check), token=1)
    verdict = batch.judge(exchange, tmp_path / "records")
    assert verdict.notes[0].endswith("(internal_error): one")


async def test_a_target_that_cannot_judge_is_an_error(judge):
    with pytest.raises(EvaluationError, match="target 'softmax' cannot judge: zeros pass"):
        await judge(make(), ScenarioPool(unfit="zeros pass"))


def test_a_batch_is_read_as_it_was_written(tmp_path):
    batch = make()
    make_batch(batch, tmp_path)
    folder = batch_folder(batch.name, tmp_path)
    assert read_batch(folder) == batch
    assert read_batch(tmp_path) is None
    assert read_batch(folder / "batch.json") is None
    (folder / "batch.json").write_text("{}")
    with pytest.raises(RunDamaged, match=r"batch\.json cannot be read; export the batch again"):
        read_batch(folder)
