"""`kernelpilot-runner execute`, as somebody runs it on a machine that has nothing else."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_runner.archive_content import read_results, write_jobs, write_results
from gpu_runner.child import DEFAULT_EXECUTOR
from gpu_runner.cli_archive import _EXECUTOR
from gpu_runner.jobs import Build, Check
from tests.builders import make_candidate, make_environment, make_problem, make_workload
from tests.gpu_runner.executors import EXECUTOR, executions, is_alive, make_job, until

ROOT = Path(__file__).parents[2]


def command(*arguments):
    return [sys.executable, "-m", "gpu_runner.cli", "execute", *map(str, arguments)]


def run(*arguments, environment=None, cwd=None):
    """Run it with nothing in the environment but where the program is."""
    return subprocess.run(
        command(*arguments),
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment or {"PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def archive(tmp_path):
    def write(*jobs, name="jobs.zip"):
        write_jobs(tmp_path / name, "a-run", jobs)
        return tmp_path / name

    return write


def test_an_archive_is_run_and_its_results_lie_beside_it(archive, tmp_path):
    path = archive(make_job("a"), make_job("b", "reject"))
    shown = run(path, "--executor", EXECUTOR)
    assert shown.returncode == 0, shown.stderr
    remedy = "kernelpilot-runner import jobs.results.zip"
    assert shown.stdout.splitlines() == [
        "2 of 2 jobs ended, 0 of them before",
        f"results: {path.parent}/jobs.results.zip; at home: {remedy}",
    ]
    assert [line.partition("] ")[2] for line in shown.stderr.splitlines()] == [
        "1/2 build a: started",
        "1/2 build a: built",
        "2/2 build b: started",
        "2/2 build b: rejected (build, compile_failed): a semicolon is missing",
    ]
    found = read_results(tmp_path / "jobs.results.zip")
    assert {job_id: one.outcome.kind for job_id, one in found.outcomes.items()} == {
        "a": "built",
        "b": "rejected",
    }
    assert found.environment.cores == os.cpu_count()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "jobs.results.zip",
        "jobs.work",
        "jobs.zip",
    ]


def test_a_summary_for_machines_is_one_object(archive, tmp_path):
    path = archive(make_job("a"), make_job("b", "tool"))
    results, work = tmp_path / "out" / "r.zip", tmp_path / "w"
    results.parent.mkdir()
    shown = run(path, "-o", results, "--workspace", work, "--json", "--executor", EXECUTOR)
    assert shown.returncode == 3
    assert json.loads(shown.stdout) == {
        "results": str(results),
        "workspace": str(work),
        "jobs": 2,
        "ended": 2,
        "kept": 0,
        "unserved": 1,
        "is_stopped": False,
        "outcomes": {"a": "built", "b": "unserved"},
    }
    again = json.loads(run(path, "--workspace", work, "--json", "--executor", EXECUTOR).stdout)
    assert (again["kept"], again["unserved"]) == (1, 1)


def test_a_person_is_told_what_to_do_about_what_was_not_served(archive):
    shown = run(archive(make_job("b", "tool")), "--executor", EXECUTOR)
    assert shown.returncode == 3
    assert "1 could not be served; put right what their lines say" in shown.stdout
    assert "unserved (no_tool): g++ is not installed; apt-get install g++" in shown.stderr


def test_real_jobs_need_no_environment_at_all(archive, tmp_path):
    """A C++ softmax: built, and checked against its oracle, in the sandbox of this machine."""
    values = {"problem": make_problem(), "candidate": make_candidate(), "timeout_s": 120.0}
    jobs = (
        Build(job_id="r-build", **values),
        Check(job_id="r-check", workloads=(make_workload(),), **values),
    )
    shown = run(archive(*jobs), environment={})
    assert shown.returncode == 0, shown.stderr
    found = read_results(tmp_path / "jobs.results.zip")
    assert [one.outcome.kind for one in found.outcomes.values()] == ["built", "checked"]


def test_no_transport_is_loaded(archive):
    path = archive(make_job())
    code = (
        "import sys\n"
        "from gpu_runner.cli import app\n"
        f"sys.argv = ['x', 'execute', {str(path)!r}, '--executor', {EXECUTOR!r}]\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in shown.stdout.splitlines()[-1].split()}
    assert not loaded & {"zmq", "torch", "langgraph", "graph", "agents"}


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "No such file"), (b"", "damaged or was cut short"), (b"PK", "damaged")],
)
def test_a_file_that_is_no_archive_exits_2_and_leaves_nothing(tmp_path, content, text):
    path = tmp_path / "jobs.zip"
    if content is not None:
        path.write_bytes(content)
    shown = run(path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert text in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
    assert {entry.name for entry in tmp_path.iterdir()} <= {"jobs.zip"}


def test_results_are_not_run_and_do_not_replace_the_jobs(archive, tmp_path):
    write_results(tmp_path / "results.zip", "a-run", make_environment(), {})
    shown = run(tmp_path / "results.zip")
    assert shown.returncode == 2
    assert "kernelpilot-runner import" in shown.stderr
    path = archive(make_job())
    before = path.read_bytes()
    shown = run(path, "-o", path)
    assert shown.returncode == 2
    assert "results need a file of their own" in " ".join(shown.stderr.replace("│", "").split())
    assert path.read_bytes() == before


def test_results_that_cannot_be_written_are_kept_in_the_workspace(archive, tmp_path):
    path = archive(make_job())
    shown = run(path, "-o", tmp_path / "missing" / "r.zip", "--executor", EXECUTOR)
    assert shown.returncode == 2
    assert "name another place with -o" in shown.stderr
    shown = run(path, "--json", "--executor", EXECUTOR)
    assert json.loads(shown.stdout)["kept"] == 1


def test_both_names_of_the_executor_are_one():
    assert _EXECUTOR == DEFAULT_EXECUTOR


# -- ends of all kinds -----------------------------------------------------------------------------


def begun(path):
    return subprocess.Popen(
        [*command(path), "--json", "--executor", EXECUTOR],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )


def child_of(work, job_id):
    """Process id of the job's child, from the log of executions."""
    lines = (work / "executions.jsonl").read_text().splitlines()
    return [e["pid"] for e in map(json.loads, lines) if e["job_id"] == job_id][-1]


