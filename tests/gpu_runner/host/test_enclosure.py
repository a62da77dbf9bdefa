"""Enclosures: started, looked into, ended."""

import os
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gpu_runner.errors import RunnerError
from gpu_runner.host import bubblewrap
from gpu_runner.host.enclosure import Enclosure
from gpu_runner.host.grants import Grants, LayerName

pytestmark = pytest.mark.processes

ALL: frozenset[LayerName] = frozenset()
NO_NAMESPACE: frozenset[LayerName] = frozenset({"bubblewrap"})
NO_GROUP: frozenset[LayerName] = frozenset({"bubblewrap", "cgroup"})
EVERYWHERE = pytest.mark.parametrize(
    "without", [ALL, NO_NAMESPACE, NO_GROUP], ids=["all", "no namespace", "no group"]
)


@contextmanager
def enclosed(*argv, without=ALL, cpus=None, **changes):
    """Yield the enclosure and a function that returns its output so far, once there is some."""
    output = os.memfd_create("output")
    null = os.open(os.devnull, os.O_RDONLY)
    grants = Grants(
        environment={"PATH": "/usr/bin:/bin"},
        may_spawn=True,
        without=without,
        **changes,
    )
    made = Enclosure(argv, grants, stdin=null, output=output, cpus=cpus)

    def said():
        deadline = time.monotonic() + 10
        while not (text := os.pread(output, 4096, 0)) and time.monotonic() < deadline:
            time.sleep(0.005)
        return text.decode()

    try:
        yield made, said
    finally:
        made.close()
        os.close(output)
        os.close(null)


def names_of(pids):
    """The processes' names, sorted; none of those that have just gone."""
    found = []
    for pid in pids:
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return sorted(found)


@EVERYWHERE
def test_status_is_waited_for(without):
    with enclosed("sh", "-c", "exit 5", without=without) as (made, _):
        assert made.wait(10) == 5
    with enclosed("sh", "-c", "kill -6 $$", without=without) as (made, _):
        assert made.wait(10) == -6


@EVERYWHERE
def test_command_that_runs_has_no_status(without):
    with enclosed("sleep", "60", without=without) as (made, _):
        assert made.wait(0.05) is None


@EVERYWHERE
def test_every_process_inside_is_listed(without):
    script = "sleep 60 & (setsid sleep 60 &) ; echo ready; wait"
    with enclosed("sh", "-c", script, without=without) as (made, said):
        assert said() == "ready\n"
        deadline = time.monotonic() + 10
        while names_of(pids := made.pids()) != ["sh", "sleep", "sleep"]:
            assert time.monotonic() < deadline, names_of(pids)
            time.sleep(0.005)
        assert made.first_pid not in pids
        made.close()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@EVERYWHERE
def test_closing_twice_is_closing_once(without):
    with enclosed("sleep", "60", without=without) as (made, _):
        made.close()
        made.close()
        assert made.wait(0) is not None


@EVERYWHERE
def test_command_runs_on_the_processors_it_is_given(without):
    chosen = frozenset({max(os.sched_getaffinity(0))})
    text = "import os; print(sorted(os.sched_getaffinity(0)), flush=True)"
    command = (sys.executable, "-I", "-S", "-c", text)
    with enclosed(*command, without=without, cpus=chosen) as (_, said):
        assert said().strip() == str(sorted(chosen))


@EVERYWHERE
def test_command_is_told_nothing_of_ours(without):
    script = "ls /proc/self/fd | wc -l; tty; echo done"
    with enclosed("sh", "-c", script, without=without) as (made, said):
        made.wait(10)
        count, terminal, _ = said().split("\n", 2)
        assert int(count) <= 5
        assert "not a tty" in terminal


@EVERYWHERE
def test_no_child_of_ours_is_left(without):
    with enclosed("sleep", "60", without=without) as (made, _):
        outer = made.process.pid
    assert not Path(f"/proc/{outer}").exists()


def test_bubblewrap_that_breaks_later_is_our_fault(tmp_path, monkeypatch):
    """It worked when it was tried, and cannot start now."""
    if bubblewrap.options() is None:
        pytest.skip("needs bubblewrap")
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(RunnerError, match="bubblewrap did not start"), enclosed("true"):
        pass


def test_processors_that_do_not_exist_are_refused_and_ours_kept():
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError, match="Invalid argument"):
        enclosed("true", cpus=frozenset({1000})).__enter__()
    assert os.sched_getaffinity(0) == before
