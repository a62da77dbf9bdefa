"""What status says of a run."""

import os

from graph.events import RunStarted, StageStarted
from graph.ledger import ExitReason, RunResult
from graph.lock import locked
from graph.run_files import RunFiles
from graph.status import all_status, status_of
from tests.graph.builders import make_manifest
from tests.graph.teams import TableTeam
from tests.graph.test_progress import PROMOTED


def started(tmp_path) -> RunFiles:
    files = RunFiles(tmp_path / "softmax-test")
    files.write_manifest(make_manifest())
    files.events.append(
        RunStarted(
            key="run_started:0",
            run_id="softmax-test",
            target="softmax",
            team="table",
            rounds=3,
            lanes=2,
            wall_s=None,
        )
    )
    files.events.append(StageStarted(key="s", stage="bench", round=2))
    files.events.append(PROMOTED)
    return files


def result(reason: ExitReason) -> RunResult:
    return RunResult(
        run_id="r", exit_reason=reason, message="m", rounds=2, attempts=1, wall_s=1, job_s=1
    )


def test_a_run_that_somebody_works_on_is_running(tmp_path):
    files = started(tmp_path)
    with locked(files.root):
        status = status_of(files)
    assert (status.state, status.pid) == ("running", os.getpid())
    assert (status.stage, status.round, status.rounds) == ("bench", 2, 3)
    assert status.best == "best v002 1.84x [1.79, 1.90] vs torch eager"
    assert status.exit_reason is None


def test_a_run_without_an_end_that_nobody_works_on_was_interrupted(tmp_path):
    status = status_of(started(tmp_path))
    assert (status.state, status.pid, status.exit_reason) == ("interrupted", None, None)


def test_an_ended_run_shows_its_reason(tmp_path):
    files = started(tmp_path)
    files.save_result(result(ExitReason.PLATEAU))
    assert (status_of(files).state, status_of(files).exit_reason) == ("plateau", "plateau")


def test_a_cancelled_run_that_was_taken_up_again_is_running(tmp_path):
    files = started(tmp_path)
    files.save_result(result(ExitReason.CANCELLED))
    with locked(files.root):
        assert status_of(files).state == "running"


def test_reading_status_changes_nothing(tmp_path):
    files = started(tmp_path)
    path = files.root / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'{"torn')
    before = {p: p.read_bytes() for p in files.root.iterdir() if p.is_file()}
    status_of(RunFiles(files.root))
    assert {p: p.read_bytes() for p in files.root.iterdir() if p.is_file()} == before


def test_a_damaged_run_is_said_to_be_unreadable(tmp_path):
    files = started(tmp_path)
    (files.root / "run.json").write_text("{")
    assert status_of(files).state == "unreadable"
    assert "run.json" in status_of(files).message


def test_a_directory_without_runs_has_no_status(tmp_path):
    assert all_status(tmp_path / "none") == ()


async def test_the_status_of_a_whole_run(run_loop, tmp_path):
    ran = await run_loop(TableTeam({"1.0": "us=60"}))
    (status,) = all_status(tmp_path)
    assert status.state == "goal_met"
    assert (status.attempts, status.promoted, status.rejected) == (2, 1, 0)
    assert status.report == ran.result.report
    assert status.repository == ran.result.repository
