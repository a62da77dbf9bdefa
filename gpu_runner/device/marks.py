"""Poison in outputs and around them, and what is left of it after a call."""

from typing import Final

import torch

from gpu_runner.device.tensors import SlotTensors
from gpu_runner.problem import DType, Problem

POISONS: Final = (0x7FA57FA5, 0xFFC1FFC1)
"""NaN as float16, bfloat16 and float32, with payloads that no computation yields."""
_SHOWS_POISON: Final = frozenset({DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32})
_WORD_BYTES: Final = 4


def poison(tensors: SlotTensors, pattern: int) -> None:
    """Fill every output slab, guards and all, with a pattern."""
    signed = pattern - (1 << 32) if pattern >= 1 << 31 else pattern
    for slab, planned in zip(tensors.slabs, tensors.placement.slabs, strict=True):
        if planned.is_output:
            slab.view(torch.int32).fill_(signed)


def broken_guard(tensors: SlotTensors, problem: Problem, pattern: int) -> str:
    """Return which output was written beside, or nothing; waits for the device once."""
    checks: list[tuple[str, torch.Tensor]] = []
    for tensor in problem.outputs:
        spots = [slot[tensor.name] for slot in tensors.placement.spots]
        slab = tensors.slabs[spots[0].slab]
        first, end = spots[0].offset, spots[0].offset + spots[0].bytes
        before = slab[max(0, first - _guard_before(tensors, first)) : first]
        checks.append((tensor.name, _differs(before, first - before.numel(), pattern)))
        gap = _guard_after(tensors, spots[0].slab, end)
        between = spots[1].offset - first if len(spots) > 1 else slab.numel()
        after = slab.as_strided((len(spots), gap), (between, 1), end)
        checks.append((tensor.name, _differs(after, end, pattern)))
    broken = torch.stack([found for _, found in checks]).tolist()
    names = (name for (name, _), is_broken in zip(checks, broken, strict=True) if is_broken)
    return next(names, "")


def unwritten(tensors: SlotTensors, problem: Problem, pattern: int) -> str:
    """Return an output that still holds elements of poison, or nothing; waits for the device.

    Integer outputs have no value that could not be right: there the comparison decides alone.
    """
    for tensor in problem.outputs:
        if tensor.dtype not in _SHOWS_POISON:
            continue
        values = tensors.outputs[tensor.name].contiguous()
        narrow = tensor.dtype is not DType.FLOAT32
        bits = values.view(torch.int16 if narrow else torch.int32)
        wanted = pattern & 0xFFFF if narrow else pattern
        limit = 1 << (15 if narrow else 31)
        if bool((bits == (wanted - 2 * limit if wanted >= limit else wanted)).any()):
            return tensor.name
    return ""


def _guard_before(tensors: SlotTensors, first: int) -> int:
    """Return how many bytes of pattern lie before the first slot's output."""
    ends = [
        spot.offset + spot.bytes
        for spot in tensors.placement.spots[0].values()
        if tensors.placement.slabs[spot.slab].is_output and spot.offset + spot.bytes <= first
    ]
    is_fenced = tensors.placement.mode != "timed"
    return first if is_fenced else first - max(ends, default=0)


def _guard_after(tensors: SlotTensors, slab: int, end: int) -> int:
    """Return how many bytes of pattern follow an output, the same in every slot."""
    starts = [
        spot.offset
        for slot in tensors.placement.spots
        for spot in slot.values()
        if spot.slab == slab and spot.offset >= end
    ]
    size = tensors.placement.slabs[slab].bytes
    last = max(spot[1] for spot in _ends(tensors, slab))
    return min(min(starts, default=size) - end, size - last)


def _ends(tensors: SlotTensors, slab: int) -> list[tuple[int, int]]:
    return [
        (spot.offset, spot.offset + spot.bytes)
        for slot in tensors.placement.spots
        for spot in slot.values()
        if spot.slab == slab
    ]


def _differs(region: torch.Tensor, start: int, pattern: int) -> torch.Tensor:
    """Return whether a region holds anything but the pattern; `start` is its byte offset."""
    if region.numel() == 0:
        return torch.zeros((), dtype=torch.bool, device=region.device)
    content = pattern.to_bytes(_WORD_BYTES, "little")
    period = [content[(start + i) % _WORD_BYTES] for i in range(_WORD_BYTES)]
    wanted = torch.tensor(period, dtype=torch.uint8, device=region.device)
    length = region.shape[-1]
    whole = length - length % _WORD_BYTES
    head = None
    if whole:
        words = region[..., :whole].reshape(*region.shape[:-1], -1, _WORD_BYTES)
        head = words != wanted
    tail = region[..., whole:] != wanted[: length - whole]
    is_odd = tail.any()
    return is_odd if head is None else is_odd | head.any()
