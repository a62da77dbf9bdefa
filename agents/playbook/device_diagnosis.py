"""What a profile of a GPU means to the playbook. Pure.

A kernel's counters are judged by `agents.diagnosis`, the one place of rules for them. This table is
for what they do not say: the whole call under its roof, and the compiler's figures where there are
no counters. The figures are thresholds of judgement, not of acceptance.
"""

from agents.contexts import RunView
from agents.diagnosis.device import diagnose_kernel
from agents.diagnosis.signals import slowest
from agents.playbook.diagnosis import (
    UNKNOWN,
    Diagnosis,
    Evidence,
    Rule,
    bound_by,
    diagnose,
    where,
    worst,
)
from agents.replies import Movement
from gpu_runner.facts import Facts, KernelFacts

NEAR_ROOF = 0.93
_TINY_US = 5.0
"""Starting and draining a kernel takes one to two microseconds of so short a call."""
_FEW_SPILLED_BYTES = 16
_IDLE = 0.6
"""A unit busy for a smaller share of the time is not what a kernel waits for."""
_LOW_OCCUPANCY = 0.5


def diagnose_device(facts: Facts, view: RunView) -> Diagnosis:
    """Return what binds a call on a GPU.

    Near the roof nothing else matters; then the slowest kernel's counters speak, as far as they
    name a class; then what compiler and roofline say.
    """
    if _near_roof(facts, view):
        return diagnose(facts, view, DEVICE_RULES)
    kernel = slowest(facts)
    if kernel is None or kernel.source != "counters":
        return diagnose(facts, view, DEVICE_RULES)
    found = diagnose_kernel(kernel)
    if found.bottleneck == "unknown":
        return diagnose(facts, view, DEVICE_RULES)
    rule = Rule(
        bottleneck=found.bottleneck,
        confidence=found.confidence,
        evidence=_near_roof,
        because=found.because,
        expects=found.expects,
        others_are_weaker=found.others_are_weaker,
        query=found.query,
        name=found.rule,
    )
    evidence = tuple(
        f"{kernel.kernel}: {one.signal} {one.value:.3g} ({one.op} {one.threshold:g})"
        for one in found.readings
    )
    return Diagnosis(rule=rule, evidence=evidence)


def _near_roof(facts: Facts, _: RunView) -> Evidence:
    roofs = [roof for roof in facts.roofline if roof.time_us > _TINY_US]
    if not roofs or any(roof.fraction_reached <= NEAR_ROOF for roof in roofs):
        return ()
    return tuple(f"{r.workload}: {r.fraction_reached:.0%} of the roof" for r in roofs)


def _spills(facts: Facts, _: RunView) -> Evidence:
    return tuple(
        f"{kernel.kernel}: {kernel.spill_bytes} bytes spilled beside {kernel.registers} registers"
        for kernel in facts.kernels
        if kernel.spill_bytes is not None and kernel.spill_bytes > _FEW_SPILLED_BYTES
    )


def _overhead(facts: Facts, view: RunView) -> Evidence:
    lowest = worst(facts, view)
    if lowest is None or lowest.bound == "compute" or lowest.time_us > _TINY_US:
        return ()
    return (f"{lowest.workload} takes {lowest.time_us:.3g} us in all", where(lowest))


def _waits(facts: Facts, view: RunView) -> Evidence:
    """Return the kernels that keep neither memory nor arithmetic busy, having few warps."""
    found = [text for kernel in facts.kernels for text in _idle(kernel)]
    return tuple(found) or bound_by("latency")(facts, view)


def _idle(kernel: KernelFacts) -> Evidence:
    occupancy = kernel.occupancy_fraction
    if kernel.dram_fraction is None or kernel.sm_fraction is None or occupancy is None:
        return ()
    busiest = max(kernel.dram_fraction, kernel.sm_fraction, kernel.l2_fraction or 0.0)
    if busiest >= _IDLE or occupancy >= _LOW_OCCUPANCY:
        return ()
    limits = ", ".join(kernel.occupancy_limiters) or "the number of blocks"
    text = (
        f"{kernel.kernel}: memory busy {kernel.dram_fraction:.0%}, multiprocessors "
        f"{kernel.sm_fraction:.0%}, {occupancy:.0%} of the warps resident (limited by {limits})"
    )
    return (text,)


DEVICE_RULES: tuple[Rule, ...] = (
    Rule(
        bottleneck="near_roof",
        confidence=0.9,
        evidence=_near_roof,
        because=(
            "every workload is within 7 % of what memory or arithmetic allow",
            "no edit of this kernel can pay for its risk; effort belongs to dispatch by shape",
        ),
        expects=Movement(metric="fraction_reached", direction="up", factor=1.0),
        others_are_weaker="nothing else can gain more than the 7 % that are left",
        query="dispatch fusion",
    ),
    Rule(
        bottleneck="spills",
        confidence=0.85,
        evidence=_spills,
        because=(
            "a thread keeps more values than it has registers, so they go to local memory",
            "fewer resident threads, fewer values a thread or packed values keep them in registers",
        ),
        expects=Movement(metric="spills", direction="down", factor=0.5),
        others_are_weaker="local memory takes the bandwidth that the data needs",
        query="registers packed resident",
    ),
    Rule(
        bottleneck="launch_overhead",
        confidence=0.6,
        evidence=_overhead,
        because=(
            "the call is over in a few microseconds; starting and one trip to memory weigh most",
            "more threads for each row, fewer barriers and fewer launches shorten the chain",
        ),
        expects=Movement(metric="time_us", direction="down", factor=0.9),
        others_are_weaker="neither ceiling explains the time of so short a call",
        query="few rows launch",
    ),
    Rule(
        bottleneck="latency",
        confidence=0.65,
        evidence=_waits,
        because=(
            "neither memory nor arithmetic is busy, so the warps wait",
            "more bytes on their way at once, or more resident warps, give them something to do",
        ),
        expects=Movement(metric="time_us", direction="down", factor=0.85),
        others_are_weaker="both ceilings are far away",
        query="resident stages unroll",
    ),
    Rule(
        bottleneck="memory_bandwidth",
        confidence=0.8,
        evidence=bound_by("memory"),
        because=(
            "the bytes that must move explain most of the time",
            "what is left are the gaps between rows and how the caches are used",
        ),
        expects=Movement(metric="fraction_reached", direction="up", factor=1.1),
        others_are_weaker="the arithmetic already hides behind the memory traffic",
        query="stores loads cached streaming",
    ),
    Rule(
        bottleneck="compute",
        confidence=0.75,
        evidence=bound_by("compute"),
        because=(
            "the arithmetic that must be done explains most of the time",
            "matrix units, larger tiles and fewer special functions an element reduce it",
        ),
        expects=Movement(metric="fraction_reached", direction="up", factor=1.15),
        others_are_weaker="the data arrives faster than it is worked on",
        query="tile matrix units",
    ),
    UNKNOWN,
)
"""In the order they are asked: what makes the others moot comes first."""
