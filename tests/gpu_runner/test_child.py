"""The supervisor process: what each way to fail becomes."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu_runner.child import EXIT_NO_SPACE, execute_safely, is_disk_full, unserved_by
from gpu_runner.message import digest_of
from gpu_runner.spool import Spool
from tests.gpu_runner.executors import (
    EXECUTOR,
    executions,
    is_alive,
    make_built,
    make_job,
    seen,
)

ROOT = Path(__file__).parents[2]


def launch(job, workspace, *more):
    job_file = workspace / "job.json"
    job_file.write_text(job.model_dump_json())
    outcome_file = Spool(workspace).path(job.job_id)
    files = [str(job_file), str(outcome_file)]
    command = [sys.executable, "-m", "gpu_runner.child", *files, "--workspace", str(workspace)]
    command += ["--executor", EXECUTOR, "--token", "9", *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=subprocess.STDOUT, text=True)


def test_a_job_is_run_its_outcome_spooled_and_both_ends_logged(tmp_path):
    job = make_job()
    child = launch(job, tmp_path)
    output, _ = child.communicate()
    assert (child.returncode, output) == (0, "")
    spooled = seen(Spool(tmp_path).find("job"))
    assert (spooled.outcome, spooled.token) == (make_built(), 9)
    assert spooled.spec_digest == digest_of(job)
    lines = [json.loads(s) for s in (tmp_path / "executions.jsonl").read_text().splitlines()]
    entry = {"job_id": "job", "token": 9, "pid": child.pid}
    assert lines == [{**entry, "event": "started"}, {**entry, "event": "finished"}]


def test_what_was_not_served_is_not_logged_as_finished(tmp_path):
    child = launch(make_job(order="full"), tmp_path)
    child.communicate()
    assert executions(tmp_path) == []
    assert executions(tmp_path, "unserved") == ["job"]


@pytest.mark.parametrize(
    ("order", "cause", "is_retryable", "text"),
    [
        ("raise oops", "internal_error", False, "KeyError: 'oops'"),
        ("full", "no_space", True, "free some, then resume"),
        ("memory", "internal_error", True, "ran out of memory"),
        ("tool", "no_tool", True, "apt-get install g++"),
        ("mistake", "internal_error", False, "answered for 'another-job', not 'job'"),
        ("surrogate", "internal_error", False, "bad name"),
        ("unknown", "internal_error", False, "KeyError: 'unknown'"),
    ],
)
def test_an_exception_of_ours_becomes_an_outcome(tmp_path, order, cause, is_retryable, text):
    outcome = seen(execute_safely(make_job(order=order), EXECUTOR, tmp_path))
    assert (outcome.job_id, outcome.cause, outcome.is_retryable) == ("job", cause, is_retryable)
    assert text in outcome.message
    assert outcome.model_dump_json()


@pytest.mark.parametrize(
    "executor", ["no.such.module:run", "json:no_such", "nonsense", "json:dumps"]
)
def test_an_executor_that_cannot_be_used_is_our_fault(tmp_path, executor):
    outcome = seen(execute_safely(make_job(), executor, tmp_path))
    assert outcome.cause == "internal_error"


def test_the_traceback_is_shown_from_its_end():
    with pytest.raises(ValueError, match="x") as raised:
        raise ValueError("invalid literal for int() " + "x" * 20_000)
    outcome = unserved_by(raised.value, "job")
    assert outcome.message.startswith("ValueError: invalid literal for int()")
    assert outcome.message.endswith("x\n")
    assert len(outcome.message) < 10_000


def test_a_full_disk_is_seen_behind_another_error():
    error = RuntimeError("cannot build")
    error.__cause__ = OSError(28, "No space left on device")
    assert is_disk_full(error)
    assert unserved_by(error, "job").cause == "no_space"
    assert not is_disk_full(OSError(5, "I/O error"))
    assert not is_disk_full(None)


SMALL_DISK = 'mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@"'


def test_a_disk_full_at_the_last_step_has_its_exit_code(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    on_small_disk = ["unshare", "-Urm", "sh", "-c", SMALL_DISK, str(small)]
    if subprocess.run([*on_small_disk, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount in a namespace of their own")
    (tmp_path / "job.json").write_text(make_job(order="much 100000").model_dump_json())
    files = [str(tmp_path / "job.json"), str(small / "outcome.json")]
    command = [sys.executable, "-m", "gpu_runner.child", *files, "--workspace", str(tmp_path)]
    run = subprocess.run(
        [*on_small_disk, *command, "--executor", EXECUTOR],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == EXIT_NO_SPACE, run.stderr
    assert "No space left on device" in run.stderr
    assert executions(tmp_path) == []


@pytest.mark.processes
def test_sigterm_ends_a_child_with_what_it_started(tmp_path):
    child = launch(make_job(order="fork"), tmp_path)
    while not (tmp_path / "daemon").exists():
        assert child.poll() is None
        time.sleep(0.01)
    child.terminate()
    child.communicate()
    assert child.returncode == 128 + 15
    assert not is_alive(int((tmp_path / "daemon").read_text()))
    assert executions(tmp_path, "started") == ["job"]
    assert executions(tmp_path) == []


def test_what_a_finished_job_left_behind_is_ended(tmp_path):
    launch(make_job(order="fork 0.01"), tmp_path).communicate()
    assert executions(tmp_path) == ["job"]
    assert not is_alive(int((tmp_path / "daemon").read_text()))


def test_help_names_the_arguments_and_hides_what_is_for_machines():
    command = [sys.executable, "-m", "gpu_runner.child", "--help"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "JOB_FILE" in text
    assert "--executor" not in text
