"""Arenas: what the supervisor sees, marks and seals."""

import fcntl
import gc
import mmap
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.errors import RunnerError
from gpu_runner.host.arena import Arena, ArenaMode, give_pages
from gpu_runner.problem import Axis, DType, Tensor
from tests.builders import make_problem, make_workload

POISONS = (0xFFC0DEAD, 0x7FA5A5A5)
NARROW = [d for d in DType if d not in (DType.FLOAT32, DType.FLOAT64, DType.INT64)]


def make_flat(dtype, outputs=("y",)):
    """One input x and outputs of N elements."""
    return make_problem(
        axes=(Axis(name="N", kind="var"),),
        inputs=(Tensor(name="x", shape=("N",), dtype=dtype),),
        outputs=tuple(Tensor(name=name, shape=("N",), dtype=dtype) for name in outputs),
        flops="0",
    )


def open_flat(dtype, count, *, slots=1, mode=ArenaMode.TIMED, **changes):
    workload = make_workload(axes={"N": count})
    return Arena(make_flat(dtype, **changes), workload, slots=slots, mode=mode)


def raw(array):
    """The bytes behind a view, writable."""
    return array.reshape(-1).view(np.uint8)


@pytest.mark.parametrize("mode", list(ArenaMode))
@pytest.mark.parametrize("dtype", list(DType))
def test_views_have_shape_and_raw_dtype(dtype, mode):
    with open_flat(dtype, 7, slots=2, mode=mode) as arena:
        expected = np.dtype("uint16" if dtype is DType.BFLOAT16 else dtype.value)
        for view in (arena.input(1, "x"), arena.output(1, "y")):
            assert view.dtype == expected
            assert view.shape == (7,)
            assert view.flags.writeable
        assert not arena.input(0, "x").any()


@pytest.mark.parametrize("mode", list(ArenaMode))
def test_slots_do_not_share_memory(mode):
    with open_flat(DType.FLOAT32, 5, slots=3, mode=mode) as arena:
        for slot in range(3):
            arena.input(slot, "x")[...] = slot
            arena.output(slot, "y")[...] = 10 + slot
        values = [(arena.input(s, "x")[0].item(), arena.output(s, "y")[0].item()) for s in range(3)]
        assert values == [(0, 10), (1, 11), (2, 12)]


@pytest.mark.parametrize("mode", list(ArenaMode))
@pytest.mark.parametrize("shape", [(), ("Z",), ("Z", "N")])
def test_zero_dimensional_and_empty_tensors_have_views(shape, mode):
    problem = make_problem(
        axes=(Axis(name="Z", kind="const", value=0), Axis(name="N", kind="var")),
        inputs=(Tensor(name="x", shape=shape, dtype=DType.FLOAT32),),
        outputs=(Tensor(name="y", shape=shape, dtype=DType.INT8),),
        flops="0",
    )
    with Arena(problem, make_workload(axes={"N": 3}), slots=2, mode=mode) as arena:
        extents = {(): (), ("Z",): (0,), ("Z", "N"): (0, 3)}[shape]
        assert arena.input(1, "x").shape == arena.output(1, "y").shape == extents
        arena.poison([0, 1], POISONS[0])
        assert arena.broken_guard([0, 1]) is None


@pytest.mark.parametrize("pattern", POISONS)
@pytest.mark.parametrize("dtype", list(DType))
def test_untouched_output_is_unwritten(dtype, pattern):
    with open_flat(dtype, 100) as arena:
        arena.poison([0], pattern)
        assert arena.unwritten([0], pattern) == "y"
        assert arena.unwritten([0], POISONS[pattern == POISONS[0]]) is None


@pytest.mark.parametrize("mode", list(ArenaMode))
@pytest.mark.parametrize("dtype", list(DType))
def test_poison_lies_over_every_byte_and_nothing_else(dtype, mode):
    with open_flat(dtype, 13, mode=mode) as arena:
        arena.poison([0], POISONS[0])
        data = raw(arena.output(0, "y")).tobytes()
        assert data == (POISONS[0].to_bytes(4, "little") * 30)[: len(data)]
        assert arena.broken_guard([0]) is None


