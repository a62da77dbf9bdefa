"""The command line."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graph import cli
from graph.ledger import EXIT_CODES, ExitReason, RunResult
from graph.run_files import RunFiles
from graph.targets import target_names
from tests.builders import SOFTMAX_CPP
from tests.graph.builders import make_attempt, make_manifest
from tests.graph.processes import (
    ROOT,
    environment,
    kernelpilot,
    only_json,
    scenario_bus,
    write_script,
)

HEAVY = ("langgraph", "torch", "optuna", "chromadb", "anthropic", "openai", "langchain_core")


def imported_by(*arguments: str, cwd: Path) -> set[str]:
    """Heavy packages that a command has imported by the time it ends."""
    program = (
        "import sys\n"
        f"sys.argv = ['kernelpilot', *{list(arguments)!r}]\n"
        "from graph.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(finished.stdout.splitlines()[-1].split()[1:])


@pytest.fixture
def answer(monkeypatch, capsys):
    """Run `main` in this process; returns exit code, standard output and error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kernelpilot", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return run


def wait_for(is_true, patience_s: float = 60.0) -> None:
    give_up_s = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.02)


def runs_setting(folder: Path) -> tuple[str, str]:
    return ("--set", f"run.directory={folder}")


@pytest.fixture
def ended_run(tmp_path):
    """A runs directory with one run that ended."""
    files = RunFiles(tmp_path / "runs" / "softmax-1")
    files.write_manifest(make_manifest(run_id="softmax-1"))
    files.append_attempt(make_attempt(1))
    files.save_result(
        RunResult(
            run_id="softmax-1",
            exit_reason=ExitReason.PLATEAU,
            message="nothing more",
            rounds=1,
            attempts=1,
            wall_s=1,
            job_s=1,
        )
    )
    return tmp_path / "runs"


# -- what is loaded ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--help",), ("status",), ("targets",), ("run", "--help")])
def test_light_commands_load_nothing_heavy(tmp_path, arguments):
    assert imported_by(*arguments, cwd=tmp_path) == set()


# -- help ----------------------------------------------------------------------------------------


def test_every_command_has_help_and_json():
    commands = {
        command.callback.__name__ for command in cli.app.registered_commands if command.callback
    }
    assert commands == {
        "run",
        "resume",
        "status",
        "report",
        "targets",
        "evaluate",
        "doctor",
        "digest",
        "lessons",
        "costs",
        "pause",
        "hint",
        "veto",
        "pin",
        "cancel",
    }
    for command in commands:
        shown = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0
        assert "--json" in shown.output


# -- bad usage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "sofmax"), "unknown target 'sofmax'; did you mean 'softmax'"),
        (("run", "nowhere.yaml"), "does not exist"),
        (("run", "softmax", "--device", "tpu"), "unknown device 'tpu'"),
        (("run", "softmax", "--budget", "soon"), "write 300s"),
        (("run", "softmax", "--rounds", "0"), "budget.rounds"),
        (("run", "softmax", "--lanes", "99"), "scope.lanes"),
        (("run", "softmax", "--set", "loop.repair=1"), "did you mean 'repairs'"),
        (("run", "softmax", "--set", "target.budget.round=1"), "did you mean 'rounds'"),
        (("run", "softmax", "--team", "gpt"), "team.name"),
        (("run", "softmax", "--team", "scripted:/nowhere.yaml"), "No such file"),
        (("resume", "none"), "no run 'none'"),
        (("status", "none"), "no run 'none'"),
        (("report", "latest"), "no run 'latest'"),
        (("evaluate", "softmax", "nowhere.cpp"), "no such file"),
        (("evaluate", "softmax", "nowhere.cpp", "--sittings", "3"), "no such file"),
    ],
)
def test_what_a_user_got_wrong_is_one_line_and_code_2(answer, tmp_path, arguments, message):
    code, out, err = answer(*arguments, *runs_setting(tmp_path))
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_errors_are_json_where_json_is_asked_for(answer, tmp_path):
    code, out, _ = answer("run", "sofmax", "--json", *runs_setting(tmp_path))
    told = json.loads(out)
    assert code == told["exit_code"] == 2
    assert "did you mean" in told["error"]


