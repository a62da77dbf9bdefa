"""Finding and making run directories."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gpu_runner.message import JobId
from graph.errors import RunError, RunNotFound
from graph.run_files import RunFiles
from graph.runs import all_runs, find_run, make_run, new_run_id, run_id_of
from tests.graph.builders import make_manifest

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)


def make(folder: Path, name: str, age_s: int = 0) -> RunFiles:
    files = RunFiles(folder / name)
    files.write_manifest(make_manifest(run_id=name))
    stamp = 1_700_000_000 - age_s
    os.utime(files.root / "run.json", (stamp, stamp))
    return files


def test_run_ids_say_target_and_time():
    assert new_run_id("softmax", NOW, "ab12") == "softmax-20260102-030405-ab12"


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}", fullmatch=True))
def test_every_target_name_gives_a_run_id_that_begins_job_ids(name):
    run_id = new_run_id(name, NOW, "ab12")
    assert JOB_ID.validate_python(f"{run_id}-r084-l7-a0999-profile-t2")


@given(st.text(alphabet=st.characters(exclude_characters="/\x00", codec="utf-8"), min_size=1))
def test_every_directory_name_gives_a_run_id(name):
    if name in {".", ".."}:
        return
    assert JOB_ID.validate_python(f"{run_id_of(Path('/runs') / name)}-r001-l0-a0001-build-t0")


def test_a_new_run_gets_a_directory_of_its_own(tmp_path):
    first, second = make_run(tmp_path, "softmax"), make_run(tmp_path, "softmax")
    assert first.root != second.root
    assert first.root.is_dir()


def test_the_directory_can_be_named(tmp_path):
    assert make_run(tmp_path, "softmax", tmp_path / "mine").root == tmp_path / "mine"


def test_a_directory_that_holds_a_run_is_not_taken(tmp_path):
    make(tmp_path, "old")
    with pytest.raises(RunError, match="resume"):
        make_run(tmp_path, "softmax", tmp_path / "old")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="choose another"):
        make_run(tmp_path, "softmax", tmp_path / "file" / "run")


@pytest.fixture
def runs(tmp_path):
    make(tmp_path, "softmax-1", age_s=30)
    make(tmp_path, "softmax-2", age_s=10)
    make(tmp_path, "rope-1", age_s=20)
    (tmp_path / "not-a-run").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("softmax-1", "softmax-1"),
        ("rope", "rope-1"),
        ("latest", "softmax-2"),
        ("softmax-2", "softmax-2"),
    ],
)
def test_a_run_is_found_by_what_it_is_called(runs, name, found):
    assert find_run(runs, name).root == runs / found


def test_a_run_is_found_by_its_path(runs):
    assert find_run(runs / "nowhere", str(runs / "rope-1")).root == runs / "rope-1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("softmax", "begins several runs: softmax-1, softmax-2"),
        ("gemm", "runs there: rope-1, softmax-1, softmax-2"),
        ("not-a-run", "no run 'not-a-run'"),
    ],
)
def test_an_unclear_name_lists_the_runs(runs, name, message):
    with pytest.raises(RunNotFound, match=message):
        find_run(runs, name)


def test_an_empty_directory_says_so(tmp_path):
    with pytest.raises(RunNotFound, match="holds no runs"):
        find_run(tmp_path / "none", "latest")


def test_runs_are_listed_the_newest_last(runs):
    assert [files.root.name for files in all_runs(runs)] == ["softmax-1", "rope-1", "softmax-2"]
