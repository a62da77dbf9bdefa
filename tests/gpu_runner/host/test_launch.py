"""From plans to processes: what is granted, and to whom."""

import os
from pathlib import Path

import pytest

from gpu_runner.candidate import Language
from gpu_runner.errors import RunnerError
from gpu_runner.host import bubblewrap, launch, machine
from gpu_runner.host.arena import Arena
from gpu_runner.host.subject import Subject
from tests.gpu_runner.host.kernels import make_artefact, make_mode, make_plan, make_scaling

SCRATCH = Path("/scratch")


@pytest.fixture
def arena():
    with Arena(make_scaling(), make_mode("double_it"), slots=2) as made:
        yield made


def plan_of(arena, folder, language=Language.CPP, **changes):
    return make_plan(make_artefact(folder, language), arena, **changes)


@pytest.mark.parametrize("threads", [1, 3])
def test_environment_names_threads_everywhere(arena, tmp_path, threads):
    found = launch._environment(plan_of(arena, tmp_path, threads=threads), SCRATCH)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert found[name] == str(threads)
    assert found["OMP_WAIT_POLICY"] == "passive"
    assert found["OMP_PROC_BIND"] == ("false" if threads == 1 else "close")


def test_environment_is_built_from_nothing(arena, tmp_path, monkeypatch):
    monkeypatch.setenv("API_KEY", "secret")
    monkeypatch.setenv("LD_PRELOAD", "/tmp/mine.so")
    found = launch._environment(plan_of(arena, tmp_path), SCRATCH)
    assert "API_KEY" not in found
    assert "LD_PRELOAD" not in found
    assert found["HOME"] == found["TMPDIR"] == "/scratch"


def test_environment_has_what_the_artefact_needs(arena, tmp_path):
    plan = plan_of(arena, tmp_path, Language.PYTHON)
    found = launch._environment(plan, SCRATCH)
    assert found["CAND_BUILD_DIR"] == plan.artefact.environment["CAND_BUILD_DIR"]


def test_environment_says_nothing_of_measurement(arena, tmp_path):
    found = launch._environment(plan_of(arena, Path("/cache/ab"), Language.PYTHON), SCRATCH)
    text = " ".join((*found, *found.values())).lower()
    assert [w for w in ("tim", "bench", "perf", "measure", "profile") if w in text] == []


def test_one_thread_is_pinned_where_the_plan_says(arena, tmp_path):
    assert launch._cpus(plan_of(arena, tmp_path, cpu=0)) == {0}
    assert launch._cpus(plan_of(arena, tmp_path, cpu=None)) == os.sched_getaffinity(0)


def test_several_threads_have_a_set(arena, tmp_path):
    plan = plan_of(arena, tmp_path, threads=2, cpu=0)
    assert launch._cpus(plan) == machine.pick_cpus(2)[1]


def test_memory_grows_with_the_arenas(arena):
    assert launch._memory_bytes([arena]) == 4 << 30


@pytest.mark.parametrize("language", [Language.CUDA, Language.TRITON])
def test_languages_of_another_tier_are_refused(arena, tmp_path, language):
    with pytest.raises(RunnerError, match="not measured by a processor's subject"):
        Subject(plan_of(arena, tmp_path, language))


def test_only_a_trusted_baseline_may_write_beside_its_artefact(arena, tmp_path):
    artefact = make_artefact(tmp_path, Language.PYTHON, is_trusted=True)
    for is_trusted, expected in ((True, (tmp_path / "inductor",)), (False, ())):
        assert launch._writable(make_plan(artefact, arena, is_trusted=is_trusted)) == expected


def test_native_host_is_kept_beside_the_artefact_or_where_the_plan_says(arena, tmp_path):
    beside = plan_of(arena, tmp_path / "cache" / "entry")
    _, program = launch._command(beside, 3, 4)
    assert program.parent == tmp_path / "cache" / "hosts"
    elsewhere = plan_of(arena, tmp_path / "cache" / "entry", cache=tmp_path / "other")
    words, program = launch._command(elsewhere, 3, 4)
    assert program.parent == tmp_path / "other" / "hosts"
    assert words == [str(program), "3", "4", str(tmp_path / "cache" / "entry" / "kernel.so")]


def test_python_host_is_isolated_from_the_environment(arena, tmp_path):
    words, program = launch._command(plan_of(arena, tmp_path, Language.PYTHON), 7, 8)
    assert words[1:3] == ["-I", "-B"]
    assert words[-2:] == ["7", "8"]
    assert program.name == "python_host.py"


@pytest.mark.processes
@pytest.mark.parametrize("without", [frozenset(), frozenset({"bubblewrap"})])
def test_scratch_folder_goes_with_the_subject(arena, tmp_path, without, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    kept = tmp_path / "entry"
    kept.mkdir()
    (kept / "kernel.so").write_text("no object")
    plan = plan_of(arena, kept, without=without, cache=tmp_path / "cache")
    subject = Subject(plan)
    is_plain = bool(without) or bubblewrap.options() is None
    assert len(list(tmp_path.glob("subject-*"))) == int(is_plain)
    subject.close()
    assert list(tmp_path.glob("subject-*")) == []


@pytest.mark.processes
def test_host_that_cannot_start_is_our_fault(arena, tmp_path, monkeypatch):
    """The wrong program in the place of the host: nothing is held against the candidate."""
    tools = tmp_path / "tools"
    tools.mkdir()
    compiler = tools / "cc"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncp /bin/false "$2"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    plan = plan_of(arena, tmp_path, cache=tmp_path / "cache", start_timeout_s=10.0)
    with Subject(plan) as subject, pytest.raises(RunnerError, match="did not start"):
        subject.wait_ready()
