"""Where every tensor of an arena lies: arithmetic over a problem and a workload, nothing else.

An arena is two files, one of inputs and one of outputs. A subject maps them segment by segment,
each segment between two unmapped pages. Timed arenas have one segment a file; fenced ones give each
tensor a segment of its own and lay its data flush against one of the two unmapped pages.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from gpu_runner.problem import Problem, Tensor, Workload

ALIGNMENT = 256
"""Of every tensor of a timed arena, bytes. Fenced arenas align to the element only."""
GUARD_BYTES = 4096
"""Pattern on each side of every output of a timed arena."""


class ArenaMode(StrEnum):
    """What lies beside the data of a tensor."""

    TIMED = "timed"
    """Aligned, outputs between guard patterns."""
    FENCED_END = "fenced_end"
    """Data end where mapped memory ends."""
    FENCED_START = "fenced_start"
    """Data begin where mapped memory begins."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of whole pages that a subject maps in one piece."""

    is_output: bool
    file_offset: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one tensor of one slot lies; offsets count from the start of its segment."""

    segment: int
    offset: int
    size: int
    """Bytes of data."""
    guard_before: int = 0
    """Bytes of pattern that end where the data begin."""
    guard_after: int = 0
    """Bytes of pattern that begin where the data end."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The whole arena."""

    segments: tuple[Segment, ...]
    inputs: tuple[tuple[Place, ...], ...]
    """Shape [slots][inputs], in the problem's order."""
    outputs: tuple[tuple[Place, ...], ...]
    """Shape [slots][outputs]."""
    input_bytes: int
    """Size of the input file; whole pages, at least one."""
    output_bytes: int


def lay_out(
    problem: Problem, workload: Workload, *, slots: int, mode: ArenaMode, page_bytes: int
) -> Layout:
    """Place `slots` sets of buffers at distinct addresses.

    Raises:
        ValueError: no slot, or the workload does not fit the problem.
    """
    if slots < 1:
        raise ValueError(f"an arena needs at least one slot, not {slots}")
    sizes = {t.name: tensor_bytes(problem, t, workload) for t in _tensors(problem)}
    inputs = _Side(is_output=False, mode=mode, page_bytes=page_bytes)
    outputs = _Side(is_output=True, mode=mode, page_bytes=page_bytes)
    placed_inputs = [[inputs.place(sizes[t.name]) for t in problem.inputs] for _ in range(slots)]
    placed_outputs = [[outputs.place(sizes[t.name]) for t in problem.outputs] for _ in range(slots)]
    segments = inputs.segments()
    shift = len(segments)
    return Layout(
        segments=(*segments, *outputs.segments()),
        inputs=tuple(tuple(slot) for slot in placed_inputs),
        outputs=tuple(
            tuple(replace(p, segment=p.segment + shift) for p in slot) for slot in placed_outputs
        ),
        input_bytes=inputs.file_bytes,
        output_bytes=outputs.file_bytes,
    )


def tensor_bytes(problem: Problem, tensor: Tensor, workload: Workload) -> int:
    """Return the bytes of a tensor's data; 0 where an axis is empty."""
    size = tensor.dtype.item_bytes
    for extent in problem.shape(tensor, workload):
        size *= extent
    return size


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is not below `value`."""
    return -(-value // multiple) * multiple


def _tensors(problem: Problem) -> tuple[Tensor, ...]:
    return (*problem.inputs, *problem.outputs)


class _Side:
    """One file while it grows."""

    def __init__(self, *, is_output: bool, mode: ArenaMode, page_bytes: int) -> None:
        self._is_output = is_output
        self._mode = mode
        self._page = page_bytes
        self._end = 0
        self._fenced: list[Segment] = []

    @property
    def file_bytes(self) -> int:
        return max(self._page, round_up(self._end, self._page))

    def segments(self) -> tuple[Segment, ...]:
        if self._mode is not ArenaMode.TIMED:
            return tuple(self._fenced)
        return (Segment(is_output=self._is_output, file_offset=0, length=self.file_bytes),)

    def place(self, size: int) -> Place:
        return self._between_guards(size) if self._mode is ArenaMode.TIMED else self._fence(size)

    def _between_guards(self, size: int) -> Place:
        guard = GUARD_BYTES if self._is_output else 0
        offset = round_up(self._end + guard, ALIGNMENT)
        # An empty tensor still takes an address of its own.
        self._end = offset + max(size, 1 - guard) + guard
        return Place(segment=0, offset=offset, size=size, guard_before=guard, guard_after=guard)

    def _fence(self, size: int) -> Place:
        length = max(self._page, round_up(size, self._page))
        self._fenced.append(
            Segment(is_output=self._is_output, file_offset=self._end, length=length)
        )
        self._end += length
        slack = length - size
        at_end = self._mode is ArenaMode.FENCED_END
        guard = slack if self._is_output else 0
        return Place(
            segment=len(self._fenced) - 1,
            offset=slack if at_end else 0,
            size=size,
            guard_before=guard if at_end else 0,
            guard_after=0 if at_end else guard,
        )
