"""A side: artefact, arenas and subject opened together, judged by its marks, closed together."""

import gc
import math
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.candidate import Language
from gpu_runner.errors import RunnerError, SubjectFailed
from gpu_runner.host.arena import ArenaMode
from gpu_runner.jobs import Reason
from gpu_runner.languages import Artefact
from gpu_runner.problem import DType
from gpu_runner.tasks.sides import (
    POISONS,
    ContenderFailed,
    Place,
    Side,
    blame,
    build_for,
    slots_within,
    unplugged_ops,
)
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem, make_workload

PROBLEM = make_problem()
MISBEHAVING = SOFTMAX_CPP.replace(
    'extern "C" int kp_run(const struct softmax_args* a) {',
    'extern "C" int kp_run(const struct softmax_args* a) {\n'
    "    if (a->N == 11) return 0;\n"
    "    if (a->N == 12) { for (int64_t i = 1; i < a->B * 12; ++i) a->y[i] = 0; return 0; }\n"
    "    if (a->N == 13) a->y[a->B * 13] = 0;\n"
    "    if (a->N == 14) a->y[-1] = 0;\n"
    "    if (a->N == 15) return 5;\n"
    "    if (a->N == 16) __builtin_trap();\n"
    "    if (a->N == 17) for (;;) {}",
)
"""Right for most row lengths; each of 11 to 17 shows one fault."""


def at(columns: int, rows: int = 4, *, slots: int = 1, mode=ArenaMode.TIMED) -> Place:
    workload = make_workload(name=f"n{columns}", axes={"B": rows, "N": columns})
    return Place(workload=workload, slots=slots, mode=mode)


def softmax(x):
    e = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def artefact(workspace) -> Artefact:
    candidate = make_candidate(text=MISBEHAVING)
    return build_for(PROBLEM, candidate, workspace=workspace, timeout_s=60)


def opened(artefact: Artefact, *places: Place, call_timeout_s: float = 10.0) -> Side:
    return Side(artefact, PROBLEM, places, threads=1, call_timeout_s=call_timeout_s)


def descriptors() -> set[Path]:
    gc.collect()  # a mapping that a traceback still holds has a descriptor of its own
    return set(Path("/proc/self/fd").iterdir())


def test_each_place_has_its_own_memory_and_each_slot_its_own_answer(artefact):
    rng = np.random.default_rng(1)
    with opened(artefact, at(20, slots=3), at(31, 2)) as side:
        side.wait_ready()
        contents = [rng.normal(size=(4, 20)).astype(np.float32) for _ in range(3)]
        other = rng.normal(size=(2, 31)).astype(np.float32)
        for slot, x in enumerate(contents):
            side.take(0, slot, {"x": x})
        side.take(1, 0, {"x": other})
        spent = side.call(0, 0, 3, poison=POISONS[0])
        side.call(1, poison=POISONS[1])
        for slot, x in enumerate(contents):
            np.testing.assert_allclose(side.outputs(0, slot)["y"], softmax(x), rtol=1e-5)
        np.testing.assert_allclose(side.outputs(1, 0)["y"], softmax(other), rtol=1e-5)
        side.refuse_movement()
    assert spent.wall_ns > 0
    assert spent.cpu_ns > 0


def test_only_the_slots_of_a_call_are_poisoned_and_done(artefact):
    with opened(artefact, at(20, slots=3)) as side:
        side.wait_ready()
        side.call(0, 0, 3, poison=POISONS[0])
        before = [side.outputs(0, slot)["y"].copy() for slot in range(3)]
        for slot in range(3):
            side.inputs(0, slot)["x"][:, 0] = 9.0
        side.call(0, 1, 1, poison=POISONS[1])
        now = [side.outputs(0, slot)["y"] for slot in range(3)]
        assert [bool((a == b).all()) for a, b in zip(before, now, strict=True)] == [
            True,
            False,
            True,
        ]


def test_contents_are_taken_by_copy(artefact):
    with opened(artefact, at(20)) as side:
        mine = np.ones((4, 20), np.float32)
        side.take(0, 0, {"x": mine})
        mine[:] = 7
        assert (side.inputs(0, 0)["x"] == 1).all()
        side.inputs(0, 0)["x"][:] = 2
        assert (mine == 7).all()


