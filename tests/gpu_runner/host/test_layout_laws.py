"""Layouts compared with each other: more slots, other modes, other pages, odd shapes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.host.layout import ArenaMode, Layout, Place, lay_out, tensor_bytes
from gpu_runner.problem import Axis, DType, Problem, Tensor
from tests.builders import make_problem, make_workload

PAGE = 4096
FENCED = (ArenaMode.FENCED_END, ArenaMode.FENCED_START)
SHAPES = st.tuples(st.integers(0, 40), st.integers(0, 300))
DTYPES = st.sampled_from(list(DType))


def make_mixed(narrow: DType, wide: DType) -> Problem:
    """Two inputs and two outputs, one of each a vector."""
    axes = (Axis(name="B", kind="var"), Axis(name="N", kind="var"))
    names = (("x", ("B", "N"), narrow), ("w", ("N",), wide))
    results = (("y", ("B", "N"), wide), ("total", ("B",), narrow))
    return make_problem(
        axes=axes,
        inputs=tuple(Tensor(name=n, shape=s, dtype=d) for n, s, d in names),
        outputs=tuple(Tensor(name=n, shape=s, dtype=d) for n, s, d in results),
        flops="0",
    )


def laid(problem, shape, *, slots=1, mode=ArenaMode.TIMED, page_bytes=PAGE) -> Layout:
    workload = make_workload(axes={"B": shape[0], "N": shape[1]})
    return lay_out(problem, workload, slots=slots, mode=mode, page_bytes=page_bytes)


def file_span(layout: Layout, place: Place) -> tuple[int, int]:
    start = layout.segments[place.segment].file_offset + place.offset
    return start, start + place.size


def starts(layout: Layout) -> list[list[int]]:
    return [
        [file_span(layout, place)[0] for place in slot]
        for side in (layout.inputs, layout.outputs)
        for slot in side
    ]


@settings(deadline=None)
@given(DTYPES, DTYPES, SHAPES, st.integers(1, 5), st.sampled_from(list(ArenaMode)))
def test_another_slot_moves_none_of_those_before(narrow, wide, shape, slots, mode):
    problem = make_mixed(narrow, wide)
    few, many = (laid(problem, shape, slots=n, mode=mode) for n in (slots, slots + 1))
    for side in ("inputs", "outputs"):
        before, after = getattr(few, side), getattr(many, side)
        assert len(before) == slots
        for slot, same in zip(before, after, strict=False):
            assert [file_span(few, p) for p in slot] == [file_span(many, p) for p in same]
    assert few.input_bytes <= many.input_bytes
    assert few.output_bytes <= many.output_bytes


@settings(deadline=None)
@given(DTYPES, DTYPES, SHAPES, st.integers(1, 4), st.sampled_from(list(ArenaMode)))
def test_a_file_is_whole_pages_and_ends_with_its_last_segment(narrow, wide, shape, slots, mode):
    layout = laid(make_mixed(narrow, wide), shape, slots=slots, mode=mode)
    for is_output, size in ((False, layout.input_bytes), (True, layout.output_bytes)):
        segments = [s for s in layout.segments if s.is_output == is_output]
        assert size >= PAGE
        assert size % PAGE == 0
        ends = [s.file_offset + s.length for s in segments]
        assert max(ends) == size
        assert [s.file_offset for s in segments] == [0, *ends[:-1]]  # no gap and no overlap


@settings(deadline=None)
@given(DTYPES, DTYPES, SHAPES, st.integers(1, 3))
def test_every_element_is_aligned_to_its_own_size(narrow, wide, shape, slots):
    problem = make_mixed(narrow, wide)
    for mode in ArenaMode:
        layout = laid(problem, shape, slots=slots, mode=mode)
        for tensors, side in ((problem.inputs, layout.inputs), (problem.outputs, layout.outputs)):
            for slot in side:
                for tensor, place in zip(tensors, slot, strict=True):
                    assert place.offset % tensor.dtype.item_bytes == 0


@settings(deadline=None)
@given(DTYPES, DTYPES, SHAPES)
def test_modes_agree_on_sizes_and_differ_in_fences(narrow, wide, shape):
    problem = make_mixed(narrow, wide)
    layouts = {mode: laid(problem, shape, slots=2, mode=mode) for mode in ArenaMode}
    sizes = {
        mode: [[p.size for p in slot] for slot in (*layout.inputs, *layout.outputs)]
        for mode, layout in layouts.items()
    }
    assert sizes[ArenaMode.TIMED] == sizes[FENCED[0]] == sizes[FENCED[1]]
    end, start = (layouts[mode] for mode in FENCED)
    assert end.segments == start.segments
    for ours, theirs in zip(
        (p for slot in end.outputs for p in slot),
        (p for slot in start.outputs for p in slot),
        strict=True,
    ):
        assert ours.guard_before == theirs.guard_after
        assert ours.guard_after == theirs.guard_before == 0


@settings(deadline=None)
@given(DTYPES, DTYPES, SHAPES, st.sampled_from(list(ArenaMode)))
def test_a_page_of_another_size_keeps_the_order(narrow, wide, shape, mode):
    problem = make_mixed(narrow, wide)
    small, large = (laid(problem, shape, mode=mode, page_bytes=size) for size in (PAGE, 16 * PAGE))
    assert large.input_bytes % (16 * PAGE) == large.output_bytes % (16 * PAGE) == 0
    assert len(small.segments) == len(large.segments)
    if mode is ArenaMode.TIMED:
        assert starts(small) == starts(large)


@settings(deadline=None)
@given(DTYPES, SHAPES)
def test_bytes_are_elements_times_their_width(dtype, shape):
    problem = make_mixed(dtype, dtype)
    workload = make_workload(axes={"B": shape[0], "N": shape[1]})
    sizes = [tensor_bytes(problem, t, workload) for t in (*problem.inputs, *problem.outputs)]
    rows, columns = shape
    width = dtype.item_bytes
    assert sizes == [rows * columns * width, columns * width, rows * columns * width, rows * width]
    assert sum(sizes) == problem.required_bytes(workload)


@pytest.mark.parametrize("mode", ArenaMode)
def test_an_empty_tensor_has_an_address_and_no_bytes(mode):
    layout = laid(make_mixed(DType.INT8, DType.FLOAT64), (0, 0), slots=3, mode=mode)
    places = [p for slot in (*layout.inputs, *layout.outputs) for p in slot]
    assert {place.size for place in places} == {0}
    spans = [
        (layout.segments[p.segment].is_output, p.segment, file_span(layout, p)[0]) for p in places
    ]
    assert len(set(spans)) == len(spans)


def test_a_scalar_tensor_takes_one_element():
    problem = make_problem(
        inputs=(Tensor(name="x", shape=(), dtype=DType.BFLOAT16),),
        outputs=(Tensor(name="y", shape=(), dtype=DType.FLOAT64),),
        axes=(),
        flops="0",
    )
    layout = lay_out(
        problem,
        make_workload(axes={}),
        slots=1,
        mode=ArenaMode.FENCED_END,
        page_bytes=PAGE,
    )
    assert layout.inputs[0][0].offset == PAGE - 2
    assert layout.outputs[0][0].offset == layout.outputs[0][0].guard_before == PAGE - 8
