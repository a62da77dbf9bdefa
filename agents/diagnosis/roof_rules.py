"""Rules for units that are busy with useful work: the machine's roofs. Data.

Each roof has two rows: saturated, which nothing but waste explains away, and busy, which counts
where no stall explains more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.diagnosis.rules import Condition, DeviceRule, Treatment, at_least, at_most
from agents.diagnosis.vocabulary import Bottleneck
from agents.replies import Movement

_SATURATED, _BUSY, _SURE = 0.8, 0.6, 0.92
_SOL = "the tool's Speed Of Light rules: below 60 % no unit limits, from 80 % one does"
_HIT = "what L2 answers itself, DRAM does not limit; what it fetches, DRAM or its latency does"
NEAR_ROOF = 0.85
"""From this share of what a unit can reach the rest is too little to pay for an edit's risk."""


@dataclass(frozen=True, kw_only=True)
class _Roof:
    bottleneck: Bottleneck
    signal: str
    because: tuple[str, ...]
    change: str
    metric: str
    factor: float
    query: str
    also: tuple[Condition, ...] = ()
    by_arch: Mapping[str, str] = field(default_factory=dict)
    when_busy: str = ""
    """The edit while the unit still has time left, where that is another."""


_FEWER = "time falls in proportion to the work that went away"
_WGMMA = (
    "move the products from mma.sync to wgmma on tiles that TMA brings to shared memory: a warp's "
    "own mma reaches about 60 % of what the matrix units of this architecture can do"
)
_TCGEN05 = (
    "move the products from mma.sync to tcgen05 with accumulators in tensor memory, which the "
    "matrix units of this architecture need for their full rate"
)
_NARROWER = (
    "halve the cost of each product by a narrower input type where the tolerance allows it, or "
    "skip tiles that are masked; the matrix units themselves are full"
)
_ROOFS = (
    _Roof(
        bottleneck="dram_bandwidth",
        signal="dram_reached",
        because=(
            "the bytes that this kernel moves keep the DRAM busy",
            "they can only become fewer, or move in a time that another kernel leaves unused",
        ),
        change="move fewer bytes: fuse the kernel with its producer or consumer, or store its data "
        "in a narrower type; with 16 bytes a thread and streaming stores what is left is small",
        when_busy="bring more bytes on their way at once: 16 bytes a thread and access, two to "
        "four of them before the first is used, and blocks enough to fill every multiprocessor",
        metric="dram_bytes",
        factor=0.75,
        query="fusion memory bandwidth narrower type streaming stores",
    ),
    _Roof(
        bottleneck="l2_bandwidth",
        signal="l2_fraction",
        because=(
            "L2 answers most requests itself and is busy with them",
            "what L1, shared memory or registers hold does not reach it",
        ),
        change="keep what is read again on the multiprocessor: a larger tile in shared memory or "
        "registers, so that every byte is asked of L2 once a block",
        metric="l2_fraction",
        factor=0.8,
        query="l2 bandwidth tile reuse shared memory",
        also=(
            at_least("l2_hit_fraction", 0.5, 0.7, _HIT, is_needed=False),
            at_most("dram_fraction", 0.6, 0.4, _HIT, is_needed=False),
        ),
        by_arch={
            "sm_90": "keep what is read again on the multiprocessor: a larger tile in shared "
            "memory, or one tile for a cluster by TMA multicast, so that L2 is asked once",
            "sm_100": "keep what is read again on the multiprocessor: a larger tile in shared "
            "memory, or one tile for a cluster by TMA multicast, so that L2 is asked once",
        },
    ),
    _Roof(
        bottleneck="shared_memory_bandwidth",
        signal="shared_fraction",
        because=(
            "shared memory's data path is busy, with few conflicts",
            "each value that registers hold is one that need not be read again",
        ),
        change="read shared memory with 16 bytes a thread, and let each thread compute a larger "
        "tile of outputs from registers, so that a value read serves more arithmetic",
        metric="shared_fraction",
        factor=0.75,
        query="shared memory bandwidth register tile vectorised loads",
    ),
    _Roof(
        bottleneck="l1_bandwidth",
        signal="l1_beside_shared",
        because=("L1 and its load-store pipe are busy with requests that hit",),
        change="ask for more bytes with fewer instructions: 16 bytes a thread, values kept in "
        "registers instead of read again",
        metric="l1_fraction",
        factor=0.75,
        query="vectorised loads l1 cache register reuse",
    ),
    _Roof(
        bottleneck="tensor_pipe",
        signal="pipe_tensor",
        because=(
            "the matrix units are busy, and warps wait for them (math pipe throttle)",
            "only another instruction or fewer products shorten that",
        ),
        change=_NARROWER,
        metric="time_us",
        factor=0.8,
        query="tensor core mma narrower type",
        by_arch={"sm_90": _WGMMA, "sm_100": _TCGEN05, "sm_103": _TCGEN05},
    ),
    _Roof(
        bottleneck="fp32_pipe",
        signal="pipe_fp32",
        because=("float32 arithmetic keeps its pipe busy, whatever the memory does",),
        change="do fewer float32 operations: hoist what does not change out of the loop, replace "
        "a multiply and an add by one FMA, or give products to the matrix units where the "
        "tolerance allows their inputs",
        metric="time_us",
        factor=0.85,
        query="fp32 fma reduce instructions tensor cores",
    ),
    _Roof(
        bottleneck="fp64_pipe",
        signal="pipe_fp64",
        because=("float64 arithmetic keeps its pipe busy; it has half the lanes or fewer",),
        change="compute in float32 what the tolerance allows (compensated sums keep float64's "
        "accuracy where it matters), or use the matrix units' float64 products",
        metric="pipe_fp64",
        factor=0.5,
        query="fp64 mixed precision compensated summation dmma",
    ),
    _Roof(
        bottleneck="fp16_pipe",
        signal="pipe_half",
        because=("packed half-precision arithmetic keeps its pipe busy",),
        change="give the products to the matrix units, or do fewer operations an element",
        metric="time_us",
        factor=0.85,
        query="half precision packed arithmetic tensor cores",
    ),
    _Roof(
        bottleneck="int_pipe",
        signal="pipe_int",
        because=(
            "integer and logic instructions keep their pipe busy",
            "index arithmetic is most of it where the data themselves are floats",
        ),
        change="simplify the index arithmetic: 32-bit indices, increments instead of products, "
        "shifts and masks instead of divisions, constants as template parameters",
        metric="pipe_int",
        factor=0.75,
        query="integer arithmetic index simplification strength reduction",
    ),
    _Roof(
        bottleneck="special_function_pipe",
        signal="pipe_xu",
        because=(
            "exponentials, reciprocals, roots and conversions share a pipe of a quarter the width",
        ),
        change="take special functions out of the inner loop: exp2 with a scale folded in, a "
        "polynomial on the FMA pipe for a part of the elements, one reciprocal a row",
        metric="pipe_xu",
        factor=0.6,
        query="special function unit polynomial exp2 ex2 emulation",
    ),
    _Roof(
        bottleneck="compute",
        signal="sm_reached",
        because=(
            "the multiprocessors' busiest unit is near its peak",
            "which unit that is was not exported",
        ),
        change="capture the pipes as well (`ncu --set full`), then do fewer of the instructions "
        "that the busiest one executes",
        metric="time_us",
        factor=0.85,
        query="instruction throughput pipe utilisation",
    ),
    _Roof(
        bottleneck="memory_bandwidth",
        signal="memory_reached",
        because=(
            "the memory system's busiest unit is near its peak",
            "which unit that is was not exported, or it is none that another row knows",
        ),
        change="capture the memory tables as well (`ncu --set full`), then move fewer bytes "
        "through the unit that is busiest",
        metric="time_us",
        factor=0.85,
        query="memory throughput hierarchy",
    ),
    _Roof(
        bottleneck="issue_slots",
        signal="issue_reached",
        because=("every scheduler issues nearly every cycle, and no pipe alone is full",),
        change="execute fewer instructions for the same work: wider loads, packed arithmetic, "
        "unrolled loops with hoisted addresses",
        metric="time_us",
        factor=0.85,
        query="instruction count vectorised unroll issue slots",
    ),
)


