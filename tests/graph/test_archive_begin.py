"""What a target is made of to carry: candidates to judge, or a run that begins."""

import subprocess
import sys
from pathlib import Path

import pytest

from gpu_runner.errors import ArchiveError
from graph.archive import batch_folder
from graph.archive_batch import read_batch
from graph.archive_begin import batch_of, is_target, run_of
from graph.errors import EvaluationError, TargetError
from graph.run_files import RunFiles
from graph.settings import load_settings
from tests.graph.processes import ROOT, environment, write_script


@pytest.fixture
def chosen(tmp_path):
    def chosen(*assignments):
        return load_settings(assignments=[f"run.directory={tmp_path}/runs", *assignments])

    return chosen


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("softmax", True),
        ("rope", True),
        ("softmax-2026", False),
        ("latest", False),
        ("mine.yaml", True),
        ("missing.yaml", False),
        ("folder.yaml", False),
        ("runs/softmax-1", False),
    ],
)
def test_a_name_is_a_target_or_something_else(tmp_path, monkeypatch, name, expected):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("")
    Path("folder.yaml").mkdir()
    assert is_target(name) is expected


def test_candidates_go_out_as_a_batch(tmp_path, chosen):
    source = tmp_path / "mine.cpp"
    source.write_text("// us=50\n")
    plan = "bench.claim={sittings: 9, most_sittings: 9}"
    origin = batch_of("softmax", (str(source), str(source)), "cpu", chosen(plan))
    assert origin.run == ""
    batch = read_batch(batch_folder(origin.name, tmp_path / "runs"))
    assert batch is not None
    assert list(batch.candidates) == [str(source)]
    assert batch.candidates[str(source)].sources[0].text == "// us=50\n"
    assert batch.plan.sittings == 9
    assert batch.target.hardware.device == "cpu"
    assert {job.job_id for job in origin.exchange.pending()} == {
        job.job_id for job in batch.all_jobs()
    }
    assert origin.name != batch_of("softmax", (str(source),), "cpu", chosen()).name


def test_a_gpu_batch_takes_the_plan_of_gpus(tmp_path, chosen):
    source = tmp_path / "mine.cu"
    source.write_text("// a kernel\n")
    settings = chosen()
    origin = batch_of("softmax", (str(source),), "cuda", settings)
    batch = read_batch(origin.exchange.folder)
    assert batch is not None
    assert batch.plan == settings.bench.cuda.claim
    assert batch.target.hardware.device == "cuda"


@pytest.mark.parametrize(
    ("name", "candidate", "device", "error", "text"),
    [
        ("softmax", "/nowhere.cpp", "cpu", EvaluationError, "no such file or directory"),
        ("softmax", "/nowhere.cpp", "auto", TargetError, "name its device, --device cpu or cuda"),
        ("softmax", "/nowhere.cpp", "tpu", TargetError, "unknown device 'tpu'"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(tmp_path, chosen, name, candidate, device, error, text):
    with pytest.raises(error, match=text):
        batch_of(name, (candidate,), device, chosen())
    assert not (tmp_path / "runs").exists()


def test_without_candidates_a_run_begins_and_waits(tmp_path, chosen):
    script = write_script(tmp_path / "team.yaml", "#pragma us=60")
    origin = run_of("softmax", "cpu", chosen(f"team.name=scripted:{script}"))
    assert origin.run == origin.name
    assert [job.kind for job in origin.exchange.pending()] == ["admit"]
    files = RunFiles(tmp_path / "runs" / origin.run)
    assert files.read_manifest().target.name == "softmax"


def test_a_shared_folder_stays_the_one_that_is_set(tmp_path, chosen):
    script = write_script(tmp_path / "team.yaml", "#pragma us=60")
    settings = chosen(f"team.name=scripted:{script}", f"pool.endpoint=archive:{tmp_path}/shared")
    origin = run_of("softmax", "cpu", settings)
    assert origin.exchange.folder == tmp_path / "shared"


def test_a_folder_that_is_none_leaves_no_run(tmp_path, chosen):
    script = write_script(tmp_path / "team.yaml", "#pragma us=60")
    (tmp_path / "shared").write_text("a file, no folder")
    settings = chosen(f"team.name=scripted:{script}", f"pool.endpoint=archive:{tmp_path}/shared")
    with pytest.raises(ArchiveError, match=r"exchange folder .*shared: .*; name another"):
        run_of("softmax", "cpu", settings)
    assert not list((tmp_path / "runs").iterdir())


def test_an_installation_for_runners_says_what_a_run_needs(tmp_path):
    """Candidates are exported without the graph engine, a run is not begun without it."""
    code = (
        "import sys\n"
        "sys.modules['langgraph'] = None\n"
        "from graph.archive_begin import batch_of, run_of\n"
        "from graph.errors import SettingsError\n"
        "from graph.settings import load_settings\n"
        f"settings = load_settings(assignments=['run.directory={tmp_path}/runs'])\n"
        "print(len(batch_of('softmax', ('k.cpp',), 'cpu', settings).exchange.pending()))\n"
        "try:\n    run_of('softmax', 'cpu', settings)\n"
        "except SettingsError as error:\n    print(error)\n"
    )
    (tmp_path / "k.cpp").write_text("// us=50")
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert said[0] == "4"
    assert "pip install 'kernelpilot[run]'" in said[1]
    assert len(list((tmp_path / "runs").glob("[!.]*"))) == 0
