import subprocess
import sys

import pytest

from gpu_runner.candidate import Language
from gpu_runner.errors import ToolchainMissing
from gpu_runner.languages import BUILDERS, build, missing_toolchain
from gpu_runner.languages.toolchain import machine_isa
from tests.builders import make_candidate, make_problem


def test_every_language_has_a_builder():
    assert set(BUILDERS) == set(Language)


def test_this_machine_builds_the_languages_of_the_process_tier():
    assert missing_toolchain(Language.CPP) is None
    assert missing_toolchain(Language.PYTHON) is None


@pytest.mark.parametrize("language", Language)
def test_a_language_without_its_toolchain_says_what_to_install(tmp_path, language):
    reason = missing_toolchain(language)
    if reason is None:
        pytest.skip(f"{language} can be built here")
    assert "install" in reason
    candidate = make_candidate(language=language, text="x = 1")
    with pytest.raises(ToolchainMissing, match="install"):
        build(make_problem(), candidate, cache=tmp_path, timeout_s=60.0)


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
