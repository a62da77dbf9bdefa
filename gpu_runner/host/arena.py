"""Arenas: the memory a subject and the supervisor share for one workload.

The supervisor may write everything. A subject can map inputs for reading only (the kernel refuses
any other new mapping), and can resize neither file, so that it cannot make the supervisor fault.
"""

import fcntl
import mmap
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np

from gpu_runner.errors import RunnerError
from gpu_runner.host.layout import GUARD_BYTES, ArenaMode, Layout, Place, lay_out
from gpu_runner.problem import DType, Problem, Tensor, Workload

__all__ = ["Arena", "ArenaMode"]

_F_SEAL_FUTURE_WRITE = 0x0010
_NO_RESIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_LINE_BYTES = 64
_SHORTEST_TAIL = 8
_PERIOD = 256
_GUARD = bytes((i * 197 + 91) % 256 for i in range(_PERIOD))
"""Every byte value once, so that no fill and no shifted copy looks like it."""
_WIDE = frozenset({DType.FLOAT32, DType.FLOAT64, DType.INT64})
"""Types of which no computation yields an element equal to a poison pattern."""
_Array = np.ndarray[Any, np.dtype[Any]]


_STRETCH_BYTES = 1 << 16
_PATTERN = np.frombuffer(_GUARD * (_STRETCH_BYTES // _PERIOD), np.uint8)


def give_pages(arenas: Sequence["Arena"]) -> None:
    """Fill new arenas a stretch at a time, in turns, so that their pages are of one kind.

    Physical pages differ: whether the host backs them with large ones, and what they were last
    used for. Arenas filled one after the other were up to 5 % apart for identical code, for as
    long as they lived, and whoever came first was on the same side of it.
    """
    left = list(arenas)
    start = 0
    while left:
        left = [arena for arena in left if arena.fill_stretch(start)]
        start += _STRETCH_BYTES


class Arena:
    """Slots of buffers for one workload, at distinct addresses, all pages present."""

    def __init__(
        self,
        problem: Problem,
        workload: Workload,
        *,
        slots: int,
        mode: ArenaMode = ArenaMode.TIMED,
        has_pages: bool = True,
    ) -> None:
        """Allocate, fill outputs and guards with pattern, and seal.

        Args:
            problem: names the tensors.
            workload: gives them sizes.
            slots: sets of buffers.
            mode: where the data lie.
            has_pages: False leaves the filling, and with it the choice of pages, to
                `give_pages`, which must be called before anything else.

        Raises:
            ValueError: no slot, or the workload does not fit the problem.
            RunnerError: the kernel cannot seal shared memory, or there is none left.
        """
        self.problem = problem
        self.workload = workload
        self.slots = slots
        self.mode = mode
        self.layout: Layout = lay_out(
            problem, workload, slots=slots, mode=mode, page_bytes=mmap.PAGESIZE
        )
        self._shapes = {
            t.name: problem.shape(t, workload) for t in (*problem.inputs, *problem.outputs)
        }
        with ExitStack() as opening:
            self.input_fd, self._input_bytes = _open_sealed(
                opening, self.layout.input_bytes, _F_SEAL_FUTURE_WRITE
            )
            self.output_fd, self._output_bytes = _open_sealed(opening, self.layout.output_bytes, 0)
            self._closing = opening.pop_all()
        self._guard = _GUARD * (2 + max(GUARD_BYTES, mmap.PAGESIZE) // _PERIOD)
        if has_pages:
            give_pages((self,))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def fill_stretch(self, start: int) -> bool:
        """Fill one stretch of both files with what a new arena holds; False beyond their ends."""
        end = start + _STRETCH_BYTES
        self._input_bytes[start:end] = 0
        part = self._output_bytes[start:end]
        part[:] = _PATTERN[: part.size]
        return end < max(self._input_bytes.size, self._output_bytes.size)

    def input(self, slot: int, name: str) -> _Array:
        """Return a writable view, in the raw dtype (bfloat16 as uint16)."""
        index = [t.name for t in self.problem.inputs].index(name)
        place = self.layout.inputs[slot][index]
        return self._view(self._input_bytes, self.problem.inputs[index], place)

    def output(self, slot: int, name: str) -> _Array:
        """Return a view, in the raw dtype (bfloat16 as uint16)."""
        index = [t.name for t in self.problem.outputs].index(name)
        place = self.layout.outputs[slot][index]
        return self._view(self._output_bytes, self.problem.outputs[index], place)

    def poison(self, slots: Iterable[int], pattern: int) -> None:
        """Fill the outputs of these slots with a 32-bit pattern, least significant byte first."""
        for slot in slots:
            for place in self.layout.outputs[slot]:
                _fill(self._bytes(self._output_bytes, place), pattern)

    def broken_guard(self, slots: Iterable[int]) -> str | None:
        """Name the first output and side beside which something was written, or return None."""
        for slot in slots:
            for tensor, place in zip(self.problem.outputs, self.layout.outputs[slot], strict=True):
                start = self._start(place)
                if self._is_broken(start - place.guard_before, start):
                    return f"before output {tensor.name!r} of slot {slot}"
                end = start + place.size
                if self._is_broken(end, end + place.guard_after):
                    return f"after output {tensor.name!r} of slot {slot}"
        return None

    def unwritten(self, slots: Iterable[int], pattern: int) -> str | None:
        """Name the first output in which poison survives, or return None.

        One element is proof where no computation yields the pattern: a NaN payload of 32 bits, or
        64 bits of anything. Narrower elements and int32 equal it by chance, so there it takes a
        whole 64-byte line, or the whole rest behind the last line if that is 8 bytes or more; an
        honest output looks like that with a probability of 2**-64 at most. What stays below
        that is found by comparison with the oracle.
        """
        for slot in slots:
            for tensor, place in zip(self.problem.outputs, self.layout.outputs[slot], strict=True):
                if _survives(self._bytes(self._output_bytes, place), tensor.dtype, pattern):
                    return tensor.name
        return None

    def close(self) -> None:
        """Give the memory back; views that are still held keep it mapped until they go."""
        self._input_bytes = self._output_bytes = np.empty(0, np.uint8)
        self._closing.close()

    def _start(self, place: Place) -> int:
        return self.layout.segments[place.segment].file_offset + place.offset

    def _bytes(self, file: _Array, place: Place) -> _Array:
        start = self._start(place)
        return file[start : start + place.size]

    def _view(self, file: _Array, tensor: Tensor, place: Place) -> _Array:
        raw = self._bytes(file, place).view(_raw_dtype(tensor.dtype))
        return raw.reshape(self._shapes[tensor.name])

    def _is_broken(self, start: int, stop: int) -> bool:
        phase = start % _PERIOD
        wanted = self._guard[phase : phase + stop - start]
        return bool(self._output_bytes[start:stop].tobytes() != wanted)


def _open_sealed(opening: ExitStack, size: int, seals: int) -> tuple[int, _Array]:
    try:
        fd = os.memfd_create("arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        opening.callback(os.close, fd)
        os.ftruncate(fd, size)
        mapping = mmap.mmap(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _NO_RESIZE | seals)
    except OSError as error:
        raise RunnerError(
            f"shared memory of {size} bytes cannot be made and sealed ({error}); sealing needs "
            "Linux 5.1, the memory must be free"
        ) from error
    return fd, np.frombuffer(mapping, np.uint8)


def _raw_dtype(dtype: DType) -> np.dtype[Any]:
    return np.dtype("uint16" if dtype is DType.BFLOAT16 else dtype.value)


def _fill(data: _Array, pattern: int) -> None:
    whole = data.size // 4 * 4
    data[:whole].view("<u4")[:] = pattern
    data[whole:] = np.frombuffer(pattern.to_bytes(4, "little"), np.uint8)[: data.size - whole]


def _survives(data: _Array, dtype: DType, pattern: int) -> bool:
    word = pattern | pattern << 32
    if dtype in _WIDE:
        width = dtype.item_bytes
        poison = pattern if width == 4 else word  # noqa: PLR2004 - bytes of the two widths there are
        return bool((data.view(f"<u{width}") == poison).any())
    whole = data.size // _LINE_BYTES * _LINE_BYTES
    lines = data[:whole].view("<u8").reshape(-1, _LINE_BYTES // 8)
    if bool((lines == word).all(axis=1).any()):
        return True
    rest = data[whole:].tobytes()
    return len(rest) >= _SHORTEST_TAIL and rest == (word.to_bytes(8, "little") * 8)[: len(rest)]
