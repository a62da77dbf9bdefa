"""Bubblewrap's command lines, and what is said where it does not work."""

import sys
from pathlib import Path

import pytest

from gpu_runner.host import bubblewrap
from gpu_runner.host.grants import Grants


@pytest.fixture
def fake_bwrap(tmp_path, monkeypatch):
    """A bwrap of our own on PATH, and nothing remembered of the real one."""

    def install(script):
        if script is not None:
            (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / "bwrap").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        forget()

    def forget():
        bubblewrap.options.cache_clear()
        bubblewrap._found.cache_clear()

    forget()
    yield install
    monkeypatch.undo()
    forget()


def test_missing_program_is_named_with_the_remedy(fake_bwrap):
    fake_bwrap(None)
    assert bubblewrap.options() is None
    assert "install bubblewrap" in (bubblewrap.refusal() or "")
    assert not bubblewrap.has_own_user()


def test_program_that_fails_is_quoted(fake_bwrap):
    fake_bwrap("echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    assert bubblewrap.options() is None
    assert "No permissions to create new namespace" in (bubblewrap.refusal() or "")


def test_program_that_fails_in_silence_is_refused_too(fake_bwrap):
    fake_bwrap("exit 1")
    assert "without a word" in (bubblewrap.refusal() or "")


def test_own_user_is_given_up_before_everything(fake_bwrap):
    fake_bwrap('case "$*" in *--unshare-user*) exit 1;; esac; exit 0')
    assert bubblewrap.refusal() is None
    assert bubblewrap.options() is not None
    assert "--unshare-net" in (bubblewrap.options() or ())
    assert not bubblewrap.has_own_user()


def test_strongest_isolation_is_taken_where_it_works(fake_bwrap):
    fake_bwrap("exit 0")
    assert bubblewrap.has_own_user()
    assert {"--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"} <= set(
        bubblewrap.options() or ()
    )


def pairs(line, option):
    """The sources of every mount of one kind, in order."""
    return [line[index + 1] for index, word in enumerate(line) if word == option]


def test_outer_folders_are_mounted_before_inner_ones():
    inner, outer = Path("/data/a/b"), Path("/data")
    line = bubblewrap.command(["true"], Grants(readable=(inner, outer)))
    mounts = pairs(line, "--ro-bind-try")
    assert mounts.index(str(outer)) < mounts.index(str(inner))


def test_writable_folders_are_mounted_last():
    line = bubblewrap.command(
        ["true"], Grants(readable=(Path("/data"),), writable=(Path("/data/out"),))
    )
    last_readable = max(i for i, word in enumerate(line) if word == "--ro-bind-try")
    assert last_readable < line.index("--bind")
    assert line.index("--tmpfs") < line.index("--bind")


def test_interpreter_is_visible_and_home_is_not():
    line = bubblewrap.command(["true"], Grants())
    mounts = pairs(line, "--ro-bind-try")
    for prefix in (sys.prefix, sys.base_prefix):
        assert prefix in mounts or Path(prefix).is_relative_to("/usr")
    for hidden in ("/", "/home", "/root", "/etc", "/var", "/run", "/tmp"):
        assert hidden not in mounts


def test_nothing_is_writable_unless_granted():
    assert "--bind" not in bubblewrap.command(["true"], Grants())


def test_own_options_come_before_the_command():
    line = bubblewrap.command(["echo", "--bind"], Grants(), ("--chdir", "/x"))
    end = line.index("--")
    assert line[end + 1 :] == ["echo", "--bind"]
    assert line.index("--chdir") < end


def test_environment_is_set_word_by_word():
    line = bubblewrap.command(["true"], Grants(environment={"A": "x y", "B": "--"}))
    assert line.index("--clearenv") < line.index("--setenv")
    where = [i for i, word in enumerate(line) if word == "--setenv"]
    assert [line[i + 1 : i + 3] for i in where] == [["A", "x y"], ["B", "--"]]
