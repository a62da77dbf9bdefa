"""One child: launched, timed, killed, explained."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from gpu_runner.execution import Execution, ExecutionPlan, not_launched
from gpu_runner.spool import Spool
from gpu_runner.supervisors import Supervisors
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


@pytest.fixture(scope="module", params=["spawned", "forked"])
def supervisors(request):
    """Both ways in which a supervisor comes to be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        if request.param == "spawned":
            yield Supervisors()
            return
        with Supervisors().prepared(EXECUTOR) as prepared:
            assert prepared.wait_ready()
            yield prepared


@pytest.fixture
def start(tmp_path, supervisors):
    plan = ExecutionPlan(workspace=tmp_path, executor=EXECUTOR, grace_s=0.1)
    begun = []

    def start(order, *, token=5, inherited=(), **changes):
        job = make_job(order=order, **changes)
        begun.append(Execution(job, token, plan, Spool(tmp_path), inherited, supervisors))
        return begun[-1]

    yield start
    for execution in begun:
        execution.end()
        execution.close()


def test_an_execution_gives_its_outcome_and_cleans_up(start, tmp_path):
    execution = start("answer")
    assert execution.wait() == make_built()
    assert seen(Spool(tmp_path).find("job")).token == 5
    assert not is_alive(execution.pid)
    assert (tmp_path / "logs" / "job.log").read_text() == ""


def test_a_job_that_hangs_past_its_time_is_killed(start, tmp_path):
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
    assert seen(start("leave 3", token=6).wait()).cause == "internal_error"


def test_a_child_that_cannot_be_launched_is_our_fault(tmp_path):
    (tmp_path / "jobs").write_text("not a folder")
    plan = ExecutionPlan(workspace=tmp_path)
    with pytest.raises(OSError, match="jobs") as raised:
        Execution(make_job(), 1, plan, Spool(tmp_path))
    assert not_launched(make_job(), raised.value).cause == "internal_error"
    assert not_launched(make_job(), OSError(28, "full")).cause == "no_space"


def opened(pid):
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(entry.readlink())
    return found


def test_only_what_is_given_is_inherited(start, tmp_path):
    kept, not_kept = tmp_path / "kept", tmp_path / "not kept"
    with kept.open("w") as given, not_kept.open("w") as other:
        os.set_inheritable(other.fileno(), True)  # noqa: FBT003 - its only parameter
        execution = start("sleep 600", inherited=(given.fileno(),))
        inherited = opened(execution.pid)
    assert kept in inherited
    assert not_kept not in inherited


async def test_a_child_leads_a_session_of_its_own(start):
    execution = start("sleep 600")
    await until(lambda: os.getsid(execution.pid) == execution.pid)
