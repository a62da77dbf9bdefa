import ctypes
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gpu_runner.candidate import Source
from gpu_runner.errors import DefinitionError, ToolchainMissing
from gpu_runner.host import sandbox
from gpu_runner.jobs import Reason
from gpu_runner.languages import Artefact, BuildRefused, build, cpp
from gpu_runner.languages.header import argument_words
from gpu_runner.problem import Axis
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem

TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def build_text(cache, text="", *, flags=(), extra=(), timeout_s=TIMEOUT_S):
    candidate = make_candidate(text=text, flags=flags)
    candidate = candidate.model_copy(update={"sources": (*candidate.sources, *extra)})
    return build(make_problem(), candidate, cache=cache, timeout_s=timeout_s)


def call_softmax(artefact, x):
    y = np.full_like(x, np.nan)
    words = (ctypes.c_int64 * argument_words(make_problem()))(
        x.ctypes.data, y.ctypes.data, *x.shape, 1
    )
    assert ctypes.CDLL(str(artefact.entry)).kp_run(words) == 0
    return y


def test_built_kernel_computes(cache):
    artefact = build_text(cache)
    x = np.random.default_rng(1).normal(size=(4, 33)).astype(np.float32)

    assert isinstance(artefact, Artefact)
    assert artefact.compiler.startswith("g++ ")
    exact = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    assert np.allclose(call_softmax(artefact, x), exact / exact.sum(-1, keepdims=True), rtol=1e-5)


def test_artefact_holds_sources_header_remarks_and_nothing_temporary(cache):
    artefact = build_text(cache)
    files = {str(p.relative_to(artefact.path)) for p in artefact.path.rglob("*") if p.is_file()}
    assert files == {
        "artefact.json",
        "kernel.so",
        "remarks.txt",
        "source/kernel.cpp",
        "source/problem.h",
    }
    assert "kernel.cpp:" in artefact.remarks.read_text()
    assert str(cache) not in artefact.remarks.read_text()


def test_only_the_entry_is_exported(cache):
    artefact = build_text(cache, SOFTMAX_CPP + '\nextern "C" int helper() { return 1; }\n')
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(artefact.entry)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [line.split()[-1] for line in listed.splitlines()] == ["kp_run"]


def test_several_sources_of_c_and_cpp_are_linked_together(cache):
    text = (
        '#include "problem.h"\n#include "deep/helper.h"\n'
        'extern "C" int kp_run(const struct softmax_args* a) { return helper(a->B); }\n'
    )
    extra = (
        Source(path="deep/helper.h", text='extern "C" int helper(long n);\n'),
        Source(path="deep/helper.c", text="int helper(long n) { return n == 4 ? 0 : 1; }\n"),
    )
    artefact = build_text(cache, text, extra=extra)
    call_softmax(artefact, np.zeros((4, 8), np.float32))


def test_openmp_is_on(cache):
    text = (
        '#include "problem.h"\n#include <omp.h>\n'
        'extern "C" int kp_run(const struct softmax_args* a) {\n'
        "  int seen = 0;\n#pragma omp parallel num_threads(2) reduction(+ : seen)\n"
        "  seen += 1;\n  return seen == 2 ? 0 : 1;\n}\n"
    )
    call_softmax(build_text(cache, text), np.zeros((1, 8), np.float32))


@pytest.mark.parametrize(
    "flag",
    [
        "-O2",
        "-Ofast",
        "-ffast-math",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-ffinite-math-only",
        "-funroll-loops",
        "-mprefer-vector-width=256",
        "-mprefer-vector-width=512",
        "-fopenmp-simd",
        "-ffp-contract=off",
        "-fvect-cost-model=unlimited",
    ],
)
def test_flag_of_the_list_passes(flag):
    assert cpp.refuse_flags(make_candidate(flags=(flag,))) is None


@pytest.mark.parametrize(
    "flag",
    [
        "-fplugin=evil.so",
        "-I/",
        "-include/etc/passwd",
        "-march=znver4",
        "-Wl,-rpath,/tmp",
        "-lm",
        "-shared",
        "@flags",
        "-fsanitize=address",
        "-o/tmp/x",
        "-O3 -fplugin=x",
        "-O3\n",
        "-mprefer-vector-width=1024",
        "-specs=x",
        "-B.",
        "-wrapper",
        "",
    ],
)
def test_any_other_flag_is_refused_by_name(cache, flag):
    refused = build_text(cache, flags=("-O3", flag))
    assert refused.reason is Reason.FLAG_NOT_ALLOWED
    assert repr(flag) in refused.message


