"""The lists of flags: what passes is a flag the compiler knows, and nothing passes by its ends."""

import itertools
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.candidate import Language
from gpu_runner.jobs import Reason
from gpu_runner.languages import cpp, cuda
from tests.builders import make_candidate

NAMES = {
    "": [
        *("finite-math-only", "associative-math", "reciprocal-math"),
        "unsafe-math-optimizations",
    ],
    "no-": [
        *("math-errno", "trapping-math", "signed-zeros", "signaling-nans", "rounding-math"),
        *("unroll-loops", "tree-vectorize", "tree-slp-vectorize", "exceptions", "rtti"),
        *("prefetch-loop-arrays", "strict-aliasing", "omit-frame-pointer", "openmp-simd"),
        "ipa-pta",
    ],
}
FLAGS = [
    *("-O2", "-O3", "-Ofast", "-ffast-math"),
    *(f"-f{name}" for names in NAMES.values() for name in names),
    *(f"-fno-{name}" for name in NAMES["no-"]),
    *(f"-ffp-contract={value}" for value in ("fast", "off", "on")),
    *(
        f"-f{kind}-cost-model={value}"
        for kind, value in itertools.product(
            ("vect", "simd"), ("unlimited", "dynamic", "cheap", "very-cheap")
        )
    ),
    *(f"-mprefer-vector-width={value}" for value in ("none", "128", "256", "512")),
]
CUDA_FLAGS = [
    *(f"--gpu-architecture={arch}" for arch in ("sm_80", "sm_90a", "sm_100a")),
    *("--use_fast_math", "--extra-device-vectorization", "--restrict", "--maxrregcount=64"),
    *(
        f"--{name}={value}"
        for name in ("ftz", "fmad", "prec-div", "prec-sqrt")
        for value in ("true", "false")
    ),
]


def is_allowed(flag, language=Language.CPP):
    candidate = make_candidate(language=language, flags=(flag,), text="x")
    refusal = cpp.refuse_flags(candidate) if language is Language.CPP else cuda._refuse(candidate)
    return refusal is None or refusal.reason is not Reason.FLAG_NOT_ALLOWED


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_of_the_list_passes(flag):
    assert is_allowed(flag)


@pytest.mark.parametrize("compiler", ["gcc", "g++"])
def test_each_flag_of_the_list_is_one_the_compilers_know(compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    language = "c" if compiler == "gcc" else "c++"
    # What only C++ has draws a warning from gcc, which is no failure of a build.
    argv = [compiler, *FLAGS, "-march=native", "-fsyntax-only", "-x", language, "-"]
    done = subprocess.run(
        argv, input="int f(int x) { return x; }\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flag", CUDA_FLAGS)
def test_each_cuda_flag_of_the_list_passes(flag):
    assert is_allowed(flag, Language.CUDA)


@pytest.mark.parametrize(
    "flag",
    [
        *("--gpu-architecture=sm_90", "--gpu-architecture=compute_90", "-arch=sm_90a"),
        *("--maxrregcount=", "--maxrregcount=1000", "--maxrregcount=-1", "--ftz=maybe"),
        *("--compiler-options=-fplugin=x", "--include-path=/etc", "--pre-include=/etc/passwd"),
        *("-I/", "-o/tmp/x", "--output-file=x", "--run", "-ccbin=sh", "--keep-dir=/tmp"),
        *("@options", "-DX=1", "--device-debug", "--restrict\n", " --restrict", ""),
    ],
)
def test_no_other_cuda_flag_passes(flag):
    assert not is_allowed(flag, Language.CUDA)


@pytest.mark.parametrize("flag", ["-fno-fast-math", "-fno-finite-math-only", "-fno-ffast-math"])
def test_a_negation_that_is_not_listed_is_refused(flag):
    assert not is_allowed(flag)


TAILS = st.text(min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(FLAGS), TAILS)
def test_nothing_may_follow_or_precede_a_flag_of_the_list(flag, more):
    assert is_allowed(flag + more) == (flag + more in FLAGS)
    assert is_allowed(more + flag) == (more + flag in FLAGS)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CUDA_FLAGS), TAILS.filter(lambda text: not text[0].isdigit()))
def test_nothing_may_follow_or_precede_a_cuda_flag(flag, more):
    assert not is_allowed(flag + more, Language.CUDA)
    assert not is_allowed(more + flag, Language.CUDA)


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_no_text_at_all_can_name_a_path(text):
    for flag in (f"-I{text}", f"-L{text}", f"-o{text}", f"-fplugin={text}", f"-specs={text}"):
        assert not is_allowed(flag)


@settings(max_examples=40, deadline=None)
@given(st.permutations(["-O2", "-fplugin=x", "-I/", "-ffast-math"]))
def test_the_first_flag_off_the_list_is_the_one_named(flags):
    refusal = cpp.refuse_flags(make_candidate(flags=tuple(flags)))
    assert refusal is not None
    first = next(flag for flag in flags if flag in {"-fplugin=x", "-I/"})
    assert repr(first) in refusal.message


@pytest.mark.parametrize(
    ("path", "compiler"),
    [
        ("kernel.cpp", "g++"),
        ("a.cc", "g++"),
        ("a.cxx", "g++"),
        ("deep/a.c", "gcc"),
        ("a.h", None),
        ("a.CPP", None),
        ("cpp", None),
        ("a.cpp.txt", None),
    ],
)
def test_the_suffix_chooses_the_compiler(path, compiler):
    (source,) = make_candidate().sources
    candidate = make_candidate(sources=(source.model_copy(update={"path": path}),))
    found = list(cpp.compiled_sources(candidate))
    assert found == ([(compiler, path)] if compiler else [])


def test_units_are_compiled_in_the_order_they_are_given():
    (source,) = make_candidate().sources
    paths = ("b.c", "z.h", "a.cpp", "c.cc")
    sources = tuple(source.model_copy(update={"path": path}) for path in paths)
    found = list(cpp.compiled_sources(make_candidate(sources=sources)))
    assert found == [("gcc", "b.c"), ("g++", "a.cpp"), ("g++", "c.cc")]
