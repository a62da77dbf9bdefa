"""What a host process is told before it loads anything: where its memory lies and how to call.

Pure. Sizes, offsets and numbers only: names of workloads and tensors, expected values and
everything else that could tell one stage of a measurement from another stay in the supervisor.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpu_runner.host.layout import Layout, Place
from gpu_runner.problem import Problem, Workload


@dataclass(frozen=True, kw_only=True)
class Memory:
    """One arena as a host meets it."""

    layout: Layout
    input_fd: int
    output_fd: int


def native_setup(
    problem: Problem, workloads: Sequence[Workload], memories: Sequence[Memory], *, threads: int
) -> bytes:
    """Return the words `native_host.c` reads: counts, segments, then each arena.

    The tail of an argument block is the same for every slot of an arena: the sizes of all axes in
    declaration order, the scalars in call order (a double or an int64), the number of threads.
    """
    tensors = len(problem.inputs) + len(problem.outputs)
    tails = [_tail(problem, workload, threads) for workload in workloads]
    words = _words((sum(len(m.layout.segments) for m in memories), len(memories), tensors))
    words += _words((len(tails[0]) // 8 if tails else 0,))
    words += _words(value for segment in _segments(memories) for value in segment)
    for memory, first, tail in zip(memories, _firsts(memories), tails, strict=True):
        slots = _slots(memory.layout)
        words += _words((len(slots),)) + tail
        words += _words(
            value for slot in slots for p in slot for value in (first + p.segment, p.offset)
        )
    return words


def python_setup(
    problem: Problem,
    workloads: Sequence[Workload],
    memories: Sequence[Memory],
    *,
    threads: int,
    entry: Path,
    calling: Literal["returning", "destination"],
    unplugged_ops: Sequence[str],
) -> bytes:
    """Return the JSON text `python_host.py` reads."""
    tensors = (*problem.inputs, *problem.outputs)
    arenas = [
        {
            "shapes": [problem.shape(tensor, workload) for tensor in tensors],
            "scalars": problem.scalar_values(workload),
            "slots": [[(first + p.segment, p.offset) for p in s] for s in _slots(memory.layout)],
        }
        for workload, memory, first in zip(workloads, memories, _firsts(memories), strict=True)
    ]
    return json.dumps(
        {
            "segments": _segments(memories),
            "dtypes": [tensor.dtype.value for tensor in tensors],
            "inputs": len(problem.inputs),
            "arenas": arenas,
            "threads": threads,
            "entry": str(entry),
            "returns": calling == "returning",
            "unplugged": list(unplugged_ops),
        }
    ).encode()


def _tail(problem: Problem, workload: Workload, threads: int) -> bytes:
    sizes = problem.sizes(workload)
    words = _words(sizes[axis.name] for axis in problem.axes)
    for scalar, value in zip(problem.scalars, problem.scalar_values(workload), strict=True):
        words += struct.pack("=q" if scalar.kind == "int" else "=d", value)
    return words + _words((threads,))


def _segments(memories: Sequence[Memory]) -> list[tuple[int, int, int, int]]:
    """Return descriptor, whether it may be written, offset and length of every segment."""
    return [
        (
            memory.output_fd if segment.is_output else memory.input_fd,
            int(segment.is_output),
            segment.file_offset,
            segment.length,
        )
        for memory in memories
        for segment in memory.layout.segments
    ]


def _firsts(memories: Sequence[Memory]) -> list[int]:
    """Return the index of each arena's first segment among all."""
    counts = [len(memory.layout.segments) for memory in memories]
    return [sum(counts[:index]) for index in range(len(counts))]


def _slots(layout: Layout) -> list[tuple[Place, ...]]:
    return [
        (*inputs, *outputs) for inputs, outputs in zip(layout.inputs, layout.outputs, strict=True)
    ]


def _words(values: Iterable[int]) -> bytes:
    listed = tuple(values)
    return struct.pack(f"={len(listed)}q", *listed)
