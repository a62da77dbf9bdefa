"""Subjects that hold native code: what is served, and every way to be refused."""

import errno
import mmap
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from gpu_runner.errors import RunnerError, SubjectFailed
from gpu_runner.host import bubblewrap, cgroup, landlock, machine
from gpu_runner.host.arena import Arena, ArenaMode
from gpu_runner.host.grants import LayerName
from gpu_runner.host.subject import CallTime, Subject
from gpu_runner.jobs import Reason
from tests.gpu_runner.host.kernels import (
    POISON,
    build_shared_object,
    make_mode,
    make_plan,
    make_scaling,
)

pytestmark = pytest.mark.serial

ALL: frozenset[LayerName] = frozenset()
NO_NAMESPACE = frozenset({"bubblewrap"})
ONLY_PROTOCOL = frozenset({"bubblewrap", "landlock", "seccomp", "cgroup", "rlimits"})
FALLBACKS = pytest.mark.parametrize(
    "without", [ALL, NO_NAMESPACE, ONLY_PROTOCOL], ids=["all", "no namespace", "bare"]
)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    return build_shared_object(tmp_path_factory.mktemp("native"))


def serve_once(artefact, mode, *, arena_mode=ArenaMode.TIMED, slots=1, **changes):
    """Return the outputs of one call of all slots, its time, and what the marks say."""
    problem = make_scaling()
    with Arena(problem, make_mode(mode), slots=slots, mode=arena_mode) as arena:
        for slot in range(slots):
            arena.input(slot, "x")[...] = np.arange(64, dtype=np.float32).reshape(4, 16) + slot
        arena.poison(range(slots), POISON)
        with Subject(make_plan(artefact, arena, **changes)) as subject:
            subject.wait_ready()
            spent = subject.call(0, 0, slots)
            found = [arena.output(slot, "y").copy() for slot in range(slots)]
            subject.refuse_movement()
            marks = arena.broken_guard(range(slots)), arena.unwritten(range(slots), POISON)
        return found, spent, marks


def pid_of(subject) -> int:
    return int(subject._freezer.pid)


def refusal_of(artefact, mode, **changes) -> SubjectFailed:
    with pytest.raises(SubjectFailed) as caught:
        serve_once(artefact, mode, **changes)
    return caught.value


@FALLBACKS
@pytest.mark.parametrize("arena_mode", list(ArenaMode))
def test_all_slots_are_served_in_one_token(artefact, without, arena_mode):
    found, spent, marks = serve_once(
        artefact, "double_it", slots=3, arena_mode=arena_mode, without=without
    )
    for slot, output in enumerate(found):
        expected = 2 * (np.arange(64, dtype=np.float32).reshape(4, 16) + slot)
        np.testing.assert_array_equal(output, expected)
    assert marks == (None, None)
    assert spent.wall_ns > 0
    assert spent.cpu_ns > 0


@pytest.mark.parametrize(
    ("mode", "reason", "said"),
    [
        ("crash", Reason.CRASHED, "SIGSEGV"),
        ("abort", Reason.CRASHED, "SIGABRT"),
        ("exit_0", Reason.EXITED, "status 0"),
        ("exit_3", Reason.EXITED, "status 3"),
        ("mutate_input", Reason.CRASHED, "wrote an input"),
        ("return_7", Reason.ENTRY_FAILED, "kp_run returned 7"),
        ("forge_wrong_number", Reason.PROTOCOL_VIOLATED, "token's number"),
        ("forge_long", Reason.PROTOCOL_VIOLATED, "token's number"),
        ("forge_short", Reason.PROTOCOL_VIOLATED, "token's number"),
        ("forge_empty", Reason.PROTOCOL_VIOLATED, "channel"),
        ("answer_twice", Reason.PROTOCOL_VIOLATED, "token's number"),
        ("close_channel", Reason.PROTOCOL_VIOLATED, "channel"),
    ],
)
def test_misbehaviour_has_its_reason(artefact, mode, reason, said):
    error = refusal_of(artefact, mode)
    assert error.reason is reason
    assert said in error.message


@pytest.mark.parametrize("mode", ["crash", "exit_0", "mutate_input", "forge_long"])
def test_misbehaviour_has_the_same_reason_without_any_layer(artefact, mode):
    held = refusal_of(artefact, mode)
    bare = refusal_of(artefact, mode, without=ONLY_PROTOCOL)
    assert (held.reason, held.message) == (bare.reason, bare.message)


@pytest.mark.parametrize("mode", ["hang", "exit_thread_main"])
def test_silence_ends_with_the_time_limit(artefact, mode):
    error = refusal_of(artefact, mode, call_timeout_s=0.3)
    assert error.reason is Reason.TIMED_OUT
    assert "0.3 s" in error.message


@pytest.mark.parametrize("without", [NO_NAMESPACE | {"seccomp"}, ONLY_PROTOCOL])
@pytest.mark.parametrize("mode", ["fork", "vfork_exec"])
def test_new_process_is_found_where_nothing_denies_it(artefact, mode, without):
    error = refusal_of(artefact, mode, without=without)
    assert error.reason is Reason.FORKED


@pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap")
def test_new_process_is_found_in_a_namespace(artefact):
    assert refusal_of(artefact, "fork", without=frozenset({"seccomp"})).reason is Reason.FORKED


