"""Jobs of an archive: run in children as by a worker, each once, whatever ends the process."""

import os
import threading
import time
from contextlib import contextmanager

import pytest

from gpu_runner.archive_content import read_results
from gpu_runner.archive_execute import make_folder
from gpu_runner.errors import ArchiveError
from gpu_runner.jobs import Unserved
from gpu_runner.message import digest_of
from gpu_runner.spool import Spool
from tests.builders import make_environment
from tests.gpu_runner.archive_run import Request, run_archive
from tests.gpu_runner.executors import executions, is_alive, make_built, make_job, seen


@pytest.fixture
def run(tmp_path):
    """Run jobs in one workspace; returns what was done and the lines that were told."""
    never, keep = os.pipe()

    def run(*jobs, stop=never, **changes):
        return run_archive(Request(jobs=jobs, folder=tmp_path, stop=stop, **changes))

    yield run
    for descriptor in (never, keep):
        os.close(descriptor)


def test_every_job_is_run_in_a_child_of_its_own_and_packed(run, tmp_path):
    jobs = (make_job("a"), make_job("b", "reject"), make_job("c", "unfit"))
    done, lines = run(*jobs)
    assert [outcome.kind for outcome in done.outcomes.values()] == ["built", "rejected", "unfit"]
    assert (done.jobs, done.kept, done.unserved, done.is_stopped) == (3, 0, (), False)
    assert [line.split(" ", 1)[1] for line in lines] == [
        "1/3 build a: started",
        "1/3 build a: built",
        "2/3 build b: started",
        "2/3 build b: rejected (build, compile_failed): a semicolon is missing",
        "3/3 build c: started",
        "3/3 build c: unfit target: the reference raises",
    ]
    results = read_results(done.results)
    assert results.origin == "a-run"
    assert results.environment == make_environment()
    for job in jobs:
        assert results.outcomes[job.job_id].spec_digest == digest_of(job)
        content = (tmp_path / "work" / "spool" / f"{job.job_id}.json").read_bytes()
        assert results.contents[job.job_id] == content


def test_what_has_finished_is_not_run_again(run, tmp_path):
    run(make_job("a"))
    first = (tmp_path / "results.zip").read_bytes()
    done, lines = run(make_job("a"), make_job("b"))
    assert (done.kept, len(done.outcomes)) == (1, 2)
    assert lines[0].endswith("1/2 build a: built (before)")
    assert executions(tmp_path / "work") == ["a", "b"]
    done, _ = run(make_job("a"))
    assert done.results.read_bytes() == first


def test_what_was_not_served_is_tried_again(run, tmp_path):
    done, _ = run(make_job("a", "tool"))
    assert [one.cause for one in done.unserved] == ["no_tool"]
    assert read_results(done.results).outcomes["a"].outcome == done.outcomes["a"]
    done, lines = run(make_job("a", "tool"))
    assert lines[0].endswith("started")
    assert executions(tmp_path / "work", "started") == ["a", "a"]
    assert seen(Spool(tmp_path / "work").read("a")).token == 2


def test_a_job_whose_child_dies_is_explained_and_the_next_one_runs(run):
    done, _ = run(make_job("a", "leave 3"), make_job("b"))
    assert "exit code 3; its log: last words" in seen(done.outcomes["a"]).message
    assert done.outcomes["b"] == make_built("b")
    packed = read_results(done.results).outcomes["a"]
    assert (packed.outcome, packed.token) == (done.outcomes["a"], 0)


def test_an_outcome_is_told_in_one_line(run):
    _, lines = run(make_job("a", "raise it"))
    assert lines[1].endswith("unserved (internal_error): KeyError: 'it'")


def test_a_job_over_its_time_is_killed(run):
    done, _ = run(make_job("a", "sleep 600", timeout_s=0.5), make_job("b"))
    assert seen(done.outcomes["a"]).cause == "timed_out"
    assert done.outcomes["b"] == make_built("b")


@pytest.mark.processes
def test_nothing_of_a_job_outlives_it(run, tmp_path):
    done, _ = run(make_job("a", "fork 0.2"))
    assert done.outcomes["a"] == make_built("a")
    assert not is_alive(int((tmp_path / "work" / "daemon").read_text()))


def test_a_long_job_is_heard_of(run):
    _, lines = run(make_job("a", "sleep 0.4"), heartbeat_s=0.05)
    assert any("1/1 build a: running for" in line for line in lines[1:-1])


@contextmanager
def stopped_when(is_due):
    """A descriptor that gets readable when it is time to stop."""
    readable, writable = os.pipe()

    def watch():
        give_up_s = time.monotonic() + 30
        while not is_due() and time.monotonic() < give_up_s:
            time.sleep(0.02)
        os.write(writable, b"\x0f")

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield readable
    finally:
        watcher.join()
        os.close(readable)
        os.close(writable)


def test_a_stop_keeps_what_has_finished(run, tmp_path):
    work = tmp_path / "work"
    jobs = (make_job("a"), make_job("b", "await go"), make_job("c"))
    with stopped_when(lambda: "b" in executions(work, "started")) as stop:
        done, lines = run(*jobs, stop=stop)
    assert done.is_stopped
    assert list(done.outcomes) == ["a"]
    assert lines[-1].endswith("2/3 build b: stopped; the same command goes on with it")
    assert list(read_results(done.results).outcomes) == ["a"]
    (work / "go").touch()
    done, _ = run(*jobs)
    assert (done.kept, len(done.outcomes), done.is_stopped) == (1, 3, False)
    assert executions(work) == ["a", "b", "c"]


def test_an_outcome_of_another_job_in_the_workspace_runs_nothing(run, tmp_path):
    run(make_job("a"))
    with pytest.raises(
        ArchiveError, match=r"outcome of another job a, .* name another --workspace"
    ):
        run(make_job("b"), make_job("a", "sleep 600"))
    assert executions(tmp_path / "work") == ["a"]


def test_a_child_that_cannot_be_started_is_our_fault(run, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "jobs").write_text("no folder")
    done, _ = run(make_job("a"))
    assert seen(done.outcomes["a"]).cause == "internal_error"
    assert read_results(done.results).outcomes["a"].outcome == done.outcomes["a"]


def test_a_device_that_must_not_be_used_ends_the_archive(run):
    done, lines = run(make_job("a", "variable X"), make_job("b"), executor=f"{__name__}:unhealthy")
    assert list(done.outcomes) == ["a"]
    assert lines[-1].endswith("no further job is run: the device must not be measured on")
    assert list(read_results(done.results).outcomes) == ["a"]


def unhealthy(job, workspace):
    """Stand for a job that finds its GPU broken."""
    return Unserved(
        job_id=job.job_id, cause="unhealthy_device", message="Xid 79", is_retryable=True
    )


def test_a_workspace_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="name another --workspace"):
        make_folder(tmp_path / "file" / "work")
    assert make_folder(tmp_path / "a" / "b").is_dir()
