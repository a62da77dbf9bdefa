"""What a profile found: facts of one candidate, the same type for a processor and a GPU.

Nouns only. A missing value is None, never zero; units are in the names.
"""

from typing import Literal

from pydantic import Field

from gpu_runner.message import Message

Fraction = float
"""0 to 1, or above 1 where a model was exceeded."""


class Remark(Message):
    """What the compiler said of one loop."""

    path: str
    line: int
    kind: Literal["vectorised", "missed", "note"]
    text: str


class InstructionMix(Message):
    """Counts over the hot function's machine code, statically."""

    total: int
    vector_bits: dict[str, int] = Field(default_factory=dict)
    """Register width ("128", "256", "512") to the number of vector instructions."""
    fma: int = 0
    vector_arithmetic: int = 0
    scalar_arithmetic: int = 0
    division: int = 0
    """Divide and square-root instructions."""
    calls_in_loops: tuple[str, ...] = ()
    """Functions called from inside a loop: `expf`, `memcpy`."""
    spills: int = 0
    """Stack stores and loads inside loops."""
    gathers: int = 0
    non_temporal_stores: int = 0


class Roofline(Message):
    """Where a workload stands between the machine's measured ceilings."""

    workload: str
    time_us: float
    required_bytes: int
    required_flops: float
    bandwidth_bytes_per_s: float
    """Measured with the best copy this machine showed at this working-set size and thread count."""
    peak_flops_per_s: float
    """Measured with independent fused multiply-adds, same thread count."""
    floor_us: float
    """max(bytes / bandwidth, flops / peak): no right answer can be faster."""
    fraction_reached: Fraction
    """floor_us / time_us."""
    bound: Literal["memory", "compute", "latency"]
    """`latency`: neither ceiling explains the time (below a quarter of both)."""


class Hotspot(Message):
    """Where time or instructions gather."""

    symbol: str
    share: Fraction
    detail: str = ""


class KernelFacts(Message):
    """What one launch of one call asked of a GPU; fractions are of what the device sustains."""

    workload: str
    kernel: str
    """The symbol launched."""
    source: Literal["counters", "arithmetic"]
    """Hardware counters, or the compiler's figures and the device's limits alone."""
    time_us: float | None = None
    """Under the counters' tool, with a cold L2: not for comparison with timings."""
    dram_bytes: float | None = None
    dram_fraction: Fraction | None = None
    l2_fraction: Fraction | None = None
    l1_fraction: Fraction | None = None
    sm_fraction: Fraction | None = None
    """The busiest unit of the multiprocessors."""
    tensor_fraction: Fraction | None = None
    """Tensor pipe active."""
    occupancy_fraction: Fraction | None = None
    """Resident warps as achieved, of those a multiprocessor can hold."""
    occupancy_bound: Fraction | None = None
    """The most that registers, shared memory and block size allow."""
    occupancy_limiters: tuple[str, ...] = ()
    """What sets that bound: `registers`, `shared_mem`, `warps`, `blocks`, `barriers`."""
    waves: float | None = None
    """Blocks over those resident at once; a fraction above a whole number is a tail."""
    registers: int | None = None
    """A thread."""
    shared_bytes: int | None = None
    """A block, static and dynamic."""
    spill_bytes: int | None = None
    """A thread, stores and loads, as the compiler counted."""
    stalls: dict[str, Fraction] = Field(default_factory=dict)
    """Share of the cycles that resident warps waited, by reason, largest first."""


class Facts(Message):
    """All a profile measured; what could not be measured is named in `unavailable`."""

    tier: Literal["cpu", "gpu"]
    remarks: tuple[Remark, ...] = ()
    instructions: InstructionMix | None = None
    roofline: tuple[Roofline, ...] = ()
    hotspots: tuple[Hotspot, ...] = ()
    kernels: tuple[KernelFacts, ...] = ()
    """GPU only: the launches of one call of one workload, in order."""
    counters: dict[str, float] = Field(default_factory=dict)
    """Metric name to value: hardware counters, registers, occupancy."""
    unavailable: tuple[str, ...] = ()
    """`perf counters: not permitted`."""
