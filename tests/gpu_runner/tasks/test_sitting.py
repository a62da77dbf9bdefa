"""One sitting: what every side is given, when a series is long enough, who is blamed."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import Bench, Reason
from gpu_runner.oracle.contents import Contents
from gpu_runner.records import TimingPlan
from gpu_runner.tasks.sides import ContenderFailed, Place, Side, build_for
from gpu_runner.tasks.sitting import Entrant, SittingRoom, _Heat, _Times
from gpu_runner.tasks.verify import Verifier
from tests.builders import SOFTMAX_CPP, make_candidate, make_problem, make_workload

pytestmark = pytest.mark.timed

PROBLEM = make_problem()
PLAN = TimingPlan(pairs=10, most_pairs=10, candidate_s=0, warmup_s=0, most_s=2.0, token_us=1.0)
WORKLOADS = (make_workload(), make_workload(name="rows", axes={"B": 4, "N": 64}))
HIDDEN = (make_workload(name="odd", axes={"B": 3, "N": 33}, visibility="hidden"),)
COUNTED = SOFTMAX_CPP.replace(
    "return 0;",
    "static int calls[4096];\n    ++calls[a->N];\n"
    "    if (a->N == 64 && calls[64] >= 12) a->y[3] += 1;\n    return 0;",
)
"""Wrong from its twelfth call of the second workload on."""


def make_bench(**changes) -> Bench:
    values = {
        "job_id": "b",
        "problem": PROBLEM,
        "candidate": make_candidate(),
        "against": ({"name": "plain", "candidate": make_candidate()},),
        "workloads": WORKLOADS,
        "hidden": HIDDEN,
        "plan": PLAN,
    }
    return Bench(**{**values, **changes})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def entrant(workspace: Path, name: str, text: str = SOFTMAX_CPP) -> Entrant:
    artefact = build_for(PROBLEM, make_candidate(text=text), workspace=workspace, timeout_s=60)
    return Entrant(name=name, artefact=artefact)


def sat(workspace: Path, *entrants: Entrant, index: int = 0, **changes):
    verifier = Verifier(PROBLEM)
    return SittingRoom(make_bench(**changes), entrants, verifier).sit(index), verifier


def test_a_sitting_tells_what_it_measured_in_the_order_of_the_job(workspace):
    sides = [entrant(workspace, name) for name in ("candidate", "plain", "other")]
    sitting, verifier = sat(workspace, *sides, index=4)
    assert sitting.index == 4
    assert [(s.workload, s.against) for s in sitting.series] == [
        ("small", "plain"),
        ("small", "other"),
        ("rows", "plain"),
        ("rows", "other"),
    ]
    assert all(len(s.candidate_us) == len(s.against_us) == 10 for s in sitting.series)
    # Three sides, thirteen blocks of which three do not count, two workloads, one hidden call.
    calls = sum(series.slots for series in sitting.series[::2])
    assert sitting.verified_outputs == verifier.outputs == 3 * 13 * calls + 1
    assert sitting.started_at.endswith("+00:00")
    assert 0 <= sitting.pressure_percent <= 100


def test_outputs_of_earlier_sittings_are_not_counted_again(workspace):
    verifier = Verifier(PROBLEM)
    sides = [entrant(workspace, name) for name in ("candidate", "plain")]
    room = SittingRoom(make_bench(workloads=WORKLOADS[1:]), sides, verifier)
    first, second = room.sit(0), room.sit(1)
    assert first.verified_outputs + second.verified_outputs == verifier.outputs
    assert first.key_digest != second.key_digest


def test_a_candidate_that_turns_wrong_is_refused_in_the_block_it_does(workspace):
    sides = (entrant(workspace, "candidate", COUNTED), entrant(workspace, "plain"))
    with pytest.raises(SubjectFailed) as caught:
        sat(workspace, *sides)
    assert caught.value.reason in {Reason.WRONG_RESULT, Reason.STALE_RESULT}


def test_a_contender_that_turns_wrong_is_named(workspace):
    sides = (entrant(workspace, "candidate"), entrant(workspace, "plain", COUNTED))
    with pytest.raises(ContenderFailed, match=r"contender 'plain' failed \((wrong|stale)_result\)"):
        sat(workspace, *sides)


def test_hidden_shapes_are_asked_of_the_candidate_alone(workspace):
    text = SOFTMAX_CPP.replace("return 0;", "if (a->N == 33) a->y[0] = 2;\n    return 0;")
    wrong, right = entrant(workspace, "one", text), entrant(workspace, "other")
    sat(workspace, right, wrong, workloads=WORKLOADS[1:])
    with pytest.raises(SubjectFailed, match="hidden shape after timing: the result is wrong"):
        sat(workspace, wrong, right, workloads=WORKLOADS[1:])


# -- what a block is given ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def staged(workspace):
    """A heat of two sides that nobody calls: contents are written before a process matters."""
    place = Place(workload=WORKLOADS[1], slots=8)
    artefact = entrant(workspace, "candidate").artefact
    with ExitStack() as stack:
        sides = [
            stack.enter_context(Side(artefact, PROBLEM, (place,), threads=1, call_timeout_s=5))
            for _ in range(2)
        ]
        yield place, sides


def make_heat(sides=(), **plan) -> _Heat:
    job = make_bench(plan=TimingPlan(**{**PLAN.model_dump(), **plan}))
    return _Heat(job, (), sides, Verifier(PROBLEM))  # entrants only name who fails


def contents_of(key: bytes = b"k" * 16) -> Contents:
    return Contents(PROBLEM, WORKLOADS[1], key)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_every_side_has_the_same_new_contents_where_nothing_was_before(staged, count):
    place, sides = staged
    heat, contents = make_heat(sides), contents_of()
    seen: set[bytes] = set()
    before: set[int] = set()
    for _ in range(6):
        slots = heat._stage(0, place, contents, count, is_near=False)
        assert len(slots) == count
        assert not before & set(slots)
        before = set(slots)
        for slot in slots:
            ours, theirs = (side.inputs(0, slot)["x"].tobytes() for side in sides)
            assert ours == theirs
            seen.add(ours)
    assert len(seen) == 6 * count


def test_slots_are_used_again_where_there_is_no_room_to_alternate(staged):
    place, sides = staged
    heat, contents = make_heat(sides), contents_of()
    assert [list(heat._stage(0, place, contents, 5, is_near=False)) for _ in range(2)] == [
        [0, 1, 2, 3, 4]
    ] * 2


def test_a_near_duplicate_differs_from_the_block_before_in_one_place(staged):
    place, sides = staged
    heat, contents = make_heat(sides), contents_of()
    first = heat._stage(0, place, contents, 4, is_near=False)
    near = heat._stage(0, place, contents, 4, is_near=True)
    for old, new in zip(first, near, strict=True):
        before, after = (sides[0].inputs(0, slot)["x"] for slot in (old, new))
        changed = before != after
        assert 1 <= changed.sum() <= changed.shape[1]
        assert changed.any(axis=1).sum() == 1
        np.testing.assert_array_equal(after, sides[1].inputs(0, new)["x"])


def test_the_first_block_and_one_of_another_length_cannot_be_near(staged):
    place, sides = staged
    heat, contents = make_heat(sides), contents_of()
    assert list(heat._stage(0, place, contents, 2, is_near=True)) == [0, 1]
    short = sides[0].inputs(0, 0)["x"].copy()
    (slot,) = heat._stage(0, place, contents, 1, is_near=True)
    assert (sides[0].inputs(0, slot)["x"] != short).mean() > 0.9


def test_contents_follow_from_the_key(staged):
    place, sides = staged
    drawn = []
    for key in (b"a" * 16, b"a" * 16, b"b" * 16):
        (slot,) = make_heat(sides)._stage(0, place, contents_of(key), 1, is_near=False)
        drawn.append(sides[0].inputs(0, slot)["x"].tobytes())
    assert drawn[0] == drawn[1] != drawn[2]


# -- when a series ends ------------------------------------------------------------------------


def is_enough(ours, theirs=None, *, is_late=False, slots=1, **plan) -> bool:
    heat = make_heat(pairs=20, most_pairs=60, pair_block=10, width=0.05, **plan)
    heat._last_slots = tuple(range(slots))
    times = [_Times(wall_us=list(ours)), _Times(wall_us=list(theirs or ours))]
    return heat._is_enough(times, began=float("-inf" if is_late else "inf"))


STEADY = [100.0] * 60
WILD = [100.0, 300.0, 40.0, 800.0, 90.0, 20.0] * 10


@pytest.mark.parametrize(
    ("pairs", "theirs", "wanted"),
    [
        (0, STEADY, False),
        (19, STEADY, False),
        (20, STEADY, True),
        (25, STEADY, False),  # looked at every ten pairs only
        (30, STEADY, True),
        (20, WILD, False),
        (50, WILD, False),
        (60, WILD, True),
    ],
)
def test_a_series_ends_when_its_interval_is_narrow_or_it_is_as_long_as_allowed(
    pairs, theirs, wanted
):
    assert is_enough(STEADY[:pairs], theirs[:pairs]) is wanted


@pytest.mark.parametrize(("pairs", "wanted"), [(11, False), (12, True), (19, True)])
def test_where_time_runs_out_a_dozen_pairs_suffice(pairs, wanted):
    assert is_enough(STEADY[:pairs], WILD[:pairs], is_late=True) is wanted


def test_the_candidates_own_time_counts_every_chained_call():
    ours = STEADY[:20]  # 2 ms, one call a token
    assert not is_enough(ours, candidate_s=0.0081, slots=4)
    assert is_enough(ours, candidate_s=0.0079, slots=4)
    assert not is_enough(ours, candidate_s=0.0079, slots=1)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.floats(0.2, 5.0))
def test_stopping_looks_at_the_width_and_never_at_who_wins(pairs, ratio):
    rng = np.random.default_rng(pairs)
    ours = list(100 * np.exp(rng.normal(0, 0.05, pairs)))
    theirs = [us * ratio for us in ours]
    assert is_enough(ours, theirs) is is_enough(theirs, ours) is is_enough(ours, ours)