@pytest.mark.parametrize(
    ("columns", "mode", "reason", "said"),
    [
        (11, ArenaMode.TIMED, Reason.OUTPUT_NOT_WRITTEN, "output 'y' unwritten"),
        (12, ArenaMode.TIMED, Reason.OUTPUT_NOT_WRITTEN, "output 'y' unwritten"),
        (13, ArenaMode.TIMED, Reason.GUARD_OVERWRITTEN, "after output 'y' of slot 0"),
        (14, ArenaMode.TIMED, Reason.GUARD_OVERWRITTEN, "before output 'y' of slot 0"),
        (13, ArenaMode.FENCED_END, Reason.CRASHED, "SIGSEGV"),
        (14, ArenaMode.FENCED_START, Reason.CRASHED, "SIGSEGV"),
        (13, ArenaMode.FENCED_START, Reason.GUARD_OVERWRITTEN, "after output 'y'"),
        (14, ArenaMode.FENCED_END, Reason.GUARD_OVERWRITTEN, "before output 'y'"),
        (15, ArenaMode.TIMED, Reason.ENTRY_FAILED, "5"),
        (16, ArenaMode.TIMED, Reason.CRASHED, "killed by SIG"),
    ],
)
def test_what_a_call_does_wrong_has_its_reason(artefact, columns, mode, reason, said):
    with opened(artefact, at(columns, mode=mode)) as side:
        side.wait_ready()
        with pytest.raises(SubjectFailed) as caught:
            side.call(0, poison=POISONS[0])
    assert caught.value.reason is reason
    assert said in caught.value.message


def test_a_call_that_does_not_end_is_ended(artefact):
    with opened(artefact, at(17), call_timeout_s=0.3) as side:
        side.wait_ready()
        with pytest.raises(SubjectFailed, match="no answer within") as caught:
            side.call(0, poison=POISONS[0])
        assert caught.value.reason is Reason.TIMED_OUT
        with pytest.raises(RunnerError, match=r"between wait_ready\(\) and its first failure"):
            side.call(0, poison=POISONS[0])


def test_the_second_poison_is_left_by_a_kernel_that_learnt_the_first(artefact):
    with opened(artefact, at(11)) as side:
        side.wait_ready()
        side.outputs(0, 0)["y"].view(np.uint32)[:] = POISONS[0]
        with pytest.raises(SubjectFailed) as caught:
            side.call(0, poison=POISONS[1])
        assert caught.value.reason is Reason.OUTPUT_NOT_WRITTEN


def test_poisons_differ_and_are_no_float32_that_arithmetic_gives():
    assert len(set(POISONS)) == len(POISONS) > 1
    patterns = np.array(POISONS, np.uint32)
    assert np.isnan(patterns.view(np.float32)).all()
    with np.errstate(invalid="ignore"):
        made = np.array([np.inf], np.float32) - np.array([np.inf], np.float32)
    assert not np.isin(patterns, made.view(np.uint32)).any()
    assert not np.isin(patterns, np.array([np.nan], np.float32).view(np.uint32)).any()


def test_a_closed_side_has_given_everything_back(artefact):
    with opened(artefact, at(20)):  # what is loaded once stays loaded
        pass
    before = descriptors()
    with opened(artefact, at(20, slots=2), at(21), at(22)) as side:
        side.wait_ready()
        assert len(descriptors()) >= len(before) + 6
    assert descriptors() == before


def test_a_side_that_cannot_be_opened_leaves_nothing_open(artefact):
    before = descriptors()
    strange = Place(workload=make_workload(axes={"M": 3}))
    with pytest.raises(ValueError, match="missing or not var axes"):
        opened(artefact, at(20), at(21), strange)
    assert descriptors() == before


def test_sides_are_closed_also_where_one_of_them_fails(artefact):
    before = descriptors()
    with ExitStack() as stack:
        sides = [stack.enter_context(opened(artefact, at(16))) for _ in range(2)]
        for side in sides:
            side.wait_ready()
        with pytest.raises(SubjectFailed):
            sides[0].call(0, poison=POISONS[0])
        with pytest.raises(SubjectFailed):
            sides[1].call(0, poison=POISONS[0])
    assert descriptors() == before


