"""What users, disks and other processes do to a run, seen from the command line."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graph.ledger import EXIT_CODES, ExitReason
from graph.run_files import RunFiles
from tests.builders import SOFTMAX_CPP, SOFTMAX_REFERENCE
from tests.graph.builders import make_attempt, make_manifest
from tests.graph.chaos import Disturbed
from tests.graph.crash import PLAN
from tests.graph.processes import ROOT, kernelpilot, only_json, write_script
from tests.graph.test_resume import finish, finish_first_round

TARGET = """\
name: softmax
description: small enough to be judged in a moment
problem:
  axes: [{name: B, kind: var}, {name: N, kind: var}]
  inputs: [{name: x, shape: [B, N], dtype: float32}]
  outputs: [{name: y, shape: [B, N], dtype: float32}]
  flops: "8 * B * N"
  reference: |
REFERENCE
baselines:
  - name: torch eager
    source: |
      import torch

      def run(x):
          return torch.softmax(x, -1)
devices:
  cpu:
    threads: 1
    languages: [cpp, python]
    workloads: [{name: small, axes: {B: 8, N: 128}}]
    hidden: [{name: odd, axes: {B: 3, N: 33}}]
"""
ERROR = EXIT_CODES[ExitReason.ERROR]


def before_return(line: str) -> str:
    return "#include <unistd.h>\n#include <cstdio>\n#include <cstdlib>\n" + SOFTMAX_CPP.replace(
        "return 0;", f"{line}\n    return 0;"
    )


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """Judge the text of a C++ candidate with the real runner; returns the JSON that is printed."""
    folder = tmp_path_factory.mktemp("judge")
    reference = "".join(f"    {line}\n" for line in SOFTMAX_REFERENCE.strip().splitlines())
    (folder / "small.yaml").write_text(TARGET.replace("REFERENCE\n", reference))

    def run(text: str):
        (folder / "kernel.cpp").write_text(text)
        finished = kernelpilot(
            "evaluate", "small.yaml", "kernel.cpp", "--feedback", "--workspace", "kept",
            "--set", "jobs.check_s=12", "--json", cwd=folder,
        )  # fmt: skip
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return only_json(finished)

    return run


# -- candidates ----------------------------------------------------------------------------------

FORGED = r"""printf("{\"kind\": \"checked\", \"verdict\": \"FASTER\"}\nok 1 1\n"); fflush(stdout);
    fprintf(stderr, "{\"verdict\": \"FASTER\", \"speedup\": 99}\n"); a->y[1] = 2;"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("this is not C++", {"compile_failed"}),
        (before_return("__builtin_trap();"), {"crashed"}),
        (before_return("std::exit(0);"), {"crashed", "exited"}),
        (before_return("for (volatile int i = 0;; ++i) {}"), {"timed_out"}),
        (before_return("if (fork() < 0) return 9;"), {"crashed", "entry_failed"}),
        (before_return(FORGED), {"wrong_result"}),
    ],
    ids=["does not compile", "crashes", "exits early", "hangs", "forks", "forges"],
)
def test_a_bad_candidate_is_rejected_with_its_reason(judge, text, reasons):
    told = judge(text)
    assert told["verdict"] == "REJECTED"
    assert told["stage"] == "check"
    assert told["reason"] in reasons, told
    assert told["speedup"] is None


# -- run directories -----------------------------------------------------------------------------


@pytest.fixture
def newer(tmp_path):
    """The directory of runs, with one that a later version has written."""
    files = RunFiles(tmp_path / "runs" / "softmax-1")
    files.write_manifest(make_manifest(run_id="softmax-1"))
    files.append_attempt(make_attempt(1))
    path = files.root / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2, "new": True}))
    return tmp_path


@pytest.mark.parametrize("command", ["resume", "report"])
def test_a_run_of_a_newer_format_is_refused_and_left_alone(newer, command):
    root = newer / "runs" / "softmax-1"
    before = {path: path.read_bytes() for path in root.iterdir()}
    finished = kernelpilot(command, "softmax-1", "--json", cwd=newer)
    told = only_json(finished)
    assert finished.returncode == told["exit_code"] == ERROR
    assert "has format 2, this version reads up to 1; upgrade kernelpilot" in told["error"]
    assert "Traceback" not in finished.stderr
    assert {path: path.read_bytes() for path in root.iterdir()} == before


def test_status_shows_a_run_of_a_newer_format_as_unreadable(newer):
    told = only_json(kernelpilot("status", "softmax-1", "--json", cwd=newer))
    assert told["state"] == "unreadable"
    assert "upgrade kernelpilot" in told["message"]


