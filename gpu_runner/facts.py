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
    path: str = ""
    """The source file, where the symbol is a line of it."""
    line: int | None = None
    text: str = ""
    """The line, or the instruction."""
    stall: str = ""
    """What warps wait for there, mostly."""


class SassLedger(Message):
    """What a kernel's machine code consists of, by kind; an instruction is counted once."""

    total: int = 0
    kinds: dict[str, int] = Field(default_factory=dict)
    """`load_global_128`, `mma_hmma`, `convert`, `local_store`, `barrier`, ... to instructions."""
    executed: dict[str, float] = Field(default_factory=dict)
    """The same kinds to how often warps executed them; empty where that was not counted."""


class Advice(Message):
    """What the tool's own rules said, in its words."""

    rule: str
    text: str
    speedup_percent: float | None = None


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
    memory_fraction: Fraction | None = None
    """The busiest unit of the memory system, where only that was exported."""
    launch: int | None = None
    """Its number in the report."""
    arch: str = ""
    """`sm_90`."""
    device: str = ""
    grid: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    multiprocessors: int | None = None
    dram_read_bytes: float | None = None
    dram_write_bytes: float | None = None
    required_bytes: float | None = None
    """What a right answer must move at least."""
    bytes_per_s: float | None = None
    peak_bytes_per_s: float | None = None
    """Of the DRAM, as the counters' tool states it; a copy reaches nine tenths of it."""
    flops_per_s: float | None = None
    """float32 and float64 together; matrix units are not counted here."""
    peak_flops_per_s: float | None = None
    """float32 multiply-adds."""
    float32_fraction: Fraction | None = None
    """float32 instructions of the peak rate of multiply-adds."""
    half_fraction: Fraction | None = None
    """The same for packed half-precision instructions."""
    issue_fraction: Fraction | None = None
    """Cycles in which a scheduler issued."""
    pipes: dict[str, Fraction] = Field(default_factory=dict)
    """How busy each pipe is: `fma`, `alu`, `fp64`, `tensor`, `xu`, `lsu`, `tex`, `fp16`."""
    tensor_kinds: tuple[str, ...] = ()
    """Which matrix instructions ran: `hmma`, `gmma`, `imma`, `dmma`."""
    l1_hit_fraction: Fraction | None = None
    l2_hit_fraction: Fraction | None = None
    """Of reads where that is known, otherwise of all."""
    load_sectors_per_request: float | None = None
    """Of 32 bytes; four are the least for 4 bytes a thread."""
    store_sectors_per_request: float | None = None
    sector_use: Fraction | None = None
    """Share of the sectors that global loads and stores asked for and that perfect access needs."""
    shared_fraction: Fraction | None = None
    """Shared memory's data path, of its peak."""
    shared_conflict_share: Fraction | None = None
    """Share of the passes over shared memory that only conflicts of banks make necessary."""
    shared_conflict_ways: float | None = None
    """Passes over those needed without conflicts."""
    local_sector_share: Fraction | None = None
    """Sectors of local memory among all that L1 looked up."""
    local_instruction_share: Fraction | None = None
    spill_request_share: Fraction | None = None
    """Of the requests to local memory, those that are spills; the others index arrays."""
    thread_fraction: Fraction | None = None
    """Threads that an executed instruction had active, of 32."""
    divergent_branch_share: Fraction | None = None
    atomic_request_share: Fraction | None = None
    """Atomic and reduction requests among all to global and shared memory."""
    atomic_unit_fraction: Fraction | None = None
    """The L2's atomic units, the busiest slice where that is known."""
    active_fraction: Fraction | None = None
    """Cycles in which a multiprocessor had work, on average."""
    balance_fraction: Fraction | None = None
    """The average multiprocessor's active cycles over those of the busiest one."""
    tail_fraction: Fraction | None = None
    """Share of the places for blocks that stay empty in the last wave, over all waves."""
    share: Fraction | None = None
    """Of the time of all launches in the report."""
    launches: int | None = None
    """How many launches of this name and shape the report has."""
    sass: SassLedger | None = None
    hotspots: tuple[Hotspot, ...] = ()
    """Lines and instructions that take most samples, the hottest first."""
    advice: tuple[Advice, ...] = ()


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
