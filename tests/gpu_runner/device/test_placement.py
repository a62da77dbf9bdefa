import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.placement import (
    ALIGNMENT,
    GRANULE,
    GUARD_BYTES,
    LEAST_ALIGNMENT,
    MOST_SLOTS,
    place,
    slots_for,
)
from gpu_runner.device.serving import describe, in_batches, placements_in
from gpu_runner.problem import DType, Tensor
from tests.builders import make_problem, make_workload

L2 = 60 << 20


def half_problem():
    """Two inputs and two outputs of 16-bit elements."""
    shape = ("B", "N")
    return make_problem(
        inputs=(
            Tensor(name="x", shape=shape, dtype=DType.BFLOAT16),
            Tensor(name="w", shape=("N",), dtype=DType.FLOAT32),
        ),
        outputs=(
            Tensor(name="y", shape=shape, dtype=DType.BFLOAT16),
            Tensor(name="s", shape=("B",), dtype=DType.INT8),
        ),
    )


sizes = st.integers(min_value=1, max_value=300)


@given(rows=sizes, columns=sizes, slots=st.integers(min_value=1, max_value=5))
def test_tensors_never_share_bytes_and_outputs_keep_their_distance(rows, columns, slots):
    workload = make_workload(axes={"B": rows, "N": columns})
    found = place(half_problem(), workload, slots=slots)
    for index, slab in enumerate(found.slabs):
        spots = sorted(
            (s.offset, s.offset + s.bytes)
            for slot in found.spots
            for s in slot.values()
            if s.slab == index
        )
        gap = GUARD_BYTES if slab.is_output else 0
        assert slab.bytes % GRANULE == 0
        assert spots[-1][1] + gap <= slab.bytes
        assert spots[0][0] >= gap
        for (_, end), (start, _) in itertools.pairwise(spots):
            assert start >= end + gap
    assert all(s.offset % ALIGNMENT == 0 for slot in found.spots for s in slot.values())


@given(rows=sizes, columns=sizes, mode=st.sampled_from(["fenced_end", "fenced_start"]))
def test_a_fenced_tensor_lies_flush_against_its_fence(rows, columns, mode):
    workload = make_workload(axes={"B": rows, "N": columns})
    found = place(half_problem(), workload, slots=1, mode=mode)
    assert len(found.slabs) == 4
    for spot in found.spots[0].values():
        slab = found.slabs[spot.slab]
        assert spot.offset % LEAST_ALIGNMENT == 0
        if mode == "fenced_start":
            assert spot.offset == 0
        else:
            assert 0 <= slab.bytes - spot.offset - spot.bytes < LEAST_ALIGNMENT


@pytest.mark.parametrize(
    "placement",
    [
        place(half_problem(), make_workload(), slots=3),
        place(half_problem(), make_workload(), slots=1, mode="fenced_end"),
    ],
    ids=["timed", "fenced"],
)
def test_inputs_and_outputs_never_share_a_slab(placement):
    for slot in placement.spots:
        kinds = {name: placement.slabs[spot.slab].is_output for name, spot in slot.items()}
        assert kinds == {"x": False, "w": False, "y": True, "s": True}


@pytest.mark.parametrize(("slots", "mode"), [(0, "timed"), (2, "fenced_end"), (-1, "timed")])
def test_a_number_of_slots_that_makes_no_sense_is_refused(slots, mode):
    with pytest.raises(ValueError, match="slots"):
        place(half_problem(), make_workload(), slots=slots, mode=mode)


def test_slots_together_exceed_twice_the_cache_where_they_can():
    problem = make_problem()
    workload = make_workload(axes={"B": 1024, "N": 1024})
    slots = slots_for(problem, workload, L2)
    assert problem.required_bytes(workload) * slots > 2 * L2
    assert problem.required_bytes(workload) * (slots - 2) <= 2 * L2


def test_a_tiny_workload_gets_the_most_slots_and_a_huge_one_two():
    problem = make_problem()
    assert slots_for(problem, make_workload(axes={"B": 1, "N": 8}), L2) == MOST_SLOTS
    assert slots_for(problem, make_workload(axes={"B": 1 << 14, "N": 1 << 17}), L2) == 2


def test_what_is_told_of_placements_gives_the_same_placements():
    problem = half_problem()
    placements = (
        place(problem, make_workload(axes={"B": 7, "N": 33}), slots=3),
        place(problem, make_workload(axes={"B": 1, "N": 1}), slots=1, mode="fenced_end"),
    )
    assert placements_in(problem, describe(placements)) == placements
    assert placements[0].total_bytes == sum(s.bytes for s in placements[0].slabs)


@given(count=st.integers(min_value=0, max_value=900))
def test_descriptors_part_into_what_a_message_can_carry(count):
    batches = in_batches(list(range(count)))
    assert [d for batch in batches for d in batch] == list(range(count))
    assert all(len(batch) <= 200 for batch in batches)
    assert batches