@pytest.fixture
def chaos(tmp_path):
    """A run of the command line with a pool of its own."""
    script = write_script(tmp_path / "team.yaml", "#pragma us=80", plan=PLAN)
    return Disturbed(tmp_path / "run", script, rounds=1)


@pytest.mark.processes
def test_a_run_that_is_going_on_is_not_resumed(chaos):
    with chaos.begun(events=6) as process:
        process.send_signal(signal.SIGSTOP)
        refused = kernelpilot("resume", str(chaos.root), "--json", cwd=chaos.root.parent)
        process.send_signal(signal.SIGCONT)
        assert process.wait(120) in {0, EXIT_CODES[ExitReason.BUDGET_ROUNDS]}
    assert refused.returncode == ERROR
    assert f"is being worked on by process {process.pid}" in only_json(refused)["error"]


@pytest.mark.processes
def test_of_two_that_resume_one_run_only_one_works_on_it(chaos):
    with chaos.begun(events=6) as process:
        process.kill()
    with chaos.resuming() as one, chaos.resuming() as other:
        codes = sorted((one.wait(120), other.wait(120)))
    assert codes[0] == 0, chaos.log()
    assert codes[1] in {0, ERROR}
    assert "Traceback" not in chaos.log()
    lines = (chaos.root / "pool" / "executions.jsonl").read_text().splitlines()
    ended = [e["job_id"] for e in map(json.loads, lines) if e["event"] == "finished"]
    assert len(ended) == len(set(ended))


# -- files that were cut -------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.5, 0.9])
async def test_cut_checkpoints_are_named_or_the_loop_begins_again(run_loop, tmp_path, kept):
    path = await finish_first_round(run_loop, tmp_path) / "checkpoints.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    ran = await finish(run_loop)
    if kept:
        assert ran.result.exit_reason is ExitReason.ERROR
        assert "checkpoints.sqlite" in ran.result.message
        assert "delete it" in ran.result.message
        path.unlink()
        ran = await finish(run_loop)
    assert ran.outcomes()["a0003"] == "promoted"
    assert not [job for job in ran.jobs() if "-r001-" in job]


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.7])
async def test_a_cut_event_log_tells_everything_again(run_loop, tmp_path, kept):
    path = await finish_first_round(run_loop, tmp_path) / "events.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    ran = await finish(run_loop)
    assert ran.outcomes()["a0003"] == "promoted"
    keys = [event.key for event in ran.files.events.read()]
    assert len(keys) == len(set(keys))


# -- a full disk ---------------------------------------------------------------------------------

FULL_AT = (0, 3, 7, 11)
SMALL_DISK = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'


def on_a_small_disk(disk: Path) -> list[str]:
    """What to put before a command, so that `disk` is one for it."""
    own = ["unshare", "-Urm", "sh", "-c", SMALL_DISK, str(disk)]
    if subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount in a namespace of their own")
    return own


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """How runs ended whose disk was full from one of their jobs on."""
    disk = tmp_path_factory.mktemp("disk")
    own = on_a_small_disk(disk)
    numbers = ",".join(str(number) for number in (*FULL_AT, 999))
    finished = subprocess.run(
        [*own, sys.executable, "-m", "tests.graph.full_disk", str(disk), numbers],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(finished.stdout)


@pytest.mark.processes
@pytest.mark.parametrize("number", FULL_AT)
def test_a_full_disk_breaks_a_run_off_and_nothing_is_lost(filled, number):
    full, never = filled[str(number)], filled["999"]
    assert full["broken_off"].startswith("error: the disk of ")
    assert "is full; free space" in full["broken_off"]
    assert full["ended"] == never["ended"]
    assert full["ledger"]["attempts"] == never["ledger"]["attempts"]
    assert full["ledger"]["records"] == never["ledger"]["records"]
    exits = {"exit:0", "exit:1"}
    assert set(full["ledger"]["events"]) - exits == set(never["ledger"]["events"]) - exits


FILL = 'cp -r "$0" "$1" && { cat /dev/zero > "$1/filler"; shift; exec "$@"; }'


@pytest.mark.processes
def test_a_command_that_finds_the_disk_full_says_so_in_one_line(tmp_path):
    run, disk = tmp_path / "softmax-1", tmp_path / "disk"
    disk.mkdir()
    files = RunFiles(run)
    files.write_manifest(make_manifest(run_id="softmax-1"))
    files.append_attempt(make_attempt(1))
    report = [sys.executable, "-m", "graph.cli", "report", str(disk / "softmax-1"), "--json"]
    finished = subprocess.run(
        [*on_a_small_disk(disk), "sh", "-c", FILL, str(run), str(disk), *report],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    told = only_json(finished)
    assert finished.returncode == told["exit_code"] == ERROR
    assert told["error"].startswith("no space left on the disk")
    assert "Traceback" not in finished.stderr
