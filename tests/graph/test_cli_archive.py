"""`kernelpilot-runner export`, `import`, and whole journeys with `execute` between them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from gpu_runner.archive_content import read_results
from graph.run_files import RunFiles
from graph.targets import TARGETS
from tests.builders import SOFTMAX_CPP
from tests.gpu_runner.executors import executions
from tests.graph.builders import make_manifest
from tests.graph.processes import ROOT, environment, kernelpilot, only_json, write_script

NOTHING = {"PYTHONPATH": str(ROOT)}
"""The environment of the machine far away."""
SMALL = {"sittings": 5, "most_sittings": 5, "pairs": 12, "most_pairs": 12, "most_s": 0.05}


def runner(*arguments, cwd, env=None, timeout=100):
    """Run `kernelpilot-runner` as its console script does."""
    return subprocess.run(
        [sys.executable, "-m", "graph.cli_archive", *map(str, arguments)],
        cwd=cwd,
        env=environment() if env is None else env,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def told_by(*arguments, cwd, env=None, code=0):
    """The one JSON object that a command printed."""
    ended = runner(*arguments, "--json", cwd=cwd, env=env)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return only_json(ended)


@pytest.fixture
def tiny(tmp_path):
    """Softmax of a few rows, on a processor, with one baseline."""
    document = yaml.safe_load((TARGETS / "softmax.yaml").read_text())
    document["problem"]["profiles"] = ["normal", "large"]
    document["baselines"] = document["baselines"][:1]
    document["devices"] = {
        "cpu": {
            "dtypes": {"T": "float32"},
            "threads": 1,
            "languages": ["cpp"],
            "workloads": [{"name": "small", "axes": {"B": 8, "N": 64}}],
            "hidden": [{"name": "odd", "axes": {"B": 3, "N": 5}}],
        }
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "k.cpp").write_text(SOFTMAX_CPP)
    return tmp_path


# -- whole journeys with real jobs -----------------------------------------------------------------


def killed_in(folder, archive, kind):
    """Start `execute`, and kill it with SIGKILL while a job of this kind runs."""
    work = folder / archive.replace(".zip", ".work")
    with subprocess.Popen(
        [sys.executable, "-m", "graph.cli_archive", "execute", archive],
        cwd=folder,
        env=NOTHING,
        stderr=subprocess.DEVNULL,
    ) as running:
        give_up_s = time.monotonic() + 60
        while not any(f"-{kind}" in job_id for job_id in executions(work, "started")):
            assert time.monotonic() < give_up_s, "waited in vain"
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    return executions(work)


def test_a_candidate_is_judged_far_away_whoever_is_killed_meanwhile(tiny):
    claim = f"bench.claim={json.dumps(SMALL)}"
    sent = told_by(
        "export", "tiny.yaml", "--candidate", "k.cpp", "-o", "a.zip", "--set", claim, cwd=tiny
    )
    assert sorted(sent["jobs"].values()) == ["admit", "bench", "check"]
    finished = killed_in(tiny, "a.zip", "check")
    assert [job_id.rpartition("-")[2] for job_id in finished] == ["admit"]
    finished = killed_in(tiny, "a.zip", "bench")
    assert [job_id.rpartition("-")[2] for job_id in finished] == ["admit", "check"]
    ran = told_by("execute", "a.zip", cwd=tiny, env=NOTHING)
    assert (ran["ended"], ran["kept"], ran["unserved"]) == (3, 2, 0)
    assert len(executions(tiny / "a.work")) == 3, "no job finished twice"

    brought = told_by("import", "a.results.zip", cwd=tiny)
    assert (brought["origin"], brought["new"]) == (sent["origin"], 3)
    (found,) = brought["verdicts"]["evaluations"]["k.cpp"]
    assert found["sittings"] == 5
    record = tiny / "runs" / ".batches" / sent["origin"] / "records" / f"{found['record_id']}.json"
    outcomes = read_results(tiny / "a.results.zip").outcomes
    benched = next(one.outcome for one in outcomes.values() if one.outcome.kind == "benched")
    assert benched.kind == "benched"
    assert json.loads(record.read_bytes()) == benched.record.model_dump(mode="json")
    again = told_by("import", "a.results.zip", cwd=tiny)
    assert (again["new"], again["known"], again["verdicts"]) == (0, 3, brought["verdicts"])


def test_a_run_of_a_target_goes_on_with_what_is_imported(tiny):
    script = write_script(tiny / "team.yaml", SOFTMAX_CPP)
    team = ("--set", f"team.name=scripted:{script}", "--set", "target.scope.lanes=1")
    sent = told_by("export", "tiny.yaml", "-o", "1.zip", *team, cwd=tiny)
    run = sent["origin"]
    assert sent["jobs"] == {f"{run}-admit-t0": "admit"}
    for number, kind in enumerate(("admit", "build"), start=1):
        assert told_by("execute", f"{number}.zip", cwd=tiny, env=NOTHING)["kept"] == 0
        assert told_by("import", f"{number}.results.zip", cwd=tiny)["waiting"] == 0
        resumed = kernelpilot("resume", run, "--json", cwd=tiny)
        assert (resumed.returncode, only_json(resumed)["exit_reason"]) == (8, "waiting")
        if kind == "admit":
            assert list(told_by("export", run, "-o", "2.zip", cwd=tiny)["jobs"].values()) == [
                "build"
            ]
    files = RunFiles(tiny / "runs" / run)
    assert files.read_manifest().environment.cores == os.cpu_count()
    ended = [event.outcome for event in files.events.read() if event.kind == "job_finished"]
    assert ended == ["admitted", "built"]
    again = runner("import", "1.results.zip", cwd=tiny)
    assert "0 new outcomes" in again.stdout
    assert "1 known before; still waiting: 1 job" in again.stdout
    assert f"`kernelpilot resume {run}` goes on" in again.stdout


# -- words and refusals ----------------------------------------------------------------------------


@pytest.fixture
def batch(tmp_path):
    """A batch that was exported to `a.zip`, and its results, of the scenario executor."""
    (tmp_path / "k.cpp").write_text("// us=50\n")
    sent = told_by(
        *("export", "softmax", "--device", "cpu", "--candidate", "k.cpp", "-o", "a.zip"),
        cwd=tmp_path,
    )
    ran = runner("execute", "a.zip", "--executor", "tests.graph.pool:execute", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    return sent["origin"]


def test_a_person_reads_what_to_do_next(batch, tmp_path):
    shown = runner("export", batch, cwd=tmp_path)
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(f"{batch}.zip: 4 jobs of {batch}, ")
    assert lines[1] == f"on the other machine: kernelpilot-runner execute {batch}.zip"
    assert (tmp_path / f"{batch}.zip").read_bytes() == (tmp_path / "a.zip").read_bytes()
    shown = runner("import", "a.results.zip", cwd=tmp_path)
    assert "4 new outcomes from" in shown.stdout
    assert "k.cpp vs torch eager: FASTER: claim of" in shown.stdout
    shown = runner("export", batch, cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert f"no job of {batch} waits in" in shown.stderr


def test_results_can_be_imported_elsewhere_and_only_where_they_belong(batch, tmp_path):
    (tmp_path / "runs").rename(tmp_path / "moved")
    shown = runner("import", "a.results.zip", cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert f"no run '{batch}' in runs" in shown.stderr
    folder = tmp_path / "moved" / ".batches" / batch
    told = told_by("import", "a.results.zip", "--into", folder, cwd=tmp_path)
    assert told["new"] == 4
    other = told_by(
        *("export", "softmax", "--device", "cpu", "--candidate", "k.cpp", "-o", "b.zip"),
        cwd=tmp_path,
    )
    shown = runner("import", "a.results.zip", "--into", other["origin"], cwd=tmp_path)
    assert shown.returncode == 2
    assert "which never went out from" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("export", "nothing"), "no run 'nothing' in runs"),
        (("export", "latest"), "the jobs of softmax-1 are not carried"),
        (("export", "softmax"), "name its device, --device cpu or cuda"),
        (("export", "softmax-1", "--candidate", "k.cpp"), "--candidate belongs to a target"),
        (("export", "softmax", "--set", "run.nope=1"), "run.nope"),
        (("import", "missing.zip"), "cannot read missing.zip: No such file"),
        (("import", "empty.zip"), "empty.zip is damaged or was cut short"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, arguments, text):
    RunFiles(tmp_path / "runs" / "softmax-1").write_manifest(make_manifest(run_id="softmax-1"))
    (tmp_path / "empty.zip").write_bytes(b"")
    shown = runner(*arguments, cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert text in " ".join(shown.stderr.replace("│", " ").split())
    assert "Traceback" not in shown.stderr


def test_the_console_script_has_every_command_and_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from graph.cli_archive import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    for command in ("broker", "worker", "run-job", "execute", "export", "import", "doctor"):
        assert command in shown.stdout
    loaded = {name.partition(".")[0] for name in shown.stdout.splitlines()[-1].split()}
    assert not loaded & {"torch", "numpy", "zmq", "pydantic", "langgraph", "chromadb"}


def test_an_evaluation_waits_for_no_archive(tmp_path):
    (tmp_path / "k.cpp").write_text("// us=50\n")
    shown = kernelpilot(
        *("evaluate", "softmax", "k.cpp", "--device", "cpu", "--set", "pool.endpoint=archive"),
        cwd=tmp_path,
    )
    assert shown.returncode == 2
    assert "kernelpilot-runner export softmax --candidate FILE" in shown.stderr


def test_the_packaged_script_begins_where_export_is():
    scripts = (Path(ROOT) / "pyproject.toml").read_text()
    assert 'kernelpilot-runner = "graph.cli_archive:main"' in scripts