def test_a_refused_run_leaves_no_directory_behind(answer, tmp_path):
    answer("run", "softmax", "--team", "scripted:/nowhere.yaml", *runs_setting(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_provider_without_its_key_is_refused_by_name(answer, tmp_path, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    code, _, err = answer("run", "softmax", "--team", "anthropic", *runs_setting(tmp_path))
    assert code == 2
    assert "ANTHROPIC_API_KEY" in err


def test_a_claim_of_too_few_sittings_is_refused(answer, tmp_path):
    (tmp_path / "k.cpp").write_text(SOFTMAX_CPP)
    kernel = str(tmp_path / "k.cpp")
    code, _, err = answer("evaluate", "softmax", kernel, "--sittings", "3", *runs_setting(tmp_path))
    assert code == 2
    assert "--feedback" in err


def test_an_unknown_baseline_suggests_the_nearest(answer, tmp_path):
    (tmp_path / "k.cpp").write_text(SOFTMAX_CPP)
    code, _, err = answer(
        "evaluate", "softmax", str(tmp_path / "k.cpp"), "--against", "torch eagr",
        *runs_setting(tmp_path),
    )  # fmt: skip
    assert code == 2
    assert "did you mean 'torch eager'" in err


# -- status, targets, report ---------------------------------------------------------------------


def test_status_of_nothing(answer, tmp_path):
    assert answer("status", *runs_setting(tmp_path))[1].startswith("no runs")
    assert json.loads(answer("status", "--json", *runs_setting(tmp_path))[1]) == {"runs": []}


def test_status_lists_runs_and_shows_one(answer, ended_run):
    listed = json.loads(answer("status", "--json", *runs_setting(ended_run))[1])["runs"]
    assert [run["run_id"] for run in listed] == ["softmax-1"]
    one = json.loads(answer("status", "soft", "--json", *runs_setting(ended_run))[1])
    assert (one["state"], one["exit_reason"]) == ("plateau", "plateau")
    assert "softmax-1" in answer("status", *runs_setting(ended_run))[1]
    assert "nothing more" in answer("status", "latest", *runs_setting(ended_run))[1]


def test_an_unreadable_run_does_not_hide_the_others(answer, ended_run):
    (ended_run / "broken").mkdir()
    (ended_run / "broken" / "run.json").write_text("{")
    listed = json.loads(answer("status", "--json", *runs_setting(ended_run))[1])["runs"]
    assert {run["run_id"]: run["state"] for run in listed} == {
        "softmax-1": "plateau",
        "broken": "unreadable",
    }


def test_targets_are_listed(answer):
    told = json.loads(answer("targets", "--json")[1])["targets"]
    assert [target["name"] for target in told] == list(target_names())
    assert "softmax" in answer("targets")[1]


def test_the_report_of_a_run_is_rendered_again(answer, ended_run):
    code, out, _ = answer("report", "latest", "--json", *runs_setting(ended_run))
    assert code == 0
    assert Path(json.loads(out)["report"]).read_text().lstrip().lower().startswith("<!doctype html")


def test_resuming_an_ended_run_tells_its_result(answer, ended_run):
    code, out, _ = answer("resume", "latest", "--json", *runs_setting(ended_run))
    assert code == EXIT_CODES[ExitReason.PLATEAU]
    assert json.loads(out)["exit_reason"] == "plateau"


def test_exit_codes_differ_except_for_success():
    failures = [code for code in EXIT_CODES.values() if code]
    assert len(failures) == len(set(failures))
    assert 2 not in failures
    assert set(EXIT_CODES) == set(ExitReason)


# -- whole commands over a real bus --------------------------------------------------------------


@pytest.fixture(scope="module")
def bus():
    with (
        tempfile.TemporaryDirectory(prefix="kp-") as folder,
        scenario_bus(Path(folder)) as endpoint,
    ):
        yield endpoint


@pytest.mark.processes
def test_run_prints_one_json_object_and_its_progress_to_stderr(bus, tmp_path):
    script = write_script(tmp_path / "team.yaml", "#pragma us=60", "#pragma us=50")
    finished = kernelpilot(
        "run", "softmax", "--team", f"scripted:{script}", "--rounds", "1", "--lanes", "1",
        "--set", f"pool.endpoint={bus}", "--run-dir", str(tmp_path / "mine"), "--seed", "3",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    told = only_json(finished)
    assert finished.returncode == told["exit_code"]
    assert told["run_dir"] == str(tmp_path / "mine")
    assert "admission: admitted" in finished.stderr
    manifest = RunFiles(tmp_path / "mine").read_manifest()
    assert (manifest.seed, manifest.team, manifest.run_id) == (3, f"scripted:{script}", "mine")
    assert manifest.target.budget.rounds == 1


@pytest.mark.processes
def test_a_killed_run_is_resumed_by_name_with_the_team_it_began_with(bus, tmp_path):
    script = write_script(tmp_path / "team.yaml", "#pragma us=60", "#pragma us=50", "#pragma us=40")
    command = [
        sys.executable, "-m", "graph.cli", "run", "softmax", "--team", f"scripted:{script}",
        "--rounds", "2", "--lanes", "1", "--set", f"pool.endpoint={bus}",
        "--run-dir", str(tmp_path / "runs" / "mine"),
    ]  # fmt: skip
    events = tmp_path / "runs" / "mine" / "events.jsonl"
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
    ) as running:
        wait_for(lambda: events.exists() and "job_finished" in events.read_text())
        running.send_signal(signal.SIGSTOP)
        status = only_json(kernelpilot("status", "mine", "--json", cwd=tmp_path))
        assert (status["state"], status["pid"]) == ("running", running.pid)
        running.kill()
    status = only_json(kernelpilot("status", "mine", "--json", cwd=tmp_path))
    assert status["state"] == "interrupted"
    resumed = kernelpilot("resume", "mi", "--set", f"pool.endpoint={bus}", "--json", cwd=tmp_path)
    told = only_json(resumed)
    assert told["exit_reason"] in {"goal_met", "budget_rounds"}, told["message"]
    assert told["best_attempt"]
    again = kernelpilot("resume", "mine", "--json", cwd=tmp_path)
    assert {**only_json(again), "run_dir": ""} == {**told, "run_dir": ""}


@pytest.mark.processes
def test_evaluate_prints_verdict_and_reason(bus, tmp_path):
    (tmp_path / "k.cpp").write_text("// us=50\n")
    (tmp_path / "slow.cpp").write_text("// us=100\n")
    (tmp_path / "wrong.cpp").write_text("// check=fail\n")
    where = ("--set", f"pool.endpoint={bus}", "--json")
    faster = kernelpilot(
        "evaluate", "softmax", "k.cpp", "--against", "slow.cpp", *where, cwd=tmp_path
    )
    told = only_json(faster)
    assert faster.returncode == 0
    assert told["verdict"] == "FASTER"
    assert told["low"] <= told["speedup"] <= told["high"]
    assert told["speedup"] == pytest.approx(2.0, rel=0.01)
    assert told["workloads"]
    wrong = kernelpilot("evaluate", "softmax", "wrong.cpp", *where, cwd=tmp_path)
    assert wrong.returncode == 0
    assert only_json(wrong)["verdict"] == "REJECTED"
    assert only_json(wrong)["reason"] == "wrong_result"


@pytest.mark.processes
def test_evaluate_keeps_its_record_in_the_workspace(bus, tmp_path):
    (tmp_path / "k.cpp").write_text("// us=50\n")
    finished = kernelpilot(
        "evaluate", "softmax", "k.cpp", "--feedback", "--workspace", "kept",
        "--set", f"pool.endpoint={bus}", "--json", cwd=tmp_path,
    )  # fmt: skip
    told = only_json(finished)
    assert told["sittings"] == 1
    assert (tmp_path / "kept" / "records" / f"{told['record_id']}.json").is_file()


def test_the_module_runs_as_the_installed_command_does():
    finished = kernelpilot("--help", cwd=ROOT)
    assert finished.returncode == 0
    assert "evaluate" in finished.stdout
