"""Subjects that hold native code: what is served, and every way to be refused."""

import errno
import os
import time

import numpy as np
import pytest

from gpu_runner.errors import SubjectFailed
from gpu_runner.host import bubblewrap, landlock
from gpu_runner.host.arena import Arena, ArenaMode
from gpu_runner.host.subject import Subject
from gpu_runner.jobs import Reason
from tests.gpu_runner.host.kernels import (
    POISON,
    build_shared_object,
    make_mode,
    make_plan,
    make_scaling,
)
from tests.gpu_runner.host.serving import (
    ALL,
    FALLBACKS,
    NO_NAMESPACE,
    ONLY_PROTOCOL,
    refusal_of,
    serve_once,
)

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    return build_shared_object(tmp_path_factory.mktemp("native"))


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
