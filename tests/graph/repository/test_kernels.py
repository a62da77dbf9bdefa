"""Candidates as files, built with the commands they were measured with."""

import json
from typing import Any

import pytest

from gpu_runner.candidate import Language, Source
from gpu_runner.languages import cpp
from graph.errors import ShipFailed
from graph.repository import kernels
from tests.builders import make_candidate


def described(files: dict[str, str], version: str = "v001") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files[f"{version}/build.json"])
    return found


def test_the_commands_are_those_of_the_builder():
    assert kernels.COMPILERS == cpp.COMPILERS
    assert kernels.STANDARDS == cpp.STANDARDS
    assert (cpp._OPTIMISATION, *cpp.COMMON_FLAGS) == kernels.COMPILE_FLAGS
    assert kernels.LINK_FLAGS == cpp._LINK_FLAGS


def test_every_source_is_a_file_and_every_unit_is_compiled():
    sources = (
        Source(path="kernel.cpp", text="int a;"),
        Source(path="parts/exp.h", text="int b;"),
        Source(path="parts/exp.c", text="int c;"),
    )
    candidate = make_candidate(sources=sources, flags=("-Ofast",))
    files = kernels.kernel_files(candidate, "v001")
    assert files["v001/parts/exp.h"] == "int b;"
    assert sorted(files) == [
        "v001/build.json",
        "v001/kernel.cpp",
        "v001/parts/exp.c",
        "v001/parts/exp.h",
    ]
    steps = described(files)["compile"]
    assert [(s["path"], s["command"][0], s["command"][-1]) for s in steps] == [
        ("kernel.cpp", "g++", "-Ofast"),
        ("parts/exp.c", "gcc", "-Ofast"),
    ]
    assert described(files)["candidate"] == candidate.digest


def test_a_candidate_in_python_names_its_entry():
    candidate = make_candidate(language=Language.PYTHON, calling="destination")
    built = described(kernels.kernel_files(candidate, "v001"))
    assert (built["language"], built["entry"], built["calling"]) == (
        "python",
        "candidate.py",
        "destination",
    )
    other = make_candidate(
        language=Language.PYTHON, sources=(Source(path="fast.py", text="def run(x): return x"),)
    )
    assert described(kernels.kernel_files(other, "v001"))["entry"] == "fast.py"


@pytest.mark.parametrize("language", [Language.CUDA, Language.TRITON])
def test_device_code_is_refused_by_name(language):
    candidate = make_candidate(language=language, text="x")
    with pytest.raises(ShipFailed, match=f"v004 is written in {language.value}"):
        kernels.kernel_files(candidate, "v004")
