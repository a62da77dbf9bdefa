import subprocess
import sys

import pytest

from gpu_runner.candidate import Language
from gpu_runner.errors import ToolchainMissing
from gpu_runner.languages import BUILDERS, build, missing_toolchain
from gpu_runner.languages.toolchain import Deadline, first_error, machine_isa, shortened
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


def test_deadline_counts_down_and_stays_above_zero():
    deadline = Deadline(0.0)
    assert 0 < deadline.left_s <= 0.01
    assert deadline.elapsed_s >= 0
    assert "longer than 0 s" in deadline.refusal().message
    assert 59 < Deadline(60.0).left_s <= 60


def test_shortened_log_has_no_trace_of_our_folders(tmp_path):
    inner = tmp_path / "source"
    log = f"{inner}/k.cpp:1: error\nin {tmp_path}/objects/0.o\nat {tmp_path}\n"
    assert shortened(log, tmp_path, inner) == "k.cpp:1: error\nin objects/0.o\nat .\n"


def test_first_error_is_found_among_warnings():
    log = "k.cpp:1:1: warning: x\nk.cpp:2:1: error: no member 'M'\nk.cpp:3:1: error: later\n"
    assert first_error(log) == "k.cpp:2:1: error: no member 'M'"
    assert first_error("all is well") == ""


def test_machine_isa_is_stable_and_a_file_name():
    assert machine_isa() == machine_isa()
    assert "/" not in machine_isa()