@pytest.mark.parametrize("pattern", POISONS)
def test_poison_is_not_a_number_of_either_float_width(pattern):
    as_float = np.array([pattern], np.uint32).view(np.float32)
    assert np.isnan(as_float).all()
    computed = np.array([np.nan, -np.nan, np.inf - np.inf], np.float32).view(np.uint32)
    assert pattern not in computed.tolist()


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT64, DType.INT64])
@given(index=st.integers(0, 99))
@settings(max_examples=10)
def test_one_surviving_element_of_a_wide_type_is_found(dtype, index):
    with open_flat(dtype, 100) as arena:
        arena.poison([0], POISONS[0])
        output = arena.output(0, "y")
        survivor = output[index].copy()
        output[...] = 1
        assert arena.unwritten([0], POISONS[0]) is None
        output[index : index + 1] = survivor
        assert arena.unwritten([0], POISONS[0]) == "y"


@pytest.mark.parametrize("dtype", NARROW)
def test_chance_elements_of_a_narrow_type_are_not_taken_for_poison(dtype):
    """Every element may equal a part of the pattern; a whole line of them does not by chance."""
    with open_flat(dtype, 200) as arena:
        arena.poison([0], POISONS[0])
        data = raw(arena.output(0, "y"))
        data[::64] ^= 0xFF
        data[-1] ^= 0xFF
        assert arena.unwritten([0], POISONS[0]) is None


@pytest.mark.parametrize("dtype", NARROW)
def test_surviving_line_of_a_narrow_type_is_found(dtype):
    with open_flat(dtype, 1000) as arena:
        data = raw(arena.output(0, "y"))
        arena.poison([0], POISONS[0])
        line = data[64:128].copy()
        data[:] = 1
        data[64:128] = line
        assert arena.unwritten([0], POISONS[0]) == "y"


