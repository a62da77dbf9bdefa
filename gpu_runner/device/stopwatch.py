"""A token: one timed replay on a cold cache, with the processor clock it ran at.

First the clock is given time to come back from what ran before. Then more than the L2 cache holds
is written with changing words and read back elsewhere, so that no line of an input is left and no
dirty line has to be written out at the kernel's expense. A stamp before and one after read a
multiprocessor's cycle counter and the global timer: their ratio is the clock, without asking or
touching any setting.

Source: MEASUREMENT B3, B5, B8.
"""

import ctypes
import time
from dataclasses import dataclass
from typing import Any, Final

from gpu_runner.device.clocks import Settling
from gpu_runner.device.driver import api, attribute, call

_LEAST_FLUSH_BYTES: Final = 128 << 20
_STAMP_BYTES: Final = 24
_SWEEP_THREADS: Final = 256
_BLOCKS_PER_PROCESSOR: Final = 8
_MOST_SETTLING_S: Final = 0.05

# Hand-written for every architecture from sm_70 on; the driver compiles it. `stamp` stores the
# global timer, the cycle counter and the multiprocessor; `sweep` reads 16 bytes a thread and step,
# and stores only where the words add up to a number they cannot.
_PTX: Final = r"""
.version 7.0
.target sm_70
.address_size 64

.visible .entry stamp(.param .u64 into)
{
    .reg .u64 %a, %t, %c;
    .reg .u32 %s;
    ld.param.u64 %a, [into];
    cvta.to.global.u64 %a, %a;
    mov.u64 %t, %globaltimer;
    mov.u64 %c, %clock64;
    mov.u32 %s, %smid;
    st.global.u64 [%a], %t;
    st.global.u64 [%a+8], %c;
    st.global.u32 [%a+16], %s;
    ret;
}

.visible .entry sweep(.param .u64 from, .param .u64 bytes)
{
    .reg .u64 %a, %n, %i, %step, %p;
    .reg .u32 %x, %y, %z, %w, %sum, %r_tid, %r_ctaid, %r_ntid, %r_nctaid;
    .reg .pred %done, %odd;
    ld.param.u64 %a, [from];
    ld.param.u64 %n, [bytes];
    cvta.to.global.u64 %a, %a;
    mov.u32 %r_tid, %tid.x;
    mov.u32 %r_ctaid, %ctaid.x;
    mov.u32 %r_ntid, %ntid.x;
    mov.u32 %r_nctaid, %nctaid.x;
    mad.lo.u32 %r_tid, %r_ctaid, %r_ntid, %r_tid;
    mul.wide.u32 %i, %r_tid, 16;
    mul.lo.u32 %r_ntid, %r_ntid, %r_nctaid;
    mul.wide.u32 %step, %r_ntid, 16;
    mov.u32 %sum, 0;
again:
    setp.ge.u64 %done, %i, %n;
    @%done bra out;
    add.u64 %p, %a, %i;
    ld.global.v4.u32 {%x, %y, %z, %w}, [%p];
    or.b32 %x, %x, %y;
    or.b32 %z, %z, %w;
    or.b32 %x, %x, %z;
    or.b32 %sum, %sum, %x;
    add.u64 %i, %i, %step;
    bra again;
out:
    setp.ne.u32 %odd, %sum, 0;
    @!%odd bra end;
    st.global.u32 [%a], %sum;
end:
    ret;
}
"""


@dataclass(frozen=True, kw_only=True)
class TokenTime:
    """What one token took."""

    us: float
    """Between events around the replay, all slots together."""
    mhz: float
    """Clock of a multiprocessor over that stretch; 0 where the stamps met different ones."""


class Stopwatch:
    """Flushes, stamps and times; owns a stream, events and its own memory."""

    def __init__(self, device: int = 0) -> None:
        """Allocate; the memory is never freed while the process lives."""
        self.stream = call("cuStreamCreate", api().CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._events = [call("cuEventCreate", 0) for _ in range(2)]
        self._module = call("cuModuleLoadData", _PTX.encode() + b"\0")
        self._stamp = call("cuModuleGetFunction", self._module, b"stamp")
        self._sweep = call("cuModuleGetFunction", self._module, b"sweep")
        self._bytes = max(2 * attribute("L2_CACHE_SIZE", device), _LEAST_FLUSH_BYTES)
        self._dirty = int(call("cuMemAlloc", self._bytes))
        self._clean = int(call("cuMemAlloc", self._bytes))
        self._stamps = int(call("cuMemAlloc", 2 * _STAMP_BYTES))
        call("cuMemsetD32", self._clean, 0, self._bytes // 4)
        self._blocks = attribute("MULTIPROCESSOR_COUNT", device) * _BLOCKS_PER_PROCESSOR
        self._turn = 0
        self._settling = Settling()

    def flush(self) -> None:
        """Queue what leaves the L2 cache full of clean lines that nobody wants."""
        self._turn += 1
        call("cuCtxResetPersistingL2Cache")
        call("cuMemsetD32Async", self._dirty, self._turn, self._bytes // 4, self.stream)
        types = (ctypes.c_void_p, ctypes.c_uint64)
        extents = (self._blocks, 1, 1, _SWEEP_THREADS, 1, 1)
        values = (self._clean, self._bytes)
        call("cuLaunchKernel", self._sweep, *extents, 0, self.stream, (values, types), 0)

    def time(self, replay: Any) -> TokenTime:
        """Let the clock settle, flush, run `replay(stream)` and wait for it.

        Raises:
            DriverFailed: the replay failed; the context is lost.
        """
        self._settle()
        self.flush()
        self._mark(0)
        call("cuEventRecord", self._events[0], self.stream)
        replay(self.stream)
        call("cuEventRecord", self._events[1], self.stream)
        self._mark(1)
        call("cuStreamSynchronize", self.stream)
        us = float(call("cuEventElapsedTime", *self._events)) * 1e3
        return TokenTime(us=us, mhz=self._clock_mhz())

    def _settle(self) -> None:
        give_up_s = time.monotonic() + _MOST_SETTLING_S
        while time.monotonic() < give_up_s:
            self._mark(0)
            self.flush()
            self._mark(1)
            call("cuStreamSynchronize", self.stream)
            if self._settling.is_back(self._clock_mhz()):
                return

    def _mark(self, index: int) -> None:
        values = (self._stamps + index * _STAMP_BYTES,)
        extents = (1, 1, 1, 1, 1, 1)
        arguments = (values, (ctypes.c_void_p,))
        call("cuLaunchKernel", self._stamp, *extents, 0, self.stream, arguments, 0)

    def _clock_mhz(self) -> float:
        content = bytearray(2 * _STAMP_BYTES)
        call("cuMemcpyDtoH", content, self._stamps, len(content))
        words = [int.from_bytes(content[i : i + 8], "little") for i in range(0, len(content), 8)]
        before, after = words[:3], words[3:]
        nanoseconds = after[0] - before[0]
        is_same = before[2] & 0xFFFFFFFF == after[2] & 0xFFFFFFFF
        if not is_same or nanoseconds <= 0:
            return 0.0
        return (after[1] - before[1]) / nanoseconds * 1e3
