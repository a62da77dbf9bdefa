"""The zygote of supervisors: forked from while it lives, done without when it is gone."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_runner.execution import Execution, ExecutionPlan
from gpu_runner.process_tree import children
from gpu_runner.spool import Spool
from gpu_runner.supervisors import Supervisors
from tests.gpu_runner.executors import EXECUTOR, is_alive, make_built, make_job, seen

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0

pytestmark = pytest.mark.processes


@pytest.fixture
def prepared(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with Supervisors().prepared(EXECUTOR) as supervisors:
        assert supervisors.wait_ready()
        yield supervisors


@pytest.fixture
def begin(tmp_path):
    begun = []

    def begin(supervisors, order):
        plan = ExecutionPlan(workspace=tmp_path, executor=EXECUTOR)
        begun.append(Execution(make_job(order=order), 1, plan, Spool(tmp_path), (), supervisors))
        return begun[-1]

    yield begin
    for execution in begun:
        execution.end()
        execution.close()


def zygote_of(supervisors):
    (pid,) = supervisors.spared
    return pid


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_prepared_one_forks(prepared, begin):
    execution = begin(prepared, "sleep 600")
    assert parent_of(execution.pid) == zygote_of(prepared)


def test_the_executor_is_prepared_once_and_before_any_fork(prepared, begin):
    told = seen(begin(prepared, "prepared").wait()).compiler
    assert told == f"prepared by [{zygote_of(prepared)}]"


def test_an_interpreter_of_its_own_is_not_prepared(begin, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert seen(begin(Supervisors(), "prepared").wait()).compiler == "prepared by []"


def test_an_unprepared_one_spares_nobody_and_starts_interpreters(begin, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    supervisors = Supervisors()
    assert supervisors.spared == frozenset()
    assert not supervisors.wait_ready()
    assert parent_of(begin(supervisors, "sleep 600").pid) == os.getpid()


def test_before_the_zygote_is_ready_interpreters_are_started(begin, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with Supervisors().prepared(EXECUTOR) as supervisors:
        os.kill(zygote_of(supervisors), signal.SIGSTOP)
        assert begin(supervisors, "answer").wait() == make_built()
        os.kill(zygote_of(supervisors), signal.SIGCONT)


def test_an_executor_that_cannot_be_imported_does_without(begin, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with Supervisors().prepared("tests.nowhere:execute") as supervisors:
        assert not supervisors.wait_ready()
        assert begin(supervisors, "answer").wait() == make_built()
    assert "tests.nowhere" in capfd.readouterr().err


def test_forks_end_with_a_killed_zygote_and_later_jobs_do_without(prepared, begin):
    execution = begin(prepared, "sleep 600")
    os.kill(zygote_of(prepared), signal.SIGKILL)
    assert select.select([execution.pidfd], [], [], PATIENCE_S)[0]
    outcome = execution.outcome()
    assert (outcome.cause, outcome.is_retryable) == ("internal_error", True)
    assert "Killed" in outcome.message
    assert begin(prepared, "answer").wait() == make_built()


def test_a_stopped_zygote_is_not_waited_for_for_ever(prepared, begin, monkeypatch):
    monkeypatch.setattr("gpu_runner.supervisors._FORK_S", 0.5)
    os.kill(zygote_of(prepared), signal.SIGSTOP)
    assert begin(prepared, "answer").wait() == make_built()
    assert begin(prepared, "answer").wait() == make_built()


def test_a_zygote_ends_when_its_worker_is_killed():
    code = f"""
import os, signal
from gpu_runner.supervisors import Supervisors
with Supervisors().prepared({EXECUTOR!r}) as supervisors:
    assert supervisors.wait_ready()
    print(*supervisors.spared, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    try:
        ended = select.select([os.pidfd_open(pid)], [], [], PATIENCE_S)[0]
    except ProcessLookupError:
        ended = [pid]
    assert ended
    assert not is_alive(pid)


def test_nothing_is_left_when_the_context_is_left(prepared, begin):
    before = set(children(os.getpid()))
    with Supervisors().prepared(EXECUTOR) as supervisors:
        assert supervisors.wait_ready()
        execution = begin(supervisors, "hang")
    assert select.select([execution.pidfd], [], [], PATIENCE_S)[0]
    assert set(children(os.getpid())) == before


def test_a_zygote_whose_worker_has_gone_ends_without_a_word():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.close()
    words = (str(theirs.fileno()), str(os.getpid()), EXECUTOR)
    with theirs:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "gpu_runner.supervisors", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=(theirs.fileno(),),
            capture_output=True,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