# -- building, blaming, choosing ---------------------------------------------------------------


def test_an_artefact_is_built_once_and_kept_in_the_workspace(workspace):
    candidate = make_candidate(text=SOFTMAX_CPP + "// kept\n")
    first, second = (
        build_for(PROBLEM, candidate, workspace=workspace, timeout_s=60) for _ in range(2)
    )
    assert (first.is_cached, second.is_cached) == (False, True)
    assert (first.digest, first.path) == (second.digest, second.path)
    assert first.path.is_relative_to(workspace / "cache")


def test_a_refused_build_is_the_candidates_own_failure(workspace):
    with pytest.raises(SubjectFailed, match="nowhere") as caught:
        build_for(
            PROBLEM,
            make_candidate(text='#include "nowhere.h"\n'),
            workspace=workspace,
            timeout_s=60,
        )
    assert caught.value.reason is Reason.COMPILE_FAILED
    assert "nowhere.h" in caught.value.log_tail


def fail_as(reason: Reason) -> SubjectFailed:
    return SubjectFailed(reason, "it stopped", "last words")


def test_a_candidates_failure_stays_its_own():
    failure = fail_as(Reason.CRASHED)
    with pytest.raises(SubjectFailed) as caught, blame("candidate", is_candidate=True):
        raise failure
    assert caught.value is failure


@pytest.mark.parametrize("reason", Reason)
def test_a_contenders_failure_names_it_and_is_none_of_the_candidates(reason):
    failure = fail_as(reason)
    with pytest.raises(ContenderFailed) as caught, blame("torch eager", is_candidate=False):
        raise failure
    assert str(caught.value) == f"contender 'torch eager' failed ({reason}): it stopped"
    assert caught.value.__cause__ is failure
    assert not isinstance(caught.value, SubjectFailed)


@pytest.mark.parametrize("is_candidate", [True, False])
def test_other_errors_are_not_laid_to_a_side(is_candidate):
    with pytest.raises(OSError, match="disk"), blame("x", is_candidate=is_candidate):
        raise OSError("disk")


def test_the_library_is_taken_from_python_candidates_only():
    assert {language: unplugged_ops(PROBLEM, language) for language in Language} == {
        Language.PYTHON: ("aten::_softmax",),
        Language.CPP: (),
        Language.CUDA: (),
        Language.TRITON: (),
    }


SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@settings(deadline=None)
@given(SIZES, st.integers(1, 500))
def test_slots_fit_their_share_of_memory_and_there_is_always_one(size, most):
    workload = make_workload(axes={"B": size[0], "N": size[1]})
    slots = slots_within(PROBLEM, workload, most)
    assert 1 <= slots <= most
    taken = PROBLEM.required_bytes(workload)
    assert slots == 1 or slots * taken <= 32 * 2**20
    if slots < most:  # one more would not fit
        assert (slots + 1) * (taken + 8 * 4096) > 32 * 2**20


@settings(deadline=None)
@given(SIZES, st.integers(1, 100))
def test_larger_shapes_never_get_more_slots(size, most):
    rows, columns = size
    smaller = make_workload(axes={"B": rows, "N": columns})
    larger = make_workload(axes={"B": rows + 1, "N": columns})
    assert slots_within(PROBLEM, larger, most) <= slots_within(PROBLEM, smaller, most)


def test_narrow_elements_make_room_for_more_slots():
    def slots(dtype: DType) -> int:
        tensors = [t.model_copy(update={"dtype": dtype}) for t in (*PROBLEM.inputs,)]
        outputs = [t.model_copy(update={"dtype": dtype}) for t in PROBLEM.outputs]
        problem = make_problem(inputs=tuple(tensors), outputs=tuple(outputs))
        return slots_within(problem, make_workload(axes={"B": 512, "N": 1024}), 1000)

    assert math.isclose(slots(DType.BFLOAT16) / slots(DType.FLOAT32), 2, rel_tol=0.1)