def _rows(roof: _Roof) -> tuple[DeviceRule, DeviceRule]:
    saturated = Treatment(
        change=roof.change,
        expects=Movement(metric=roof.metric, direction="down", factor=roof.factor),
        validation=_FEWER,
        by_arch=roof.by_arch,
    )
    fuller = Treatment(
        change=roof.when_busy,
        expects=Movement(metric="time_us", direction="down", factor=0.85),
        validation="the unit's share of its peak rises as the time falls",
    )
    return (
        _row(roof, "saturated", 2, _SATURATED, saturated),
        _row(roof, "busy", 4, _BUSY, fuller if roof.when_busy else saturated),
    )


def _row(roof: _Roof, word: str, tier: int, threshold: float, treatment: Treatment) -> DeviceRule:
    return DeviceRule(
        name=f"{roof.bottleneck}_{word}",
        bottleneck=roof.bottleneck,
        tier=tier,
        conditions=(at_least(roof.signal, threshold, _SURE, _SOL), *roof.also),
        because=roof.because,
        others_are_weaker="no other unit is as busy, and stalls are warps in its queue",
        treatment=treatment,
        query=roof.query,
        utilisation=roof.signal,
    )


_SERVED = DeviceRule(
    name="l2_served",
    bottleneck="l2_bandwidth",
    tier=4,
    conditions=(
        at_least("l2_hit_fraction", 0.8, 0.95, _HIT),
        at_least("l2_fraction", 0.4, 0.6, "the path to L2 saturates before the counted units do"),
        at_most("dram_fraction", 0.3, 0.1, _HIT),
        at_least("stall_memory", 0.5, 0.8, "a third of the waiting shows; half is most of it"),
        at_least("occupancy_fraction", 0.5, 0.7, "with fewer warps it is latency, not bandwidth"),
    ),
    because=(
        "warps enough wait for data that L2 holds, and no unit but L2 is busy",
        "what L1, shared memory or registers hold does not reach it",
    ),
    others_are_weaker="DRAM and pipes have time left, and more warps would queue for the same path",
    treatment=Treatment(
        change="keep what is read again on the multiprocessor: a larger tile in shared memory or "
        "registers, so that every byte is asked of L2 once a block",
        expects=Movement(metric="l2_fraction", direction="down", factor=0.8),
        validation=_FEWER,
    ),
    query="l2 bandwidth tile reuse shared memory",
)

ROOF_RULES: tuple[DeviceRule, ...] = (
    *(row for roof in _ROOFS for row in _rows(roof)),
    _SERVED,
)
ROOF_SIGNALS: Mapping[str, str] = {roof.bottleneck: roof.signal for roof in _ROOFS}
"""How near the roof a class is."""
