import pytest

from gpu_runner.candidate import Language, Source
from gpu_runner.jobs import Reason
from gpu_runner.languages import Artefact, build
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import refused_by
from tests.gpu_runner.nursing import shared

TIMEOUT_S = 60.0

COMPILES_AT_IMPORT = r"""
import ctypes, os, subprocess
_so = os.environ["CAND_BUILD_DIR"] + "/helper.so"
if not os.path.exists(_so):
    _c = os.environ["CAND_BUILD_DIR"] + "/helper.c"
    with open(_c, "w") as f:
        f.write("int seven(void) { return 7; }")
    subprocess.run(["gcc", "-shared", "-fPIC", _c, "-o", _so], check=True)
assert ctypes.CDLL(_so).seven() == 7

def run(x):
    return x
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory, zygote):
    return shared(zygote, tmp_path_factory.mktemp("workspace")) / "cache"


def build_text(cache, text="def run(x): return x\n", *, is_trusted=False, **changes):
    candidate = make_candidate(language=Language.PYTHON, text=text, **changes)
    return build(make_problem(), candidate, cache=cache, timeout_s=TIMEOUT_S, is_trusted=is_trusted)


def test_artefact_is_the_module_itself(cache):
    artefact = build_text(cache)
    assert isinstance(artefact, Artefact)
    assert artefact.entry.read_text() == "def run(x): return x\n"
    assert artefact.compiler.startswith("python 3.")
    assert "torch" in artefact.compiler
    assert build_text(cache).is_cached


def test_only_source_may_have_any_name(cache):
    source = Source(path="softmax_v3.py", text="def run(x): return x\n")
    artefact = build_text(cache, sources=(source,))
    assert artefact.entry.name == "candidate.py"
    assert artefact.entry.read_text() == source.text


def test_sources_import_each_other(cache):
    sources = (
        Source(path="candidate.py", text="from pieces.helper import run\n"),
        Source(path="pieces/helper.py", text="def run(x): return x\n"),
    )
    assert isinstance(build_text(cache, sources=sources), Artefact)


def test_library_compiled_at_import_is_kept_for_the_subject(cache):
    artefact = build_text(cache, COMPILES_AT_IMPORT)
    assert isinstance(artefact, Artefact), artefact
    assert (artefact.path / "build" / "helper.so").stat().st_size > 0
    assert artefact.environment["CAND_BUILD_DIR"] == str(artefact.path / "build")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def run(x:\n", "SyntaxError"),
        ("import absent_module\n", "No module named 'absent_module'"),
        ("raise ValueError('cannot start')\n", "ValueError: cannot start"),
        ("import os\nos._exit(0)\n", "ended the process"),
        ("import sys\nsys.exit(3)\n", "cannot be imported"),
        ("import ctypes\nctypes.string_at(0)\n", "killed by signal 11"),
        ("x = 1\n", "defines no function run"),
        ("run = 3\n", "defines no function run"),
    ],
)
def test_module_that_does_not_load_is_refused_with_its_own_words(cache, text, said):
    refused = build_text(cache, text)
    assert refused.reason is Reason.LOAD_FAILED
    assert said in refused.message
    assert str(cache) not in refused.log_tail


def test_traceback_shows_the_line_without_our_paths(cache):
    refused = build_text(cache, "def run(x): return x\n\n1 / 0\n")
    assert 'File "candidate.py", line 3' in refused.log_tail


def test_endless_import_is_stopped(cache):
    candidate = make_candidate(language=Language.PYTHON, text="while True: pass\n")
    refused = refused_by(build(make_problem(), candidate, cache=cache, timeout_s=1.0))
    assert refused.reason is Reason.BUILD_TIMED_OUT


def test_flags_are_refused(cache):
    assert build_text(cache, flags=("-O3",)).reason is Reason.FLAG_NOT_ALLOWED


def test_two_modules_need_one_named_candidate(cache):
    sources = (Source(path="a.py", text=""), Source(path="b.py", text=""))
    refused = build_text(cache, sources=sources)
    assert refused.reason is Reason.LANGUAGE_MISMATCH
    assert "candidate.py" in refused.message


def test_trusted_baseline_has_a_place_of_its_own_with_a_writable_folder(cache):
    trusted = build_text(cache, is_trusted=True)
    candidate = build_text(cache)
    assert trusted.path != candidate.path
    assert trusted.writable[0].is_dir()
    assert candidate.writable == ()
