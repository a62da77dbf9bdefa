import subprocess
import sys

import pytest

from gpu_runner.candidate import Language
from gpu_runner.languages import BUILDERS, missing_toolchain
from gpu_runner.languages.toolchain import machine_isa


def test_every_language_has_a_builder():
    assert set(BUILDERS) == set(Language)


def test_this_machine_builds_the_languages_of_the_process_tier():
    assert missing_toolchain(Language.CPP) is None
    assert missing_toolchain(Language.PYTHON) is None


WITHOUT = {
    Language.CPP: "os.environ['PATH'] = '/nowhere'",
    # An entry of None makes any import of the package fail, as where it is not installed.
    Language.CUDA: "os.environ['PATH'] = '/nowhere'; sys.modules['cuda'] = None",
    Language.TRITON: "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]",
}
BUILD_WITHOUT = """
import os, pathlib, sys
from gpu_runner.candidate import Language
from gpu_runner.errors import ToolchainMissing
from gpu_runner.languages import build, missing_toolchain
from tests.builders import make_candidate, make_problem
{take_away}
cache = pathlib.Path(sys.argv[2])
candidate = make_candidate(language=Language(sys.argv[1]), text="x = 1")
print(missing_toolchain(candidate.language))
try:
    build(make_problem(), candidate, cache=cache, timeout_s=60.0)
except ToolchainMissing as error:
    print(error)
print(cache.exists())
"""


@pytest.mark.parametrize("language", WITHOUT)
def test_a_language_without_its_toolchain_says_what_to_install(tmp_path, language):
    """In a process from which the toolchain is taken away, whatever this machine has."""
    program = BUILD_WITHOUT.format(take_away=WITHOUT[language])
    finished = subprocess.run(
        [sys.executable, "-c", program, language, str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=True,
    )
    reason, error, was_made = finished.stdout.splitlines()
    assert "install" in reason
    assert error == reason
    assert was_made == "False"


def test_python_is_the_language_that_cannot_be_missing():
    assert set(WITHOUT) == set(Language) - {Language.PYTHON}


def test_importing_the_builders_imports_no_torch_and_no_cuda():
    program = (
        "import sys, gpu_runner.languages\n"
        "print([m for m in ('torch', 'cuda', 'triton') if m in sys.modules])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert finished.stdout == "[]\n"


def test_machine_isa_is_stable_and_a_file_name():
    assert machine_isa() == machine_isa()
    assert "/" not in machine_isa()
