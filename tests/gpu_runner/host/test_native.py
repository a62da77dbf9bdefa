"""Compiling and keeping the native host."""

import os
import shutil
import stat
import subprocess

import pytest

from gpu_runner.errors import RunnerError, ToolchainMissing
from gpu_runner.host import native


@pytest.fixture(autouse=True)
def _forget_programs():
    native.host_program.cache_clear()
    yield
    native.host_program.cache_clear()


def test_program_is_compiled_once_and_found_again(tmp_path):
    program = native.host_program(tmp_path)
    made = program.stat()
    native.host_program.cache_clear()
    assert native.host_program(tmp_path) == program
    assert program.stat().st_mtime_ns == made.st_mtime_ns
    assert stat.S_IMODE(made.st_mode) == 0o555
    assert [p.name for p in program.parent.iterdir()] == [program.name]


def test_source_compiles_without_a_warning(tmp_path):
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    finished = subprocess.run(
        ["gcc", "-std=gnu17", "-O2", *warnings, native.SOURCE, "-o", tmp_path / "host", "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr == ""


def test_program_refuses_other_words(tmp_path):
    program = native.host_program(tmp_path)
    assert subprocess.run([program], check=False).returncode == 70
    finished = subprocess.run(
        [program, "0", "99", "x"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 70
    assert "setup" in finished.stderr


def test_no_compiler_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert native.find_compiler() is None
    with pytest.raises(ToolchainMissing, match="install gcc"):
        native.host_program(tmp_path)


def test_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    broken = tools / "cc"
    broken.write_text("#!/bin/sh\necho 'no space for it' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    with pytest.raises(RunnerError, match="no space for it"):
        native.host_program(tmp_path)
    assert list((tmp_path / "hosts").iterdir()) == []


def test_other_compiler_makes_another_program(tmp_path, monkeypatch):
    first = native.host_program(tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "cc").symlink_to(shutil.which("gcc"))
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    native.host_program.cache_clear()
    assert native.host_program(tmp_path) != first