@pytest.mark.parametrize(
    ("mode", "side"), [("write_after", "after output 'y'"), ("write_before", "before output 'y'")]
)
def test_write_beside_an_output_breaks_a_guard(artefact, mode, side):
    _, _, (broken, unwritten) = serve_once(artefact, mode)
    assert broken == f"{side} of slot 0"
    assert unwritten is None


@pytest.mark.parametrize(
    ("mode", "fence"),
    [
        ("write_after", ArenaMode.FENCED_END),
        ("read_after", ArenaMode.FENCED_END),
        ("write_before", ArenaMode.FENCED_START),
        ("read_before", ArenaMode.FENCED_START),
    ],
)
def test_access_beyond_a_fence_crashes(artefact, mode, fence):
    error = refusal_of(artefact, mode, arena_mode=fence)
    assert error.reason is Reason.CRASHED
    assert "SIGSEGV" in error.message


def test_write_on_the_slack_side_of_a_fence_breaks_a_guard(artefact):
    _, _, (broken, _) = serve_once(artefact, "write_before", arena_mode=ArenaMode.FENCED_END)
    assert broken == "before output 'y' of slot 0"


@pytest.mark.parametrize("mode", ["write_nothing", "write_half"])
def test_unwritten_output_is_named(artefact, mode):
    _, _, marks = serve_once(artefact, mode)
    assert marks == (None, "y")


def test_what_a_thread_writes_after_the_answer_is_not_there(artefact):
    """A thread that sleeps 20 ms is frozen before it writes, and later calls find it frozen."""
    problem = make_scaling()
    with (
        Arena(problem, make_mode("write_later"), slots=1) as arena,
        Subject(make_plan(artefact, arena)) as subject,
    ):
        subject.wait_ready()
        arena.poison([0], POISON)
        subject.call(0, 0, 1)
        time.sleep(0.05)
        subject.refuse_movement()
        assert arena.unwritten([0], POISON) == "y"


def test_timer_cannot_wake_a_frozen_process(artefact):
    """The filter denies the timer: the process stays frozen."""
    with (
        Arena(make_scaling(), make_mode("wake_by_timer"), slots=1) as arena,
        Subject(make_plan(artefact, arena)) as subject,
    ):
        subject.wait_ready()
        subject.call(0, 0, 1)
        time.sleep(0.3)
        subject.refuse_movement()


def test_process_that_wakes_itself_is_found_where_nothing_denies_it(artefact):
    problem = make_scaling()
    with Arena(problem, make_mode("wake_by_timer"), slots=1) as arena:
        plan = make_plan(artefact, arena, without=frozenset({"bubblewrap", "seccomp"}))
        with Subject(plan) as subject:
            subject.wait_ready()
            subject.call(0, 0, 1)
            time.sleep(0.3)
            with pytest.raises(SubjectFailed, match="ran while it was to be stopped") as caught:
                subject.refuse_movement()
    assert caught.value.reason is Reason.PROTOCOL_VIOLATED


def test_thread_that_sends_sigcont_does_not_prevent_the_stop(artefact):
    _, _, marks = serve_once(artefact, "wake_by_kill")
    assert marks == (None, None)


def test_spinning_threads_are_frozen_too(artefact):
    problem = make_scaling()
    with (
        Arena(problem, make_mode("count_threads"), slots=1) as arena,
        Subject(make_plan(artefact, arena)) as subject,
    ):
        subject.wait_ready()
        subject.call(0, 0, 1)
        arena.poison([0], POISON)
        time.sleep(0.05)
        assert arena.unwritten([0], POISON) == "y"
        subject.refuse_movement()


def test_system_calls_are_really_denied(artefact):
    (output,), _, _ = serve_once(artefact, "probe_system_calls")
    values = output.ravel()[:24].astype(int).tolist()
    expected = [errno.EPERM] * 22
    expected[2] = errno.ENOSYS
    assert values == [*expected, 1, 0]


def test_descriptor_cannot_be_told_to_send_sigcont(artefact):
    (output,), _, _ = serve_once(artefact, "wake_by_setsig")
    assert output[0, 0] == -1


@pytest.mark.parametrize("without", [ALL, ONLY_PROTOCOL])
def test_input_cannot_be_made_writable(artefact, without):
    (output,), _, _ = serve_once(artefact, "unmask_input", without=without)
    assert output[0, 0] == -1


@pytest.mark.skipif(bubblewrap.options() is None, reason="needs bubblewrap")
def test_files_of_the_machine_are_not_there(artefact):
    (output,), _, _ = serve_once(artefact, "read_memory")
    assert output[0, 0] == -1


@pytest.mark.parametrize(
    "without",
    [
        pytest.param(ALL, marks=pytest.mark.skipif(not bubblewrap.options(), reason="bubblewrap")),
        pytest.param(
            NO_NAMESPACE, marks=pytest.mark.skipif(not landlock.version(), reason="Landlock")
        ),
    ],
)
def test_memory_of_the_supervisor_is_out_of_reach(artefact, without):
    workload = make_mode("read_supervisor")
    scalars = {**workload.scalars, "scale": os.getpid()}
    with (
        Arena(make_scaling(), workload.model_copy(update={"scalars": scalars}), slots=1) as arena,
        Subject(make_plan(artefact, arena, without=without)) as subject,
    ):
        subject.wait_ready()
        subject.call(0, 0, 1)
        assert arena.output(0, "y")[0, 0] == -1


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
