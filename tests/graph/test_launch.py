"""Runs and evaluations put together from settings: what is kept, what is left, what is refused."""

import io
import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from gpu_runner.records import TimingPlan, Verdict
from graph.errors import SettingsError
from graph.evaluate import Trial
from graph.launch import judge, proceed, rendered, start, timing_for
from graph.ledger import ExitReason, RunResult
from graph.run_files import RunFiles
from graph.settings import load_settings
from graph.target import Scope
from tests.builders import make_candidate
from tests.graph.builders import make_attempt, make_manifest, make_target
from tests.graph.processes import scenario_bus, write_script

BENCH = load_settings().bench


def quiet() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=200), out


# -- how much is measured ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sittings", "feedback", "expected", "most"),
    [
        (None, False, BENCH.claim.sittings, BENCH.claim.most_sittings),
        (None, True, BENCH.feedback.sittings, BENCH.feedback.most_sittings),
        (5, False, 5, 5),
        (9, False, 9, 9),
        (1, True, 1, 1),
        (7, True, 7, 7),
    ],
)
def test_sittings_are_those_asked_for_or_those_of_the_settings(sittings, feedback, expected, most):
    plan = timing_for(BENCH, sittings, feedback=feedback)
    assert (plan.sittings, plan.most_sittings) == (expected, most)


@pytest.mark.parametrize("sittings", [1, 4])
def test_too_few_sittings_for_a_claim_are_refused_with_the_way_out(sittings):
    with pytest.raises(SettingsError, match=rf"--sittings {sittings}: .* 5 .* --feedback"):
        timing_for(BENCH, sittings, feedback=False)


def test_only_the_number_of_sittings_is_changed():
    plan = timing_for(BENCH, 6, feedback=False)
    same = {"sittings": BENCH.claim.sittings, "most_sittings": BENCH.claim.most_sittings}
    assert plan.model_copy(update=same) == BENCH.claim


# -- runs ----------------------------------------------------------------------------------------


def ended(root: Path, reason: ExitReason) -> RunFiles:
    files = RunFiles(root)
    files.write_manifest(make_manifest(team="playbook"))
    files.append_attempt(make_attempt(1))
    files.save_result(
        RunResult(
            run_id="softmax-test",
            exit_reason=reason,
            message="as it was",
            rounds=1,
            attempts=1,
            wall_s=1,
            job_s=1,
        )
    )
    return files


@pytest.mark.parametrize("reason", [ExitReason.GOAL_MET, ExitReason.PLATEAU])
async def test_an_ended_run_is_told_again_without_a_pool(tmp_path, reason):
    files = ended(tmp_path / "softmax-test", reason)
    nowhere = load_settings(assignments=["pool.endpoint=ipc:///nowhere/bus"])
    console, out = quiet()
    result = await proceed(nowhere, files, console)
    assert (result.exit_reason, result.message) == (reason, "as it was")
    assert out.getvalue() == ""
    assert not (files.root / "pool").exists()


@pytest.mark.parametrize("team", ["anthropic", "openai"])
async def test_a_run_whose_team_has_lost_its_key_is_not_taken_up(tmp_path, team, monkeypatch):
    for key in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    files = ended(tmp_path / "softmax-test", ExitReason.CANCELLED)
    files.write_manifest(make_manifest(team=team))
    with pytest.raises(SettingsError, match=f"team '{team}' needs"):
        await proceed(load_settings(), files, quiet()[0])
    result = files.result()
    assert result is not None
    assert result.exit_reason is ExitReason.CANCELLED, "nothing was changed"


async def test_a_team_that_cannot_be_made_leaves_no_run_behind(tmp_path):
    settings = load_settings(
        assignments=[f"run.directory={tmp_path}/runs", "team.name=scripted:/nowhere.yaml"]
    )
    with pytest.raises(SettingsError, match="No such file"):
        await start(settings, make_target(), quiet()[0])
    assert not (tmp_path / "runs").exists()


def test_a_run_is_rendered_where_it_lies(tmp_path):
    files = ended(tmp_path / "softmax-test", ExitReason.PLATEAU)
    path = rendered(files)
    assert path == files.root / "report.html"
    assert "As it was." in path.read_text(encoding="utf-8")


# -- over a real bus -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bus():
    with (
        tempfile.TemporaryDirectory(prefix="kp-") as folder,
        scenario_bus(Path(folder)) as endpoint,
    ):
        yield endpoint


def make_trial(text: str) -> Trial:
    target = make_target()
    return Trial(
        target=target,
        candidate=make_candidate(text=f"// {text}"),
        against=target.baselines[0],
        plan=TimingPlan(sittings=5, most_sittings=5),
    )


@pytest.mark.processes
async def test_a_run_is_begun_in_its_directory_and_told_on_the_console(bus, tmp_path):
    script = write_script(tmp_path / "team.yaml", "// us=60", "// us=50")
    settings = load_settings(
        assignments=[
            f"pool.endpoint={bus}",
            f"team.name=scripted:{script}",
            f"run.directory={tmp_path}/runs",
        ]
    )
    console, out = quiet()
    target = make_target(scope=Scope(lanes=1), baselines=make_target().baselines[:1])
    result, files = await start(settings, target, console)
    assert files.root.parent == tmp_path / "runs"
    assert files.root.name == result.run_id == files.read_manifest().run_id
    assert files.read_manifest().team == f"scripted:{script}"
    first = files.attempts()[0]
    assert "us=60" in files.candidate(first.candidate_digest).sources[0].text, "the first entry"
    assert "admission: admitted" in out.getvalue()
    assert (result.exit_reason, result.best_attempt) == (ExitReason.GOAL_MET, "a0001")
    assert result.report == str(files.root / "report.html")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("text", "verdict"), [("us=50", Verdict.FASTER), ("check=fail", Verdict.REJECTED)]
)
async def test_an_evaluation_keeps_its_record_and_forgets_its_jobs(bus, tmp_path, text, verdict):
    settings = load_settings(assignments=[f"pool.endpoint={bus}"])
    left = tmp_path / "state" / "pool"
    for name in ("spool/evaluate-1.json", "logs/evaluate-1.log", "spool/other.json"):
        (left / name).parent.mkdir(parents=True, exist_ok=True)
        (left / name).write_text("{}")
    console, out = quiet()
    found = await judge(make_trial(text), settings, tmp_path / "state", tmp_path / "kept", console)
    assert found.verdict is verdict
    kept = [path.stem for path in (tmp_path / "kept").glob("records/*.json")]
    assert kept == ([found.record_id] if found.record_id else [])
    assert [path.name for path in left.rglob("*.*")] == ["other.json"]
    assert out.getvalue().startswith("[0:00] judging softmax")