@pytest.mark.processes
async def test_whoever_is_killed_goes_on_with_the_job_in_hand(archive, tmp_path):
    """Killed twice, in two different jobs; every job finishes once."""
    jobs = [make_job("a"), make_job("b", "await b"), make_job("c", "await c"), make_job("d")]
    path, work = archive(*jobs), tmp_path / "jobs.work"
    for waits_in, finished in (("b", ["a"]), ("c", ["a", "b"])):
        process = begun(path)
        await until(lambda job_id=waits_in: job_id in executions(work, "started"))
        child = child_of(work, waits_in)
        process.kill()
        process.communicate()
        await until(lambda pid=child: not is_alive(pid))
        assert executions(work) == finished
        assert not (tmp_path / "jobs.results.zip").exists()
        (work / waits_in).touch()
    shown = run(path, "--json", "--executor", EXECUTOR)
    told = json.loads(shown.stdout)
    assert (shown.returncode, told["kept"], told["ended"]) == (0, 2, 4)
    assert executions(work) == ["a", "b", "c", "d"]
    assert len(read_results(tmp_path / "jobs.results.zip").outcomes) == 4


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_writes_the_results_so_far(archive, tmp_path, number):
    path, work = archive(make_job("a"), make_job("b", "sleep 600")), tmp_path / "jobs.work"
    process = begun(path)
    await until(lambda: "b" in executions(work, "started"))
    child = child_of(work, "b")
    process.send_signal(number)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 5
    assert json.loads(said)["is_stopped"]
    assert not is_alive(child)
    assert list(read_results(tmp_path / "jobs.results.zip").outcomes) == ["a"]


@pytest.mark.processes
async def test_two_of_them_take_turns_in_one_workspace(archive, tmp_path):
    path, work = archive(make_job("a", "await go")), tmp_path / "jobs.work"
    first = begun(path)
    await until(lambda: "a" in executions(work, "started"))
    second = begun(path)
    await asyncio.sleep(1.0)  # it waits for the lock, or the log of executions shows what it ran
    (work / "go").touch()
    told = [json.loads(process.communicate(timeout=30)[0]) for process in (first, second)]
    assert [one["kept"] for one in told] == [0, 1]
    assert executions(work, "started") == ["a"]
