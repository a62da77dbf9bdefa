"""Processes that end with their parent, and those that would rather not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu_runner.process_tree import EXIT_ORPHANED, children, signals_as_bytes
from tests.gpu_runner.executors import is_alive, seen

pytestmark = pytest.mark.processes

PARENT = """
import os, subprocess, sys
code = '''
import os, sys, time
from gpu_runner.process_tree import die_with_parent
die_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(600)
'''
subprocess.Popen([sys.executable, "-c", code, str(os.getpid())]).wait()
"""


def wait_for(is_true):
    give_up_s = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_a_child_dies_with_its_killed_parent():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=-1) as parent:
        child = int(seen(parent.stdout).readline())
        assert children(parent.pid) == (child,)
        parent.kill()
        wait_for(lambda: not is_alive(child))


def test_a_child_whose_parent_is_already_gone_ends_at_once():
    code = "from gpu_runner.process_tree import *; die_with_parent(1 << 22); print('alive')"
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert (run.returncode, run.stdout) == (EXIT_ORPHANED, b"")


def test_without_a_parent_nothing_is_asked_for():
    code = "from gpu_runner.process_tree import *; die_with_parent(None); print('alive')"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert run.stdout == b"alive\n"


FAMILY = """
import subprocess, sys, time
from gpu_runner.process_tree import adopt_orphans, end_children
adopt_orphans()
daemon = '''
import os, signal, sys, time
if os.fork():
    os._exit(0)
os.setsid()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    time.sleep(600)
print(os.getpid(), os.getppid(), flush=True)
time.sleep(600)
'''
subprocess.Popen([sys.executable, "-c", daemon])
line = input()
print(line, end_children(), flush=True)
"""


def test_daemons_below_are_killed_whatever_their_session():
    read, write = os.pipe()
    run = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(run, stdin=-1, stdout=write) as family, os.fdopen(read) as said:
        os.close(write)
        pids = [int(word) for word in said.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        family.communicate(b"end\n")
        assert said.readline() == "end ()\n"
        assert not any(is_alive(pid) for pid in pids)


SPARING = """
import subprocess, sys
from gpu_runner.process_tree import adopt_orphans, end_children
adopt_orphans()
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
kept, ended = subprocess.Popen(sleep), subprocess.Popen(sleep)
print(end_children(spared=frozenset({kept.pid})), kept.poll(), ended.wait(), flush=True)
kept.kill()
"""


def test_a_spared_child_lives_on_and_counts_as_no_survivor():
    run = subprocess.run([sys.executable, "-c", SPARING], check=True, capture_output=True)
    survivors, kept, _ = run.stdout.split()
    assert (survivors, kept) == (b"()", b"None")


def test_children_with_odd_names_are_found(tmp_path):
    program = tmp_path / "a) R 1 (b"
    program.symlink_to(sys.executable)
    prefix = Path(sys.executable).parent.parent
    environment = {**os.environ, "PYTHONHOME": sys.base_prefix, "VIRTUAL_ENV": str(prefix)}
    code = "print(1, flush=True); input()"
    run = [str(program), "-S", "-c", code]
    with subprocess.Popen(run, stdin=-1, stdout=-1, env=environment) as child:
        seen(child.stdout).readline()
        assert child.pid in children(os.getpid())
        child.communicate(b"\n")


def test_signals_arrive_as_bytes_and_the_old_handlers_return():
    before = signal.getsignal(signal.SIGUSR1)
    with signals_as_bytes(signal.SIGUSR1, signal.SIGTERM) as descriptor:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert set(os.read(descriptor, 64)) == {signal.SIGUSR1, signal.SIGTERM}
    assert signal.getsignal(signal.SIGUSR1) is before
