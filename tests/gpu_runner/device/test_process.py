"""Device processes without a device: they start, say what is wrong, and end for sure."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpu_runner.channel import Channel
from gpu_runner.device.placement import place
from gpu_runner.device.process import DeviceProcess, ProcessFailed
from gpu_runner.device.serving import describe
from gpu_runner.device.zygote import SOCKET, connect, listening
from tests.builders import make_problem, make_workload

PROBLEM = make_problem()
OPEN = {
    "do": "open",
    "problem": PROBLEM.model_dump(mode="json"),
    "places": describe([place(PROBLEM, make_workload(), slots=1)]),
    "batches": 1,
}
PATIENCE_S = 60.0

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def nest(tmp_path_factory):
    """A folder in which a zygote listens; its path is longer than a socket's may be."""
    folder = tmp_path_factory.mktemp("nest") / ("long" * 30)
    folder.mkdir()
    argv = [sys.executable, "-m", "gpu_runner.device.zygote", str(folder), str(os.getpid())]
    with subprocess.Popen(argv) as zygote:
        until = time.monotonic() + PATIENCE_S
        while not (end := connect(folder, 1.0)) and time.monotonic() < until:
            assert zygote.poll() is None
            time.sleep(0.1)
        assert end is not None
        end.close()
        yield folder
        zygote.kill()


def gone(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], PATIENCE_S)[0])


def connection(nest):
    end = connect(nest, 5.0)
    assert end is not None
    return Channel(end)


def forked(nest, role="oracle"):
    """Ask the zygote by hand: lifeline, our end of the channel, pidfd of the fork."""
    ours, theirs = socket.socketpair()
    lifeline = connection(nest)
    with Path(os.devnull).open("wb") as log:
        lifeline.send({"role": role}, (theirs.fileno(), log.fileno()))
    _, (pidfd,) = lifeline.receive(5.0)
    theirs.close()
    return lifeline, ours, pidfd


@pytest.mark.parametrize("role", ["launcher", "oracle", "baseline"])
def test_a_role_says_what_is_missing_where_there_is_no_device(nest, role):
    with DeviceProcess(role, nest) as process:
        process.tell(OPEN)
        with pytest.raises(ProcessFailed) as failed:
            process.answer(PATIENCE_S)
    assert failed.value.kind == "driver"
    assert "cuInit" in str(failed.value) or "cuda" in str(failed.value)
    assert "Traceback" in failed.value.log_tail


def test_without_a_zygote_an_interpreter_is_started(tmp_path):
    with DeviceProcess("launcher", tmp_path) as process:
        process.tell(OPEN)
        with pytest.raises(ProcessFailed) as failed:
            process.answer(PATIENCE_S)
    assert failed.value.kind == "driver"


def test_an_unknown_message_ends_the_process_and_is_told(nest):
    with DeviceProcess("launcher", nest) as process, pytest.raises(ProcessFailed) as failed:
        process.ask("dance", PATIENCE_S)
    assert failed.value.kind == "internal"
    assert failed.value.name == "KeyError"


def test_a_process_that_does_not_answer_in_time_is_dead_afterwards(nest):
    process = DeviceProcess("launcher", nest)
    try:
        with pytest.raises(ProcessFailed) as failed:
            process.answer(0.2)
        assert failed.value.kind == "silent"
        with pytest.raises(ProcessFailed):
            process.ask("run", 1.0)
    finally:
        process.close()


def test_a_fork_ends_when_its_channel_is_hung_up(nest):
    lifeline, ours, pidfd = forked(nest)
    ours.close()
    assert gone(pidfd)
    lifeline.close()
    os.close(pidfd)


def test_a_fork_is_killed_when_its_lifeline_is_cut_though_it_cannot_listen(nest):
    lifeline, ours, pidfd = forked(nest)
    signal.pidfd_send_signal(pidfd, signal.SIGSTOP)  # as deaf as one that waits for a kernel
    lifeline.close()
    assert gone(pidfd)
    ours.close()
    os.close(pidfd)


@pytest.mark.parametrize(
    "request_", [{"role": "shell"}, {}, {"role": 7}], ids=["unknown", "none", "number"]
)
def test_a_request_that_makes_no_sense_is_dropped_and_the_next_one_served(nest, request_):
    bad = connection(nest)
    bad.send(request_)
    lifeline, ours, pidfd = forked(nest)
    for end in (bad, lifeline, ours):
        end.close()
    assert gone(pidfd)
    os.close(pidfd)


def test_a_socket_that_a_dead_zygote_left_is_replaced(tmp_path):
    first = listening(tmp_path)
    first.close()
    assert (tmp_path / SOCKET).exists()
    assert connect(tmp_path, 0.5) is None
    with listening(tmp_path):
        end = connect(tmp_path, 0.5)
        assert end is not None
        end.close()


def test_nobody_listens_in_an_empty_folder(tmp_path):
    assert connect(tmp_path, 0.5) is None
    assert connect(tmp_path / "missing", 0.5) is None
