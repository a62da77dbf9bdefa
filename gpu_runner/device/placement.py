"""Where every tensor of every slot lies in device memory. Pure.

Slabs are allocated by the oracle and mapped by every side at addresses of its own, each between
unmapped fences. Inputs and outputs never share a slab: sides map inputs for reading only.
"""

from dataclasses import dataclass
from typing import Final, Literal

from gpu_runner.problem import Problem, Tensor, Workload

GRANULE: Final = 2 << 20
"""Slabs are multiples of this, bytes: what the driver maps at a time, and the width of a fence."""
ALIGNMENT: Final = 256
"""Of every tensor where calls are timed, bytes; torch's own allocations have 512."""
LEAST_ALIGNMENT: Final = 16
"""Of every tensor anywhere: what kernels may rely on."""
GUARD_BYTES: Final = 64 << 10
"""Of pattern on both sides of each output; MEASUREMENT C6."""
MOST_SLOTS: Final = 64
_MOST_BYTES: Final = 16 << 30

Mode = Literal["timed", "fenced_end", "fenced_start"]
"""Fenced: each tensor alone in a slab, flush against unmapped addresses at its end or start."""


@dataclass(frozen=True, kw_only=True)
class Slab:
    """One allocation."""

    bytes: int
    is_output: bool


@dataclass(frozen=True, kw_only=True)
class Spot:
    """One tensor of one slot."""

    slab: int
    offset: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A workload's slots in slabs."""

    workload: Workload
    slots: int
    mode: Mode
    slabs: tuple[Slab, ...]
    spots: tuple[dict[str, Spot], ...]
    """Tensor name to spot, one mapping a slot."""

    @property
    def total_bytes(self) -> int:
        """Device memory of all slabs."""
        return sum(slab.bytes for slab in self.slabs)


def place(problem: Problem, workload: Workload, *, slots: int, mode: Mode = "timed") -> Placement:
    """Lay out one workload.

    Raises:
        ValueError: fewer than one slot, or several fenced ones.
    """
    if slots < 1 or (mode != "timed" and slots != 1):
        msg = f"{slots} slots of mode {mode!r}; one or more timed ones, or a single fenced one"
        raise ValueError(msg)
    build = _timed if mode == "timed" else _fenced
    slabs, spots = build(problem, workload, slots, mode)
    return Placement(workload=workload, slots=slots, mode=mode, slabs=slabs, spots=spots)


def slots_for(problem: Problem, workload: Workload, l2_bytes: int) -> int:
    """Return how many slots a token needs so that none of them is still in the L2 cache.

    Two caches' worth and one more, between 2 and 64, as far as memory allows; a workload of less
    than a 64th of that is measured as it is met in practice, warm.

    Source: MEASUREMENT B4.
    """
    each = max(problem.required_bytes(workload), 1)
    wanted = -(-2 * l2_bytes // each) + 1
    return max(2, min(wanted, MOST_SLOTS, max(2, _MOST_BYTES // each)))


def _bytes_of(problem: Problem, tensor: Tensor, workload: Workload) -> int:
    count = 1
    for size in problem.shape(tensor, workload):
        count *= size
    return count * tensor.dtype.item_bytes


def _timed(
    problem: Problem, workload: Workload, slots: int, _mode: Mode
) -> tuple[tuple[Slab, ...], tuple[dict[str, Spot], ...]]:
    spots: list[dict[str, Spot]] = [{} for _ in range(slots)]
    ends = [0, GUARD_BYTES]
    for slab, tensors in enumerate((problem.inputs, problem.outputs)):
        gap = GUARD_BYTES if slab else 0
        for slot in spots:
            for tensor in tensors:
                size = _bytes_of(problem, tensor, workload)
                slot[tensor.name] = Spot(slab=slab, offset=ends[slab], bytes=size)
                ends[slab] += _up(size, ALIGNMENT) + gap
    slabs = (
        Slab(bytes=_up(max(ends[0], 1), GRANULE), is_output=False),
        Slab(bytes=_up(ends[1], GRANULE), is_output=True),
    )
    return slabs, tuple(spots)


def _fenced(
    problem: Problem, workload: Workload, _slots: int, mode: Mode
) -> tuple[tuple[Slab, ...], tuple[dict[str, Spot], ...]]:
    slabs: list[Slab] = []
    slot: dict[str, Spot] = {}
    for tensors, is_output in ((problem.inputs, False), (problem.outputs, True)):
        for tensor in tensors:
            size = _bytes_of(problem, tensor, workload)
            whole = _up(max(size, 1), GRANULE)
            offset = whole - _up(size, LEAST_ALIGNMENT) if mode == "fenced_end" else 0
            slot[tensor.name] = Spot(slab=len(slabs), offset=offset, bytes=size)
            slabs.append(Slab(bytes=whole, is_output=is_output))
    return tuple(slabs), (slot,)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
