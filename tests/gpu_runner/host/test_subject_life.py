"""Subjects that hold native code: turns, threads, loading, logs and the end."""

import mmap
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from gpu_runner.errors import RunnerError, SubjectFailed
from gpu_runner.host import cgroup, machine
from gpu_runner.host.arena import Arena, ArenaMode
from gpu_runner.host.subject import CallTime, Subject
from gpu_runner.jobs import Reason
from tests.gpu_runner.host.kernels import (
    POISON,
    build_shared_object,
    make_mode,
    make_plan,
    make_scaling,
)
from tests.gpu_runner.host.serving import ONLY_PROTOCOL, pid_of, refusal_of, serve_once

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    return build_shared_object(tmp_path_factory.mktemp("native"))


def test_two_subjects_take_turns(artefact):
    """One runs while the other is frozen, on memory of their own."""
    problem = make_scaling()
    with ExitStack() as stack:
        arenas = [
            stack.enter_context(Arena(problem, make_mode("count_threads"), slots=1))
            for _ in range(2)
        ]
        subjects = [stack.enter_context(Subject(make_plan(artefact, a))) for a in arenas]
        for subject in subjects:
            subject.wait_ready()
        for turn in range(6):
            running, frozen = turn % 2, 1 - turn % 2
            for arena in arenas:
                arena.input(0, "x")[...] = turn
                arena.poison([0], POISON)
            subjects[running].call(0, 0, 1)
            assert (arenas[running].output(0, "y") == 2 * turn).all()
            assert (arenas[frozen].output(0, "y").view(np.uint32) == POISON).all()
        for subject in subjects:
            subject.refuse_movement()


def test_every_call_is_on_the_contents_of_its_moment(artefact):
    with (
        Arena(make_scaling(), make_mode("double_it"), slots=2) as arena,
        Subject(make_plan(artefact, arena)) as subject,
    ):
        subject.wait_ready()
        for turn in range(200):
            slot = turn % 2
            arena.input(slot, "x")[...] = turn
            arena.poison([slot], POISON)
            subject.call(0, slot, 1)
            assert (arena.output(slot, "y") == 2 * turn).all()


def test_subject_is_pinned_and_cannot_unpin_itself(artefact):
    (output,), _, _ = serve_once(artefact, "is_pinned", cpu=max(machine.pick_cpus(1)[1]))
    assert output.ravel()[:3].tolist() == [1, -1, 1]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_two_threads_have_two_processors(artefact):
    (output,), _, _ = serve_once(artefact, "is_pinned", threads=2)
    assert output.ravel()[:3].tolist() == [2, 0, 2]


def test_processor_time_is_that_of_the_call(artefact):
    _, busy, _ = serve_once(artefact, "use_processor")
    _, idle, _ = serve_once(artefact, "double_it")
    assert idle.cpu_ns < busy.cpu_ns <= busy.wall_ns


def test_log_is_capped_and_shown(artefact):
    problem = make_scaling()
    with (
        Arena(problem, make_mode("print_much"), slots=1) as arena,
        Subject(make_plan(artefact, arena)) as subject,
    ):
        subject.wait_ready()
        subject.call(0, 0, 1)
        tail = subject.close()
    assert set(tail) == {"a"}
    assert 0 < len(tail) <= 8192


def test_close_ends_every_process_and_may_be_repeated(artefact):
    problem = make_scaling()
    with Arena(problem, make_mode("fork"), slots=1) as arena:
        subject = Subject(make_plan(artefact, arena, without=ONLY_PROTOCOL))
        subject.wait_ready()
        with pytest.raises(SubjectFailed, match="1 other process"):
            subject.call(0, 0, 1)
        inside = subject._launched.enclosure.pids()
        assert subject.close() == subject.close()
    assert inside == set()


def test_failed_subject_cannot_be_called_again(artefact):
    with (
        Arena(make_scaling(), make_mode("crash"), slots=1) as arena,
        Subject(make_plan(artefact, arena)) as subject,
    ):
        subject.wait_ready()
        with pytest.raises(SubjectFailed):
            subject.call(0, 0, 1)
        with pytest.raises(RunnerError, match="between wait_ready"):
            subject.call(0, 0, 1)


def test_subject_cannot_be_called_before_it_is_ready(artefact):
    with (
        Arena(make_scaling(), make_mode("double_it"), slots=1) as arena,
        Subject(make_plan(artefact, arena)) as subject,
        pytest.raises(RunnerError, match="between wait_ready"),
    ):
        subject.call(0, 0, 1)


