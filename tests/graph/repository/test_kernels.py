"""Candidates as files, built with the commands they were measured with."""

import json
from typing import Any

import pytest

from gpu_runner.candidate import Language, Launch, LaunchPlan, Slice, Source, Value
from gpu_runner.jobs import Built, BuiltFile
from gpu_runner.languages import cpp, cuda
from gpu_runner.problem import Scalar
from graph.errors import ShipFailed
from graph.repository import kernels
from graph.repository.kernels import DeviceCode, arch_of, kernel_files
from graph.target import Hardware
from tests.builders import make_candidate, make_problem
from tests.graph.device_run import cuda_softmax, plan_json, triton_softmax
from tests.graph.synthetic_target import make_target

PROBLEM = make_problem()


def described(files: kernels.Files, version: str = "v001") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files[f"{version}/build.json"])
    return found


def handed_over(**files: bytes) -> DeviceCode:
    named = {name.replace("_", "."): content for name, content in files.items()}
    built = Built(
        job_id="ship",
        artefact_digest="0" * 64,
        compiler="nvrtc 13.0",
        seconds=0.1,
        is_cached=True,
        files=tuple(BuiltFile.of(name, content) for name, content in named.items()),
    )
    return DeviceCode(arch="sm_90a", built=built)


def test_the_commands_are_those_of_the_builders():
    assert kernels.COMPILERS == cpp.COMPILERS
    assert kernels.STANDARDS == cpp.STANDARDS
    assert (cpp._OPTIMISATION, *cpp.COMMON_FLAGS) == kernels.COMPILE_FLAGS
    assert kernels.LINK_FLAGS == cpp._LINK_FLAGS
    assert set(kernels.CUDA_FLAGS) <= set(cuda._COMMON_FLAGS)
    assert cuda.DEFAULT_ARCH == kernels.DEFAULT_ARCH


def test_every_source_is_a_file_and_every_unit_is_compiled():
    sources = (
        Source(path="kernel.cpp", text="int a;"),
        Source(path="parts/exp.h", text="int b;"),
        Source(path="parts/exp.c", text="int c;"),
    )
    candidate = make_candidate(sources=sources, flags=("-Ofast",))
    files = kernel_files(PROBLEM, candidate, "v001")
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
    built = described(kernel_files(PROBLEM, candidate, "v001"))
    assert (built["language"], built["entry"], built["calling"]) == (
        "python",
        "candidate.py",
        "destination",
    )
    other = make_candidate(
        language=Language.PYTHON, sources=(Source(path="fast.py", text="def run(x): return x"),)
    )
    assert described(kernel_files(PROBLEM, other, "v001"))["entry"] == "fast.py"


def test_device_code_lies_in_the_folder_of_its_architecture():
    code = handed_over(kernel_cubin=b"\x7fELF\x00", kernels_json=b"{}")
    files = kernel_files(PROBLEM, cuda_softmax(), "v004", code)
    assert files["v004/sm_90a/kernel.cubin"] == b"\x7fELF\x00"
    assert files["v004/sm_90a/kernels.json"] == b"{}"
    built = described(files, "v004")
    assert (built["language"], built["source"]) == ("cuda", "kernel.cu")
    assert (built["compiler"], built["flags"]) == ("nvrtc 13.0", [])


def test_without_device_code_sources_and_plans_are_there():
    files = kernel_files(PROBLEM, cuda_softmax(), "v004", DeviceCode(arch="sm_90a"))
    assert sorted(files) == [
        "v004/build.json",
        "v004/kernel.cu",
        "v004/plan.json",
        "v004/plan.py",
    ]
    assert json.loads(files["v004/plan.json"]) == plan_json(cuda_softmax())
    assert "compiler" not in described(files, "v004")


@pytest.mark.parametrize("language", [Language.CUDA, Language.TRITON])
def test_device_code_without_a_plan_is_refused_by_name(language):
    path = "kernel.cu" if language is Language.CUDA else "candidate.py"
    candidate = make_candidate(language=language, sources=(Source(path=path, text="x"),))
    with pytest.raises(ShipFailed, match="v004 has no launch plan"):
        kernel_files(PROBLEM, candidate, "v004")


def test_triton_is_asked_for_what_the_plans_say():
    asked = described(kernel_files(PROBLEM, triton_softmax(), "v001"))["kernels"]
    assert list(asked) == ["0.0", "1.0"]
    assert asked["0.0"] == {
        "function": "softmax_rows",
        "types": ["*fp32", "*fp32", "i64"],
        "divisible": [0, 1],
        "constants": {"WIDTH": 128},
        "warps": 1,
        "stages": None,
    }
    assert (asked["1.0"]["types"][2], asked["1.0"]["warps"]) == ("i32", 8)


def test_every_kind_of_argument_has_a_type_in_triton():
    problem = make_problem(scalars=(Scalar(name="eps"), Scalar(name="groups", kind="int")))
    arguments = (
        "eps",
        "groups",
        "workspace",
        Slice(workspace="16"),
        Value(value="eps", type="f32"),
        Value(value="N", type="i32", divisible=16),
    )
    launch = Launch(
        kernel="k", grid=("1", "1", "1"), block=("64", "1", "1"), arguments=arguments, stages=3
    )
    candidate = triton_softmax().model_copy(
        update={"plans": (LaunchPlan(launches=(launch,), workspace_bytes="32"),)}
    )
    asked = described(kernel_files(problem, candidate, "v001"))["kernels"]["0.0"]
    assert asked["types"] == ["fp64", "i64", "*u8", "*u8", "fp32", "i32"]
    assert asked["divisible"] == [2, 3, 5]
    assert (asked["warps"], asked["stages"]) == (2, 3)


@pytest.mark.parametrize(
    ("flags", "asked", "measured_on", "expected"),
    [
        (("--gpu-architecture=sm_80",), "sm_90a", "sm_90a", "sm_80"),
        ((), "sm_100a", "sm_90a", "sm_100a"),
        (("--use_fast_math",), "", "sm_90a", "sm_90a"),
        ((), "", "x86_64", kernels.DEFAULT_ARCH),
    ],
)
def test_the_architecture_is_the_candidates_then_the_targets_then_the_runners(
    flags, asked, measured_on, expected
):
    candidate = cuda_softmax().model_copy(update={"flags": flags})
    target = make_target(hardware=Hardware(device="cuda", arch=asked))
    assert arch_of(candidate, target, measured_on) == expected
