"""Ending what is below a process, signals as bytes, and endpoints: the corners."""

import itertools
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.child import execute_safely, is_disk_full, unserved_by
from gpu_runner.endpoint import check_endpoint
from gpu_runner.errors import PoolError, ToolchainMissing
from gpu_runner.jobs import OUTCOME, Unserved
from gpu_runner.outcomes import cancelled, is_final
from gpu_runner.process_tree import children, die_with_parent, signals_as_bytes
from tests.gpu_runner.executors import EXECUTOR, make_built, make_job


def told(code: str, **changes) -> object:
    """Return what a fresh process prints as JSON; its children are no concern of ours."""
    head = "import json, os, signal, subprocess, sys, time\n"
    head += "from gpu_runner.process_tree import *\n"
    finished = subprocess.run(
        [sys.executable, "-c", head + code], check=True, capture_output=True, **changes
    )
    return json.loads(finished.stdout)


SLEEPERS = (
    "import subprocess, sys\n"
    "run = [sys.executable, '-S', '-c', 'import time; time.sleep(600)']\n"
    "made = [subprocess.Popen(run) for _ in range(3)]\n"
)


@pytest.mark.processes
def test_every_child_is_killed_and_reaped():
    code = SLEEPERS + (
        "adopt_orphans()\n"
        "left = end_children()\n"
        "print(json.dumps([list(left), list(children(os.getpid()))]))\n"
        "for p in made: p.returncode = -9"
    )
    assert told(code) == [[], []]


@pytest.mark.processes
def test_without_patience_the_living_are_named_and_left():
    code = SLEEPERS + (
        "left = end_children(patience_s=0)\n"
        "print(json.dumps([sorted(left) == sorted(p.pid for p in made),\n"
        "                  [p.poll() for p in made]]))\n"
        "end_children()\n"
        "for p in made: p.returncode = -9"
    )
    assert told(code) == [True, [None, None, None]]


def test_a_process_without_children_has_nothing_to_end():
    assert told("print(json.dumps([end_children(), children(1 << 22)]))") == [[], []]


def test_a_zombie_is_still_a_child():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pid in children(os.getpid())
    os.waitpid(pid, 0)
    assert pid not in children(os.getpid())


def test_a_living_parent_keeps_its_child():
    code = f"die_with_parent({os.getpid()}); print(json.dumps(os.getppid()))"
    assert told(code) == os.getpid()
    die_with_parent(None)


def test_signals_outside_the_block_are_as_before_also_after_an_error():
    before = signal.getsignal(signal.SIGUSR2)
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)

    def fail() -> None:
        with signals_as_bytes(signal.SIGUSR2) as descriptor:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert os.read(descriptor, 8) == bytes([signal.SIGUSR2])
            raise KeyError("in between")

    with pytest.raises(KeyError, match="in between"):
        fail()
    assert signal.getsignal(signal.SIGUSR2) is before
    assert signal.set_wakeup_fd(woken) == woken


def test_blocks_nest_and_the_outer_one_hears_again():
    with signals_as_bytes(signal.SIGUSR1) as outer:
        with signals_as_bytes(signal.SIGUSR1) as inner:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert os.read(inner, 8) == bytes([signal.SIGUSR1])
        os.kill(os.getpid(), signal.SIGUSR1)
        assert os.read(outer, 8) == bytes([signal.SIGUSR1])


def test_nobody_waits_where_no_signal_came():
    with signals_as_bytes(signal.SIGUSR1) as descriptor, pytest.raises(BlockingIOError):
        os.read(descriptor, 8)


# -- endpoints ---------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.ip_addresses(v=4), st.integers(1, 65535))
def test_only_a_loopback_address_may_be_listened_at(address, port):
    endpoint = f"tcp://{address}:{port}"
    if address.is_loopback:
        assert check_endpoint(endpoint) == endpoint
        return
    with pytest.raises(PoolError, match="not loopback"):
        check_endpoint(endpoint)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_an_endpoint_or_refused_with_a_reason(text):
    with suppress(PoolError):
        assert check_endpoint(text) == text
        return
    with pytest.raises(PoolError, match=r"neither ipc|not loopback|longer than 107"):
        check_endpoint(text)


# -- failures as outcomes ----------------------------------------------------------------------


def chained(*errors: BaseException) -> BaseException:
    """Return the last error, each caused by the one before."""
    for cause, error in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[-1]


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (FULL, True),
        (OSError(122, "Disk quota exceeded"), True),
        (OSError(13, "Permission denied"), False),
        (chained(OSError(28, "full"), KeyError("a"), RuntimeError("b")), True),
        (chained(KeyError("a"), RuntimeError("b")), False),
        (MemoryError(), False),
    ],
)
def test_a_full_disk_is_found_however_deep(error, is_full):
    assert is_disk_full(error) is is_full
    assert (unserved_by(error, "job").cause == "no_space") is is_full


def test_a_full_disk_met_while_another_error_was_handled_is_found():
    later = OSError(5, "I/O error")
    later.__context__ = OSError(28, "full")
    assert later.__cause__ is None
    assert is_disk_full(later)


@settings(deadline=None)
@given(st.text(st.characters(codec=None), max_size=40))
def test_whatever_an_error_says_the_outcome_can_be_sent(text):
    outcome = unserved_by(ValueError(text), "job")
    assert OUTCOME.validate_json(outcome.model_dump_json()) == outcome
    assert outcome.message.startswith("ValueError: ")


def test_a_missing_tool_is_worth_another_try_and_no_last_word():
    outcome = unserved_by(ToolchainMissing("no g++"), "job")
    assert outcome == Unserved(job_id="job", cause="no_tool", message="no g++", is_retryable=True)
    assert not is_final(outcome)
    assert not is_final(cancelled("job"))


@pytest.mark.parametrize("job_id", ["job", "r1-k003-l0-check"])
def test_an_executor_answers_for_its_own_job(tmp_path, job_id):
    assert execute_safely(make_job(job_id), EXECUTOR, tmp_path) == make_built(job_id)