def test_surviving_tail_is_found_if_it_is_long_enough():
    for count, found in ((64 + 8, "y"), (64 + 7, None), (8, "y"), (7, None)):
        with open_flat(DType.INT8, count) as arena:
            arena.poison([0], POISONS[0])
            raw(arena.output(0, "y"))[: count // 64 * 64] = 1
            assert arena.unwritten([0], POISONS[0]) == found


def test_unwritten_names_the_output_of_the_slots_asked_for():
    with open_flat(DType.FLOAT32, 4, slots=3, outputs=("first", "second")) as arena:
        arena.poison(range(3), POISONS[1])
        for slot, name in ((0, "first"), (0, "second"), (1, "first"), (2, "second")):
            arena.output(slot, name)[...] = 0
        assert arena.unwritten([0], POISONS[1]) is None
        assert arena.unwritten([0, 1], POISONS[1]) == "second"
        assert arena.unwritten([2], POISONS[1]) == "first"


@pytest.mark.parametrize(
    ("mode", "offset", "side"),
    [
        (ArenaMode.TIMED, -1, "before"),
        (ArenaMode.TIMED, -4096, "before"),
        (ArenaMode.TIMED, 0, "after"),
        (ArenaMode.TIMED, 4095, "after"),
        (ArenaMode.FENCED_END, -1, "before"),
        (ArenaMode.FENCED_START, 0, "after"),
    ],
)
def test_one_changed_bit_beside_an_output_is_found(mode, offset, side):
    with open_flat(DType.INT8, 13, slots=2, mode=mode, outputs=("a", "b")) as arena:
        place = arena.layout.outputs[1][1]
        start = arena.layout.segments[place.segment].file_offset + place.offset
        position = start + offset + (place.size if side == "after" else 0)
        os_view = mmap.mmap(arena.output_fd, arena.layout.output_bytes)
        os_view[position] ^= 1
        os_view.close()
        assert arena.broken_guard([0]) is None
        assert arena.broken_guard([0, 1]) == f"{side} output 'b' of slot 1"


@given(
    count=st.integers(0, 70),
    dtype=st.sampled_from(list(DType)),
    mode=st.sampled_from(list(ArenaMode)),
)
@settings(max_examples=40, deadline=None)
def test_writing_all_of_an_output_breaks_nothing(count, dtype, mode):
    with open_flat(dtype, count, slots=2, mode=mode) as arena:
        arena.poison([0, 1], POISONS[0])
        for slot in (0, 1):
            raw(arena.output(slot, "y"))[:] = 0
            raw(arena.input(slot, "x"))[:] = 0xFF
        assert arena.broken_guard([0, 1]) is None
        assert arena.unwritten([0, 1], POISONS[0]) is None


def test_neither_file_can_be_resized():
    with open_flat(DType.FLOAT32, 5) as arena:
        for fd in (arena.input_fd, arena.output_fd):
            size = os.fstat(fd).st_size
            for other in (0, size - 4096, size + 4096):
                with pytest.raises((PermissionError, OSError)):
                    os.ftruncate(fd, other)


def test_inputs_cannot_be_written_by_who_maps_them_later():
    with open_flat(DType.FLOAT32, 5) as arena:
        with pytest.raises(PermissionError):
            mmap.mmap(arena.input_fd, 4096)
        with pytest.raises(PermissionError):
            os.pwrite(arena.input_fd, b"x", 0)
        reopened = os.open(f"/proc/self/fd/{arena.input_fd}", os.O_RDWR)
        with pytest.raises(PermissionError):
            os.pwrite(reopened, b"x", 0)
        os.close(reopened)
        arena.input(0, "x")[...] = 3
        readable = mmap.mmap(arena.input_fd, 4096, prot=mmap.PROT_READ)
        place = arena.layout.inputs[0][0]
        assert readable[place.offset : place.offset + 4] == np.float32(3).tobytes()
        readable.close()


def test_no_further_seal_can_be_set():
    """A seal against writing would make the supervisor's own next mapping fail."""
    with open_flat(DType.FLOAT32, 5) as arena:
        for fd in (arena.input_fd, arena.output_fd):
            with pytest.raises(PermissionError):
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_close_may_be_repeated_and_leaves_held_views_readable():
    arena = open_flat(DType.FLOAT32, 5)
    view = arena.output(0, "y")
    view[...] = 4
    fds = (arena.input_fd, arena.output_fd)
    arena.close()
    arena.close()
    gc.collect()
    assert view.tolist() == [4] * 5
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize("name", ["y", "nothing"])
def test_input_of_another_name_is_refused(name):
    with open_flat(DType.FLOAT32, 5) as arena, pytest.raises(ValueError, match="not in"):
        arena.input(0, name)


@pytest.mark.parametrize("mode", ArenaMode)
def test_pages_given_in_turns_hold_what_pages_given_at_once_hold(mode):
    counts = (3, 70_000, 50_000)
    slots = 2 if mode is ArenaMode.TIMED else 1
    at_once = [open_flat(DType.FLOAT32, count, slots=slots, mode=mode) for count in counts]
    in_turns = [
        Arena(
            make_flat(DType.FLOAT32),
            make_workload(axes={"N": count}),
            slots=slots,
            mode=mode,
            has_pages=False,
        )
        for count in counts
    ]
    give_pages(in_turns)
    for one, other in zip(at_once, in_turns, strict=True):
        for descriptors in ("input_fd", "output_fd"):
            contents = []
            for arena in (one, other):
                size = os.fstat(getattr(arena, descriptors)).st_size
                contents.append(os.pread(getattr(arena, descriptors), size, 0))
            assert contents[0] == contents[1]
        assert other.broken_guard(range(slots)) is None
        one.close()
        other.close()


def test_an_arena_that_waits_for_its_pages_has_none():
    arena = Arena(
        make_flat(DType.FLOAT32),
        make_workload(axes={"N": 1 << 20}),
        slots=1,
        has_pages=False,
    )
    assert os.fstat(arena.input_fd).st_blocks == 0
    give_pages((arena,))
    assert os.fstat(arena.input_fd).st_blocks > 0
    arena.close()


def test_more_memory_than_there_is_is_refused():
    with pytest.raises(RunnerError, match="memory of"):
        open_flat(DType.FLOAT64, 1 << 52)
