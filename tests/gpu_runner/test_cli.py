"""The command line, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gpu_runner.child import DEFAULT_EXECUTOR
from gpu_runner.cli import _EXECUTOR, app
from gpu_runner.jobs import OUTCOME
from tests.gpu_runner.bus_threads import Peer
from tests.gpu_runner.executors import EXECUTOR, make_built, make_job

ROOT = Path(__file__).parents[2]


def run(*arguments, **changes):
    return subprocess.run(
        [sys.executable, "-m", "gpu_runner.cli", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        **changes,
    )


@pytest.fixture
def job_file(tmp_path):
    def write(order="answer", **changes):
        path = tmp_path / "job.json"
        path.write_text(make_job(order=order, **changes).model_dump_json())
        return path

    return write


def test_help_names_every_command_and_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from gpu_runner.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for command in ("broker", "worker", "run-job", "doctor"):
        assert command in shown.stdout
    loaded = {name.partition(".")[0] for name in shown.stdout.splitlines()[-1].split()}
    assert not loaded & {"torch", "numpy", "zmq", "pydantic", "langgraph", "chromadb"}


def test_commands_hide_what_is_for_machines():
    shown = run("worker", "--help").stdout
    assert "--workspace" in shown
    assert "--executor" not in shown
    assert "--parent" not in shown


def test_a_job_by_hand_prints_its_outcome(job_file, tmp_path):
    shown = run("run-job", job_file(), "--executor", EXECUTOR, "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert OUTCOME.validate_json(shown.stdout) == make_built()
    workspace = tmp_path / "work"
    again = run("run-job", job_file(), "--executor", EXECUTOR, "--workspace", workspace)
    assert json.loads(again.stdout)["artefact_digest"] == "a" * 64
    assert (workspace / "logs" / "job.log").exists()


def test_a_job_by_hand_that_is_not_served_exits_3(job_file):
    shown = run("run-job", job_file("full"), "--executor", EXECUTOR)
    assert shown.returncode == 3
    assert shown.stdout.startswith("unserved (no_space): no space left on the disk")


def test_a_rejected_candidate_exits_1_and_an_unfit_target_3(job_file):
    shown = run("run-job", job_file("reject"), "--executor", EXECUTOR)
    assert shown.returncode == 1
    assert shown.stdout == "rejected (build, compile_failed): a semicolon is missing\nline 3\n"
    shown = run("run-job", job_file("unfit"), "--executor", EXECUTOR)
    assert (shown.returncode, shown.stdout) == (3, "unfit target: the reference raises\n")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "No such file"),
        (b"", "is not a job"),
        (b"\xff", "is not a job"),
        (b'{"kind": "paint"}', "is not a job"),
        (b'{"kind": "build", "job_id": "a"}', "build.problem: Field required"),
    ],
)
def test_a_file_that_is_no_job_exits_2_and_says_where(tmp_path, content, text):
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_bytes(content)
    shown = CliRunner().invoke(app, ["run-job", str(path)])
    assert shown.exit_code == 2
    assert text in " ".join(shown.stderr.replace("│", " ").split())


def test_an_error_of_the_bus_is_one_line(tmp_path):
    shown = run("broker", "--endpoint", "tcp://0.0.0.0:7766")
    assert shown.returncode == 3
    assert shown.stderr.startswith("kernelpilot-runner: endpoint 'tcp://0.0.0.0:7766'")
    assert len(shown.stderr.splitlines()) == 1


def test_the_doctor_says_what_is_missing_and_what_to_do():
    lines = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert lines
    assert all(line.keys() == {"name", "is_ok", "detail", "remedy"} for line in lines)
    assert all(line["is_ok"] or line["remedy"] for line in lines)
    assert lines[0]["name"] in CliRunner().invoke(app, ["doctor"]).stdout


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_broker_serves_until_it_is_told_to_stop(tmp_path, number):
    endpoint = f"ipc://{tmp_path}/bus"
    command = [sys.executable, "-m", "gpu_runner.cli", "broker", "--endpoint", endpoint]
    command += ["--state", str(tmp_path), "--beat-s", "0.1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as broker:
        with Peer(endpoint) as worker:
            worker.say_hello()
        broker.send_signal(number)
        _, log = broker.communicate()
        assert broker.returncode == 0
        assert "broker ends malformed={}" in log


def test_both_names_of_the_executor_are_one():
    assert _EXECUTOR == DEFAULT_EXECUTOR
