"""Python modules of unusual shape: what is kept of them, what is refused, what they may do."""

import ast
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.candidate import Language, Source
from gpu_runner.host import sandbox
from gpu_runner.jobs import Reason
from gpu_runner.languages import build, import_check
from gpu_runner.languages.python import _entry_path, interpreter
from tests.builders import make_candidate, make_problem
from tests.gpu_runner.languages.outcomes import built, refused_by
from tests.gpu_runner.nursing import shared

RUN = "def run(x):\n    return x\n"
needs_bubblewrap = pytest.mark.skipif(
    "bubblewrap" not in sandbox.active_layers(), reason="bubblewrap does not work here"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, zygote):
    return shared(zygote, tmp_path_factory.mktemp("workspace")) / "cache"


def make_python(text=RUN, **changes):
    return make_candidate(language=Language.PYTHON, text=text, **changes)


def build_text(cache, text=RUN, **changes):
    return build(make_problem(), make_python(text, **changes), cache=cache, timeout_s=60.0)


CALLABLES = {
    "a class": "class run:\n    def __new__(cls, x):\n        return x\n",
    "an object": "class K:\n    def __call__(self, x):\n        return x\nrun = K()\n",
    "a lambda": "run = lambda x: x\n",
    "a function of the library": "from math import sqrt as run\n",
    "a data class that looks its module up": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass K:\n    size: int = 1\n" + RUN
    ),
}


@pytest.mark.parametrize("name", CALLABLES)
def test_whatever_can_be_called_is_a_run(cache, name):
    assert built(build_text(cache, CALLABLES[name])).entry.read_text() == CALLABLES[name]


def test_what_a_module_says_while_it_is_imported_is_kept(cache):
    text = "import sys\nprint('tuned for 64')\nprint('and warned', file=sys.stderr)\n" + RUN
    log = built(build_text(cache, text)).log_tail
    assert "tuned for 64" in log
    assert "and warned" in log
    assert import_check.DONE not in log


def test_a_module_that_prints_the_last_line_itself_gains_nothing(cache):
    """It passes the check that is for its writer's benefit; the subject loads it all the same."""
    text = f"import os\nprint({import_check.DONE!r}, flush=True)\nos._exit(0)\n"
    assert built(build_text(cache, text)).entry.exists()
    found = refused_by(build_text(cache, text.replace("_exit(0)", "_exit(5)")))
    assert found.reason is Reason.LOAD_FAILED


REFUSED = {
    "an import of itself": ("import candidate\ncandidate.run(1)\n", "has no attribute 'run'"),
    "a relative import": ("from . import helper\n" + RUN, "relative import"),
    "an abort": ("import os\nos.abort()\n", "killed by signal 6"),
    "an exit with words": ("raise SystemExit('no device')\n", "no device"),
    "a recursion without end": ("def f(): f()\nf()\n", "RecursionError"),
    "null bytes": ("x = 1\0\n", "null bytes"),
    "a tab among blanks": ("def run(x):\n        y = x\n\treturn y\n", "TabError"),
    "a deleted run": (RUN + "del run\n", "defines no function run"),
    "an error in another source": ("import helper\n" + RUN, "ZeroDivisionError"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_does_not_load_is_refused(cache, name):
    text, said = REFUSED[name]
    (entry,) = make_python(text).sources
    helper = Source(path="helper.py", text="1 / 0\n")
    found = refused_by(build_text(cache, sources=(entry, helper)))
    assert found.reason is Reason.LOAD_FAILED
    assert said in found.message
    assert str(cache) not in found.message + found.log_tail


def test_an_error_of_any_length_fits_the_message(cache):
    found = refused_by(build_text(cache, "raise ValueError('x' * 5000)\n"))
    assert len(found.message) < 400


@needs_bubblewrap
def test_an_import_may_write_its_build_folder_and_not_its_source(cache):
    text = (
        "import os, pathlib\nhere = pathlib.Path(__file__)\n"
        "(pathlib.Path(os.environ['CAND_BUILD_DIR']) / 'table.bin').write_bytes(b'42')\n"
        "try:\n    here.with_name('planted.py').write_text('')\n"
        "except OSError as error:\n    print('refused:', type(error).__name__)\n"
    )
    artefact = built(build_text(cache, text + RUN))
    assert "refused: " in artefact.log_tail
    assert (artefact.path / "build" / "table.bin").read_bytes() == b"42"
    assert not (artefact.path / "planted.py").exists()


@pytest.mark.parametrize("calling", ["returning", "destination"])
def test_the_calling_is_kept_and_tells_artefacts_apart(cache, calling):
    artefact = built(build_text(cache, RUN + "# calling\n", calling=calling))
    assert artefact.calling == calling
    other = "returning" if calling == "destination" else "destination"
    assert built(build_text(cache, RUN + "# calling\n", calling=other)).path != artefact.path


PATHS = st.lists(
    st.sampled_from(["candidate.py", "a.py", "deep/b.py", "notes.txt", "k.cu", "candidate.txt"]),
    unique=True,
    min_size=1,
)


@settings(max_examples=60, deadline=None)
@given(PATHS)
def test_the_entry_is_the_named_one_or_the_only_one(paths):
    sources = tuple(Source(path=path, text=RUN) for path in paths)
    modules = [path for path in paths if path.endswith(".py")]
    expected = modules[0] if len(modules) == 1 else None
    if "candidate.py" in modules:
        expected = "candidate.py"
    assert _entry_path(make_python(sources=sources)) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["run", "Run", "runs", "x"]), max_size=3), st.booleans())
def test_a_run_is_told_from_names_like_it(tmp_path_factory, names, is_function):
    folder = tmp_path_factory.mktemp("module")
    body = "def {0}(x): return x\n" if is_function else "{0} = 3\n"
    (folder / "candidate.py").write_text("".join(body.format(name) for name in names))
    tree = ast.parse((folder / "candidate.py").read_text())
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    before = list(sys.path)
    try:
        code = import_check.main(folder / "candidate.py")
    finally:
        sys.path[:] = before
        sys.modules.pop("candidate", None)
    assert code == (0 if "run" in defined else 1)


def test_a_file_that_is_no_module_is_told_by_name(tmp_path):
    (tmp_path / "candidate.txt").write_text(RUN)
    finished = subprocess.run(
        [sys.executable, "-I", import_check.__file__, str(tmp_path / "candidate.txt")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert finished.stderr == "candidate.txt is not a Python module\n"


def test_the_interpreter_is_named_with_the_version_that_asks():
    version = ".".join(map(str, sys.version_info[:3]))
    assert interpreter().startswith(f"python {version}")