def test_subject_killed_between_calls_is_refused(artefact):
    with (
        Arena(make_scaling(), make_mode("double_it"), slots=1) as arena,
        Subject(make_plan(artefact, arena)) as subject,
    ):
        subject.wait_ready()
        os.kill(pid_of(subject), signal.SIGKILL)
        with pytest.raises(SubjectFailed, match="SIGKILL") as caught:
            subject.call(0, 0, 1)
    assert caught.value.reason is Reason.CRASHED


def test_object_without_the_entry_is_not_loaded(artefact, tmp_path):
    source = tmp_path / "kernel.c"
    source.write_text("int other(void) { return 0; }")
    assert (
        os.spawnlp(os.P_WAIT, "gcc", "gcc", "-shared", str(source), "-o", f"{tmp_path}/kernel.so")
        == 0
    )
    error = refusal_of(_moved(artefact, tmp_path), "double_it")
    assert error.reason is Reason.LOAD_FAILED
    assert "kp_run" in error.message


def test_file_that_is_no_object_is_not_loaded(artefact, tmp_path):
    (tmp_path / "kernel.so").write_text("nothing")
    assert refusal_of(_moved(artefact, tmp_path), "double_it").reason is Reason.LOAD_FAILED


def test_constructor_that_hangs_is_timed_out(artefact, tmp_path):
    source = tmp_path / "kernel.c"
    source.write_text(
        "#include <unistd.h>\n__attribute__((constructor)) void c(void) { for (;;) pause(); }"
    )
    assert (
        os.spawnlp(
            os.P_WAIT, "gcc", "gcc", "-shared", "-fPIC", str(source), "-o", f"{tmp_path}/kernel.so"
        )
        == 0
    )
    error = refusal_of(_moved(artefact, tmp_path), "double_it", start_timeout_s=1.0)
    assert error.reason is Reason.TIMED_OUT


def test_several_arenas_and_slots_are_told_apart(artefact):
    problem = make_scaling()
    small = make_mode("double_it", name="small", axes={"B": 1, "N": 3})
    large = make_mode(
        "double_it", name="large", axes={"B": 5, "N": 1000}, scalars={"mode": 0, "scale": -3}
    )
    with Arena(problem, small, slots=2) as first, Arena(problem, large, slots=3) as second:
        for arena in (first, second):
            for slot in range(arena.slots):
                arena.input(slot, "x")[...] = slot + 1
            arena.poison(range(arena.slots), POISON)
        with Subject(make_plan(artefact, first, second)) as subject:
            subject.wait_ready()
            subject.call(1, 1, 2)
            assert second.unwritten([0], POISON) == "y"
            assert second.unwritten([1, 2], POISON) is None
            assert (second.output(2, "y") == -9).all()
            subject.call(0, 0, 2)
            assert (first.output(1, "y") == 4).all()
            assert second.unwritten([0], POISON) == "y"


@pytest.mark.parametrize("arena_mode", list(ArenaMode))
def test_empty_tensors_are_served(artefact, arena_mode):
    workload = make_mode("double_it", axes={"B": 0, "N": 16})
    with (
        Arena(make_scaling(), workload, slots=2, mode=arena_mode) as arena,
        Subject(make_plan(artefact, arena)) as subject,
    ):
        subject.wait_ready()
        assert isinstance(subject.call(0, 0, 2), CallTime)
        assert arena.broken_guard([0, 1]) is None


def test_supervisor_survives_a_subject_that_punches_holes(artefact):
    """Sealed sizes: whatever the subject does to its files, reading the outputs cannot fault."""
    with Arena(make_scaling(), make_mode("double_it"), slots=1) as arena:
        for fd in (arena.input_fd, arena.output_fd):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, 0)
            with pytest.raises(PermissionError):
                os.ftruncate(fd, 1 << 20)
        with pytest.raises(PermissionError):
            mmap.mmap(arena.input_fd, 4096)


@pytest.mark.skipif(cgroup.refusal() is not None, reason="needs a control group")
def test_control_groups_are_removed(artefact):
    before = {p.name for home in cgroup._homes() for p in home.glob("kp-*")}
    serve_once(artefact, "double_it")
    left = {p.name for home in cgroup._homes() for p in home.glob(f"kp-{os.getpid()}-*")}
    assert left - before == set()


def _moved(artefact, folder: Path):
    return type(artefact)(**{**vars(artefact), "path": folder})