def test_denormals_survive_a_kernel_built_with_fast_math(cache):
    artefact = build_text(cache, flags=("-Ofast", "-ffast-math"))
    program = (
        "import ctypes, sys\n"
        "ctypes.CDLL(sys.argv[1])\n"
        "smallest_normal = float.fromhex('0x1p-1022')\n"
        "print(smallest_normal / 4 > 0)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, str(artefact.entry)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout == "True\n"


def test_compile_error_is_told_without_our_paths(cache):
    refused = build_text(cache, SOFTMAX_CPP.replace("a->N", "a->M"))

    assert refused.reason is Reason.COMPILE_FAILED
    assert refused.message.startswith("g++ failed: kernel.cpp:")
    assert "has no member named 'M'" in refused.message.replace("\u2018", "'").replace(
        "\u2019", "'"
    )
    assert str(cache) not in refused.log_tail
    assert ".building-" not in refused.log_tail
    assert "kernel.cpp" in refused.log_tail


def test_source_without_the_entry_is_told_so(cache):
    refused = build_text(cache, '#include "problem.h"\n')
    assert refused.reason is Reason.COMPILE_FAILED
    assert 'defines extern "C" int kp_run' in refused.message


def test_hidden_entry_is_told_to_include_the_header(cache):
    refused = build_text(cache, 'extern "C" int kp_run(const void*) { return 0; }\n')
    assert refused.reason is Reason.COMPILE_FAILED
    assert "include problem.h" in refused.message


def test_undefined_function_fails_at_the_build(cache):
    text = (
        'int absent();\n#include "problem.h"\n'
        'extern "C" int kp_run(const struct softmax_args*) { return absent(); }\n'
    )
    refused = build_text(cache, text)
    assert refused.reason is Reason.COMPILE_FAILED
    assert "absent" in refused.message


def test_build_is_stopped_at_its_time_limit(cache):
    text = (
        '#include "problem.h"\n'
        "template <long N> struct Slow { static constexpr long value() {\n"
        "  long s = 0; for (long i = 0; i < 200000; ++i) s += i % (N + 1);\n"
        "  return s + Slow<N - 1>::value(); } };\n"
        "template <> struct Slow<0> { static constexpr long value() { return 0; } };\n"
        "constexpr long worst = Slow<800>::value();\n"
        'extern "C" int kp_run(const struct softmax_args*) { return worst > 0; }\n'
    )
    refused = build_text(cache, text, timeout_s=0.5)
    assert refused.reason is Reason.BUILD_TIMED_OUT
    assert "longer than" in refused.message


def test_own_problem_header_is_refused(cache):
    refused = build_text(cache, extra=(Source(path="problem.h", text=""),))
    assert refused.reason is Reason.LANGUAGE_MISMATCH
    assert "problem.h is generated" in refused.message


def test_candidate_without_a_translation_unit_is_refused(cache):
    candidate = make_candidate(sources=(Source(path="run.py", text=""),))
    refused = build(make_problem(), candidate, cache=cache, timeout_s=TIMEOUT_S)
    assert isinstance(refused, BuildRefused)
    assert refused.reason is Reason.LANGUAGE_MISMATCH


def test_reserved_axis_name_is_the_problems_fault(cache):
    problem = make_problem(axes=(*make_problem().axes, Axis(name="int", kind="var")))
    with pytest.raises(DefinitionError, match="reserved"):
        build(problem, make_candidate(), cache=cache, timeout_s=TIMEOUT_S)


@pytest.mark.skipif("bubblewrap" not in " ".join(sandbox.active_layers()), reason="no bubblewrap")
@pytest.mark.parametrize("how", ["#include", "__asm__"])
def test_files_outside_the_candidate_cannot_be_read(cache, tmp_path, how):
    secret = tmp_path / "secret.h"
    secret.write_text("#error TELLTALE\n")
    line = {
        "#include": f'#include "{secret}"\n',
        "__asm__": f'__asm__(".incbin \\"{secret}\\"");\n',
    }[how]
    refused = build_text(cache, line + SOFTMAX_CPP)
    assert refused.reason is Reason.COMPILE_FAILED
    assert "TELLTALE" not in refused.log_tail


def test_missing_compiler_is_named_with_its_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("g++") is None
    with pytest.raises(ToolchainMissing, match=r"g\+\+.*install"):
        build(make_problem(), make_candidate(), cache=tmp_path, timeout_s=TIMEOUT_S)
