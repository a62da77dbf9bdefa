"""Layouts: laws over all shapes, slots and modes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.host.layout import ALIGNMENT, GUARD_BYTES, ArenaMode, lay_out, round_up
from gpu_runner.problem import Axis, DType, Tensor
from tests.builders import make_problem, make_workload

PAGE = 4096


def make_three(dtypes):
    names = ("a", "b", "c")
    tensors = [
        Tensor(name=name, shape=shape, dtype=dtype)
        for name, shape, dtype in zip(names, (("B", "N"), ("N",), ()), dtypes, strict=True)
    ]
    outputs = tuple(t.model_copy(update={"name": f"{t.name}_out"}) for t in tensors)
    axes = (Axis(name="B", kind="var"), Axis(name="N", kind="var"))
    return make_problem(axes=axes, inputs=tuple(tensors), outputs=outputs, flops="0")


LAYOUTS = st.builds(
    lambda dtypes, rows, columns, slots, mode: (
        lay_out(
            make_three(dtypes),
            make_workload(axes={"B": rows, "N": columns}),
            slots=slots,
            mode=mode,
            page_bytes=PAGE,
        ),
        mode,
    ),
    st.lists(st.sampled_from(list(DType)), min_size=3, max_size=3),
    st.integers(0, 9),
    st.integers(0, 1500),
    st.integers(1, 4),
    st.sampled_from(list(ArenaMode)),
)


def spans(layout):
    """Return (file, start, stop) of every tensor with its guards, in every slot."""
    found = []
    for slots in (layout.inputs, layout.outputs):
        for place in (p for slot in slots for p in slot):
            segment = layout.segments[place.segment]
            start = segment.file_offset + place.offset
            stop = start + place.size + place.guard_after
            found.append((segment.is_output, start - place.guard_before, stop))
    return found


@given(LAYOUTS)
def test_nothing_overlaps(made):
    layout, _ = made
    ordered = sorted(span for span in spans(layout) if span[1] < span[2])
    for before, after in itertools.pairwise(ordered):
        assert before[0] != after[0] or before[2] <= after[1]


@given(LAYOUTS)
def test_everything_lies_in_its_segment_and_file(made):
    layout, _ = made
    for slots in (layout.inputs, layout.outputs):
        for place in (p for slot in slots for p in slot):
            segment = layout.segments[place.segment]
            assert segment.is_output == (slots is layout.outputs)
            assert place.offset - place.guard_before >= 0
            assert place.offset + place.size + place.guard_after <= segment.length
    for segment in layout.segments:
        size = layout.output_bytes if segment.is_output else layout.input_bytes
        assert segment.file_offset % PAGE == segment.length % PAGE == 0
        assert 0 < segment.length <= size - segment.file_offset


@given(LAYOUTS)
def test_timed_tensors_are_aligned_and_outputs_guarded(made):
    layout, mode = made
    if mode is not ArenaMode.TIMED:
        return
    assert len(layout.segments) == 2
    for place in (p for slot in (*layout.inputs, *layout.outputs) for p in slot):
        assert place.offset % ALIGNMENT == 0
    for place in (p for slot in layout.outputs for p in slot):
        assert (place.guard_before, place.guard_after) == (GUARD_BYTES, GUARD_BYTES)
    for place in (p for slot in layout.inputs for p in slot):
        assert (place.guard_before, place.guard_after) == (0, 0)


@given(LAYOUTS)
def test_fenced_tensors_are_flush_and_slack_of_outputs_is_guard(made):
    layout, mode = made
    if mode is ArenaMode.TIMED:
        return
    places = [p for slot in (*layout.inputs, *layout.outputs) for p in slot]
    assert len({p.segment for p in places}) == len(places) == len(layout.segments)
    for place in places:
        segment = layout.segments[place.segment]
        slack = segment.length - place.size
        assert slack < PAGE or (place.size == 0 and slack == PAGE)
        at_end = mode is ArenaMode.FENCED_END
        assert place.offset == (slack if at_end else 0)
        guards = (place.guard_before, place.guard_after)
        expected = (slack, 0) if at_end else (0, slack)
        assert guards == (expected if segment.is_output else (0, 0))


@given(LAYOUTS)
def test_addresses_of_slots_differ(made):
    layout, _ = made
    for slots in (layout.inputs, layout.outputs):
        addresses = [
            (layout.segments[p.segment].file_offset + p.offset, p.segment)
            for slot in slots
            for p in slot
        ]
        assert len(set(addresses)) == len(addresses)


def test_sizes_are_those_of_the_workload():
    layout = lay_out(
        make_problem(),
        make_workload(axes={"B": 3, "N": 5}),
        slots=1,
        mode=ArenaMode.TIMED,
        page_bytes=PAGE,
    )
    assert [p.size for p in (*layout.inputs[0], *layout.outputs[0])] == [60, 60]


def test_larger_pages_make_larger_segments():
    layout = lay_out(
        make_problem(),
        make_workload(),
        slots=1,
        mode=ArenaMode.FENCED_END,
        page_bytes=65536,
    )
    assert [s.length for s in layout.segments] == [65536, 65536]


@pytest.mark.parametrize("slots", [0, -1])
def test_no_slot_is_refused(slots):
    with pytest.raises(ValueError, match="at least one slot"):
        lay_out(make_problem(), make_workload(), slots=slots, mode=ArenaMode.TIMED, page_bytes=PAGE)


def test_workload_of_another_problem_is_refused():
    with pytest.raises(ValueError, match="missing or not var axes"):
        lay_out(
            make_problem(),
            make_workload(axes={"M": 1}),
            slots=1,
            mode=ArenaMode.TIMED,
            page_bytes=PAGE,
        )


@given(st.integers(0, 10**6), st.integers(1, 5000))
def test_rounding_up_is_the_smallest_multiple(value, multiple):
    rounded = round_up(value, multiple)
    assert rounded % multiple == 0
    assert value <= rounded < value + multiple
