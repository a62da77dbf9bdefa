"""One child: launched, timed, killed, explained."""

import os
from pathlib import Path

import pytest

from gpu_runner.execution import Execution, ExecutionPlan, not_launched
from gpu_runner.spool import Spool
from tests.gpu_runner.executors import EXECUTOR, executions, is_alive, make_built, make_job, seen

ROOT = Path(__file__).parents[2]


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    plan = ExecutionPlan(workspace=tmp_path, executor=EXECUTOR, grace_s=0.1)
    begun = []

    def start(order, **changes):
        begun.append(Execution(make_job(order=order, **changes), 5, plan, Spool(tmp_path)))
        return begun[-1]

    yield start
    for execution in begun:
        execution.close()


def test_an_execution_gives_its_outcome_and_cleans_up(start, tmp_path):
    execution = start("answer")
    assert execution.wait() == make_built()
    assert seen(Spool(tmp_path).find("job")).token == 5
    assert not is_alive(execution.pid)
    assert (tmp_path / "logs" / "job.log").read_text() == ""


def test_a_job_over_its_time_is_killed(start, tmp_path):
    outcome = start("sleep 600", timeout_s=1.0).wait()
    assert (outcome.cause, outcome.is_retryable) == ("timed_out", False)
    assert "was killed after 1.1 s" in outcome.message
    assert executions(tmp_path) == []


@pytest.mark.processes
def test_a_deaf_job_is_killed_too(start):
    execution = start("hang", timeout_s=1.0)
    assert execution.wait().cause == "timed_out"
    assert not is_alive(execution.pid)


@pytest.mark.parametrize(
    ("order", "cause", "is_retryable", "text"),
    [
        ("leave 3", "internal_error", False, "exit code 3; its log: last words"),
        ("leave 28", "no_space", True, "last words"),
        ("crash", "internal_error", True, "signal Segmentation fault; its log: (empty)"),
    ],
)
def test_a_child_without_an_outcome_is_explained(start, order, cause, is_retryable, text):
    outcome = start(order).wait()
    assert (outcome.cause, outcome.is_retryable) == (cause, is_retryable)
    assert text in outcome.message


def test_what_was_not_served_before_is_not_taken_for_this_execution(start, tmp_path):
    assert start("full").wait().cause == "no_space"
    (tmp_path / "job.mark").unlink(missing_ok=True)
    assert start("leave 3").wait().cause == "no_space"  # the same token: its own words
    plan = ExecutionPlan(workspace=tmp_path, executor=EXECUTOR)
    later = Execution(make_job(order="leave 3"), 6, plan, Spool(tmp_path))
    assert seen(later.wait()).cause == "internal_error"
    later.close()


def test_a_child_that_cannot_be_launched_is_our_fault(tmp_path):
    (tmp_path / "jobs").write_text("not a folder")
    plan = ExecutionPlan(workspace=tmp_path)
    with pytest.raises(OSError, match="jobs") as raised:
        Execution(make_job(), 1, plan, Spool(tmp_path))
    assert not_launched(make_job(), raised.value).cause == "internal_error"
    assert not_launched(make_job(), OSError(28, "full")).cause == "no_space"


def descriptors(pid):
    return {entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()}


def test_only_what_is_given_is_inherited(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kept, not_kept = os.pipe()
    os.set_inheritable(not_kept, True)  # noqa: FBT003 - its only parameter
    plan = ExecutionPlan(workspace=tmp_path, executor=EXECUTOR)
    execution = Execution(make_job(order="sleep 600"), 1, plan, Spool(tmp_path), (kept,))
    inherited = descriptors(execution.pid)
    execution.end()
    execution.close()
    os.close(kept)
    os.close(not_kept)
    assert str(kept) in inherited
    assert str(not_kept) not in inherited
