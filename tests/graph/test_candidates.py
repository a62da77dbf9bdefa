"""Candidates that a user names."""

import json

import pytest

from gpu_runner.candidate import Language
from graph.candidates import calling_of, is_candidate_name, read_candidate
from graph.errors import EvaluationError
from graph.run_files import RunFiles
from tests.builders import SOFTMAX_CPP, SOFTMAX_PYTHON, make_candidate, make_problem
from tests.graph.builders import make_attempt, make_manifest

PROBLEM = make_problem()


@pytest.mark.parametrize(
    ("name", "text", "language", "path"),
    [
        ("k.cpp", SOFTMAX_CPP, Language.CPP, "kernel.cpp"),
        ("k.cc", SOFTMAX_CPP, Language.CPP, "kernel.cpp"),
        ("01_it.py", SOFTMAX_PYTHON, Language.PYTHON, "candidate.py"),
        ("k.cu", "__global__ void k() {}", Language.CUDA, "kernel.cu"),
    ],
)
def test_a_file_is_a_candidate_in_the_language_of_its_suffix(tmp_path, name, text, language, path):
    (tmp_path / name).write_text(text)
    candidate = read_candidate(str(tmp_path / name), PROBLEM, tmp_path)
    assert candidate.language is language
    assert [source.path for source in candidate.sources] == [path]
    assert candidate.sources[0].text == text


def test_the_same_content_is_the_same_candidate_whatever_the_file_is_called(tmp_path):
    for name in ("a.cpp", "b.cpp"):
        (tmp_path / name).write_text(SOFTMAX_CPP)
    digests = {
        read_candidate(str(tmp_path / name), PROBLEM, tmp_path).digest
        for name in ("a.cpp", "b.cpp")
    }
    assert len(digests) == 1


def test_the_language_can_be_said(tmp_path):
    (tmp_path / "k.py").write_text("import triton\n")
    found = read_candidate(str(tmp_path / "k.py"), PROBLEM, tmp_path, Language.TRITON)
    assert found.language is Language.TRITON


def test_an_unknown_suffix_asks_for_the_language(tmp_path):
    (tmp_path / "k.txt").write_text("x")
    with pytest.raises(EvaluationError, match="--language"):
        read_candidate(str(tmp_path / "k.txt"), PROBLEM, tmp_path)


def test_a_directory_is_a_candidate_of_several_sources(tmp_path):
    folder = tmp_path / "kernel"
    folder.mkdir()
    (folder / "main.cpp").write_text(SOFTMAX_CPP)
    (folder / "simd.h").write_text("#pragma once\n")
    (folder / "notes.txt").write_text("not a source")
    candidate = read_candidate(str(folder), PROBLEM, tmp_path)
    assert [source.path for source in candidate.sources] == ["main.cpp", "simd.h"]


def test_launch_plans_are_read_beside_device_code(tmp_path):
    folder = tmp_path / "kernel"
    folder.mkdir()
    (folder / "k.cu").write_text("__global__ void k(float* y) {}")
    launch = {"kernel": "k", "grid": ["B", "1", "1"], "block": ["32", "1", "1"], "arguments": ["y"]}
    (folder / "plan.json").write_text(json.dumps([{"launches": [launch]}]))
    candidate = read_candidate(str(folder), PROBLEM, tmp_path)
    assert candidate.plans[0].launches[0].kernel == "k"


def test_a_damaged_plan_is_named(tmp_path):
    (tmp_path / "k.cu").write_text("x")
    (tmp_path / "plan.json").write_text("[{}]")
    with pytest.raises(EvaluationError, match="launches"):
        read_candidate(str(tmp_path / "k.cu"), PROBLEM, tmp_path)


def test_a_directory_of_two_languages_asks_which(tmp_path):
    (tmp_path / "a.cpp").write_text("x")
    (tmp_path / "b.py").write_text("x")
    with pytest.raises(EvaluationError, match="several languages"):
        read_candidate(str(tmp_path), PROBLEM, tmp_path)


def test_an_empty_directory_is_no_candidate(tmp_path):
    with pytest.raises(EvaluationError, match="holds no source file"):
        read_candidate(str(tmp_path), PROBLEM, tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b"x" * (513 * 1024)])
def test_binary_and_oversized_files_are_refused(tmp_path, content):
    (tmp_path / "k.cpp").write_bytes(content)
    with pytest.raises(EvaluationError, match=r"k\.cpp"):
        read_candidate(str(tmp_path / "k.cpp"), PROBLEM, tmp_path)


def test_what_is_neither_file_nor_attempt_is_named(tmp_path):
    with pytest.raises(EvaluationError, match="no such file"):
        read_candidate("nowhere.cpp", PROBLEM, tmp_path)


# -- attempts ------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path):
    files = RunFiles(tmp_path / "runs" / "softmax-1")
    files.write_manifest(make_manifest())
    candidate = make_candidate()
    files.append_attempt(make_attempt(7, candidate_digest=files.save_candidate(candidate)))
    return tmp_path / "runs"


@pytest.mark.parametrize("name", ["a0007", "latest:a0007", "softmax-1:a0007", "soft:a0007"])
def test_an_attempt_is_found_in_its_run(runs, name):
    assert read_candidate(name, PROBLEM, runs) == make_candidate()


@pytest.mark.parametrize("name", ["a0008", "softmax-1:a0001", "other:a0007"])
def test_an_unknown_attempt_is_named(runs, name):
    with pytest.raises(EvaluationError, match=r"a000[178]|other"):
        read_candidate(name, PROBLEM, runs)


def test_without_any_run_an_attempt_is_not_found(tmp_path):
    with pytest.raises(EvaluationError, match="no run"):
        read_candidate("a0001", PROBLEM, tmp_path)


def test_names_of_baselines_are_told_from_candidates(tmp_path):
    (tmp_path / "k.cpp").write_text("x")
    assert is_candidate_name(str(tmp_path / "k.cpp"))
    assert is_candidate_name("latest:a0001")
    assert not is_candidate_name("torch eager")


# -- calling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "calling"),
    [
        ("def run(x):\n    return x", "returning"),
        ("def run(x, y):\n    y[:] = x", "destination"),
        ("def run(x, /, y):\n    y[:] = x", "destination"),
        ("def run(x, y, z):\n    pass", "returning"),
        ("def other(x, y):\n    pass", "returning"),
        ("run = abs", "returning"),
        ("def run(x:", "returning"),
        ("def run(*args):\n    pass", "returning"),
    ],
)
def test_destination_parameters_tell_how_run_is_called(source, calling):
    assert calling_of(source, PROBLEM) == calling
