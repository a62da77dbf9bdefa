"""The build job: what is told of an artefact, and what is refused before and by the compiler."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.candidate import Candidate, Language, Launch, LaunchPlan, Source
from gpu_runner.errors import DefinitionError, SubjectFailed, ToolchainMissing
from gpu_runner.jobs import OUTCOME, Build, Built, BuiltFile, Reason
from gpu_runner.languages import missing_toolchain
from gpu_runner.problem import Axis
from gpu_runner.tasks import build
from gpu_runner.tasks.build import build_job
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem

needs_cuda = pytest.mark.skipif(
    missing_toolchain(Language.CUDA) is not None, reason="neither NVRTC nor nvcc is installed"
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def built(workspace: Path, candidate: Candidate, **changes) -> Built:
    values = {"job_id": "b", "problem": make_problem(), "candidate": candidate, "timeout_s": 60}
    return build_job(Build(**{**values, **changes}), workspace=workspace)


def refused(workspace: Path, candidate: Candidate, **changes) -> SubjectFailed:
    with pytest.raises(SubjectFailed) as caught:
        built(workspace, candidate, **changes)
    return caught.value


def test_what_is_built_names_its_compiler_and_took_time(workspace):
    first = built(workspace, make_candidate())
    assert first.compiler.split()[0].endswith(("g++", "gcc"))
    assert first.seconds > 0
    assert not first.is_cached


def test_the_same_content_is_one_artefact_under_every_job(workspace):
    candidate = make_candidate(text=SOFTMAX_CPP + "// one\n")
    first = built(workspace, candidate)
    again = built(workspace, candidate, job_id="later")
    assert again == first.model_copy(update={"job_id": "later", "is_cached": True})


def test_source_flags_and_problem_each_make_another_artefact(workspace):
    plain = make_candidate(text=SOFTMAX_CPP + "// two\n")
    axes = (Axis(name="B", kind="var"), Axis(name="N", kind="const", value=128))
    variants = (
        built(workspace, plain),
        built(workspace, make_candidate(text=SOFTMAX_CPP + "// three\n")),
        built(workspace, plain.model_copy(update={"flags": ("-ffast-math",)})),
        built(workspace, plain, problem=make_problem(axes=axes)),
    )
    assert len({outcome.artefact_digest for outcome in variants}) == len(variants)
    assert not any(outcome.is_cached for outcome in variants)


def test_a_warning_is_shown_though_the_build_succeeds(workspace):
    text = SOFTMAX_CPP.replace("return 0;", "int left_over = 1;\n    return 0;")
    outcome = built(workspace, make_candidate(text=text))
    assert "left_over" in outcome.log_tail
    assert str(workspace) not in outcome.log_tail


def test_several_sources_are_one_kernel(workspace):
    header = Source(path="include/scale.h", text="static const float kScale = 1.0f;\n")
    kernel = Source(path="kernel.cpp", text='#include "include/scale.h"\n' + SOFTMAX_CPP)
    candidate = Candidate(language=Language.CPP, sources=(kernel, header))
    assert built(workspace, candidate).artefact_digest


@pytest.mark.parametrize(
    "flag", ["-fplugin=evil.so", "-o/tmp/x", "-Wl,-z,execstack", "-include/etc/passwd", "-O3;ls"]
)
def test_flags_that_do_more_than_optimise_are_refused_by_name(workspace, flag):
    failure = refused(workspace, make_candidate(flags=(flag,)))
    assert failure.reason is Reason.FLAG_NOT_ALLOWED
    assert repr(flag) in failure.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int x = ;", "expected primary-expression"),
        ("#error no such machine\n", "no such machine"),
        ("static_assert(sizeof(int) == 3);\n", "static assertion failed"),
    ],
)
def test_what_does_not_compile_comes_with_the_compilers_words(workspace, text, said):
    failure = refused(workspace, make_candidate(text=text))
    assert failure.reason is Reason.COMPILE_FAILED
    assert said in failure.log_tail
    assert str(workspace) not in failure.message + failure.log_tail


def test_a_kernel_without_its_entry_is_refused_while_building(workspace):
    failure = refused(
        workspace, make_candidate(text='#include "problem.h"\nint other() { return 0; }\n')
    )
    assert "kp_run" in failure.message + failure.log_tail


def test_a_refusal_is_not_kept_as_an_artefact(workspace):
    candidate = make_candidate(text="int y = ;")
    first, second = refused(workspace, candidate), refused(workspace, candidate)
    assert (first.reason, first.message) == (second.reason, second.message)


def test_a_name_that_is_a_keyword_is_the_definitions_fault(workspace):
    axes = (Axis(name="B", kind="var"), Axis(name="N", kind="var"), Axis(name="while", kind="var"))
    with pytest.raises(DefinitionError, match="'while'"):
        built(workspace, make_candidate(), problem=make_problem(axes=axes))


def test_a_language_nothing_here_builds_is_nobodys_fault(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainMissing, match=r"g\+\+"):
        built(workspace, make_candidate(text=SOFTMAX_CPP + "// unbuilt\n"))


CUDA_SOURCE = 'extern "C" __global__ void kp_fill(float* y) { y[threadIdx.x] = 1.0f; }\n'


def cuda_candidate(text: str = CUDA_SOURCE) -> Candidate:
    launch = Launch(kernel="kp_fill", grid=("B", "1", "1"), block=("N", "1", "1"), arguments=("y",))
    return Candidate(
        language=Language.CUDA,
        sources=(Source(path="kernel.cu", text=text),),
        plans=(LaunchPlan(launches=(launch,)),),
    )


@needs_cuda
def test_device_code_comes_back_where_it_is_asked_for(workspace):
    outcome = built(workspace, cuda_candidate(), returns_files=True)
    contents = {file.path: file.content for file in outcome.files}
    assert contents["kernel.cubin"].startswith(b"\x7fELF")
    assert outcome.files_withheld == ""
    assert OUTCOME.validate_json(outcome.model_dump_json()) == outcome


@needs_cuda
def test_device_code_stays_where_nobody_asked_for_it(workspace):
    assert built(workspace, cuda_candidate()).files == ()


def test_a_shared_object_is_never_sent(workspace):
    outcome = built(workspace, make_candidate(), returns_files=True)
    assert (outcome.files, outcome.files_withheld) == ((), "")


@needs_cuda
def test_device_code_that_is_too_large_to_send_is_withheld_with_a_reason(workspace):
    words = build.MOST_FILE_BYTES // 4
    table = f"__device__ int kp_table[{words}] = {{1}};\n"
    reading = CUDA_SOURCE.replace("= 1.0f", "= kp_table[blockIdx.x]")
    outcome = built(workspace, cuda_candidate(table + reading), returns_files=True)
    assert outcome.files == ()
    assert f"at most {build.MOST_FILE_BYTES} are sent" in outcome.files_withheld


@given(st.binary(max_size=200))
def test_a_file_arrives_as_it_was(content):
    sent = BuiltFile.of("kernels/a.cubin", content)
    assert BuiltFile.model_validate_json(sent.model_dump_json()).content == content
