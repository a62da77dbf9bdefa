import os
import sys

import pytest

from gpu_runner.candidate import Source
from gpu_runner.errors import ToolchainMissing
from gpu_runner.host import sandbox
from gpu_runner.jobs import Reason
from gpu_runner.languages.artefact import BuildRefused
from gpu_runner.languages.toolchain import (
    SOURCE_FOLDER,
    Deadline,
    first_error,
    run_step,
    run_tool,
    shortened,
    version_line,
    write_sources,
)
from tests.builders import make_candidate

HAS_BUBBLEWRAP = "bubblewrap" in sandbox.active_layers()
needs_bubblewrap = pytest.mark.skipif(not HAS_BUBBLEWRAP, reason="bubblewrap does not work here")


def run_python(folder, program, **changes):
    values = {"cwd": folder, "writable": folder, "deadline": Deadline(30.0), **changes}
    return run_tool([sys.executable, "-I", "-c", program], **values)


def test_sources_are_written_where_they_say(tmp_path):
    sources = (
        Source(path="kernel.cpp", text="one"),
        Source(path="deep/er/helper.h", text="two"),
    )
    write_sources(make_candidate(sources=sources), tmp_path)
    found = {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*.*")}
    assert found == {"kernel.cpp": "one", "deep/er/helper.h": "two"}


@pytest.mark.parametrize("path", ["../escape.cpp", "/etc/passwd", "a//b.cpp", ".hidden", "a/../b"])
def test_a_source_cannot_name_a_place_outside(path):
    with pytest.raises(ValueError, match="path"):
        Source(path=path, text="")


def test_environment_is_ours_and_nothing_is_inherited(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "do not tell")
    program = "import os; print(sorted(os.environ)); print(os.environ['TMPDIR'])"
    finished = run_python(tmp_path, program, environment={"EXTRA": "1"})
    assert finished.returncode == 0, finished.output
    assert "SECRET_TOKEN" not in finished.output
    assert "EXTRA" in finished.output
    assert str(tmp_path) in finished.output


def test_a_build_may_start_processes(tmp_path):
    program = "import subprocess; print(subprocess.run(['echo', 'child'], check=True))"
    finished = run_python(tmp_path, program)
    assert finished.returncode == 0, finished.output


def test_a_build_may_write_its_folder(tmp_path):
    finished = run_python(tmp_path, f"open({str(tmp_path / 'made')!r}, 'w').write('x')")
    assert finished.returncode == 0, finished.output
    assert (tmp_path / "made").read_text() == "x"


@needs_bubblewrap
def test_a_build_may_write_nothing_else(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    program = f"open({str(outside / 'made')!r}, 'w').write('x')"
    finished = run_python(inside, program, readable=(outside,))
    assert finished.returncode != 0
    assert list(outside.iterdir()) == []


@needs_bubblewrap
def test_a_build_has_no_network(tmp_path):
    program = (
        "import socket\n"
        "try:\n    socket.create_connection(('192.0.2.1', 80), timeout=2)\n"
        "except OSError as error:\n    print('no way out:', error)\n"
    )
    finished = run_python(tmp_path, program)
    assert finished.output.startswith("no way out:")
    assert "timed out" not in finished.output


def test_a_build_that_runs_late_is_killed(tmp_path):
    finished = run_python(tmp_path, "import time; time.sleep(60)", deadline=Deadline(0.5))
    assert finished.returncode is None
    assert finished.seconds < 30


def test_output_is_the_end_of_what_was_said(tmp_path):
    finished = run_python(tmp_path, "print('x' * 100_000); print('last words')")
    assert finished.output.endswith("last words\n")
    assert len(finished.output) <= 8 * 1024


def test_version_of_an_absent_tool_names_it():
    with pytest.raises(ToolchainMissing, match="no-such-compiler is not on PATH"):
        version_line("no-such-compiler")


def test_version_of_a_broken_tool_names_its_path(tmp_path, monkeypatch):
    tool = tmp_path / "broken-compiler"
    tool.write_text("#!/bin/sh\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ToolchainMissing, match="broken-compiler --version failed"):
        version_line("broken-compiler")


def test_version_is_the_last_number_of_the_tools_own_words(tmp_path, monkeypatch):
    tool = tmp_path / "odd-compiler"
    tool.write_text("#!/bin/sh\necho 'odd (Distribution 1.2.3) 12.2.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert version_line("odd-compiler") == "odd-compiler 12.2.0"


def test_deadline_is_shared_by_the_steps():
    deadline = Deadline(0.0)
    assert 0 < deadline.left_s <= 0.01
    assert deadline.refusal().reason is Reason.BUILD_TIMED_OUT
    assert "longer than 0 s" in deadline.refusal().message
    assert 59 < Deadline(60.0).left_s <= 60


def test_shortened_log_has_no_trace_of_our_folders(tmp_path):
    inner = tmp_path / "source"
    log = f"{inner}/k.cpp:1: error\nin {tmp_path}/objects/0.o\nat {tmp_path}\n"
    assert shortened(log, tmp_path, inner) == "k.cpp:1: error\nin objects/0.o\nat .\n"


@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("k.cpp:1:1: warning: x\nk.cpp:2:1: error: no 'M'\nk.cpp:3:1: error: y\n", "k.cpp:2:1"),
        ("k.cpp:1:10: fatal error: absent.h: No such file\n", "k.cpp:1:10: fatal error"),
        ("0.o: in function `kp_run':\nk.cpp:(.text+0x5): undefined reference to `f'\n", "k.cpp"),
        ("kernel.cu(3): error: identifier undefined\n", "kernel.cu(3)"),
        ("all is well\n", ""),
        ("", ""),
    ],
)
def test_first_error_is_found_among_other_lines(log, found):
    assert first_error(log).startswith(found)
    assert bool(first_error(log)) == bool(found)


def test_error_of_any_length_fits_a_message():
    assert len(first_error("k.cpp:1: error: " + "x" * 10_000)) <= 300


def step_of(folder, program, *, timeout_s: float = 30.0):
    (folder / SOURCE_FOLDER).mkdir()
    return run_step([sys.executable, "-I", "-c", program], folder, Deadline(timeout_s))


def test_a_step_runs_among_the_sources_and_returns_its_log(tmp_path):
    assert step_of(tmp_path, "import os; print(os.getcwd(), 'is here')") == ". is here\n"


def test_a_failed_step_is_refused_with_its_first_error_or_its_exit_code(tmp_path):
    refused = step_of(tmp_path, "print('one'); print('a.c:1: error: two'); exit(3)")
    assert isinstance(refused, BuildRefused)
    assert refused.reason is Reason.COMPILE_FAILED
    assert refused.message == f"{sys.executable} failed: a.c:1: error: two"
    assert refused.log_tail == "one\na.c:1: error: two\n"


def test_a_step_that_fails_without_a_word_is_refused_by_its_exit_code(tmp_path):
    refused = step_of(tmp_path, "exit(3)")
    assert isinstance(refused, BuildRefused)
    assert refused.message == f"{sys.executable} failed: exit code 3"


def test_a_step_that_does_not_end_in_time_is_refused_by_its_deadline(tmp_path):
    refused = step_of(tmp_path, "import time; time.sleep(60)", timeout_s=0.5)
    assert isinstance(refused, BuildRefused)
    assert refused.reason is Reason.BUILD_TIMED_OUT
