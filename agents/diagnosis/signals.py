"""Facts of a kernel as the named numbers that rules and predictions speak of. Pure.

A signal that was not measured has no entry. Fractions are of one, times in microseconds.
"""

import math
from collections.abc import Mapping

from gpu_runner.facts import Facts, KernelFacts

Signals = Mapping[str, float]

REACHABLE_DRAM = 0.92
"""The share of the DRAM's peak that reads alone can reach: refreshes take the rest, and turns
between reads and writes more. A copy of 256 MB reached 0.86 on an H200, as captured."""
_ISSUE_BEHIND_PIPES = 0.9
"""A pipe that is full says more than full issue slots, which feed it; so slots rank behind it."""
_SUM_BEHIND_PARTS = 0.85
"""What is the maximum over several units ranks behind each of them."""
_ELIGIBLE = "not_selected"
"""A warp that could have issued waits for no more than its turn."""
_COPIED = (
    "time_us",
    "dram_bytes",
    "dram_fraction",
    "l2_fraction",
    "l1_fraction",
    "sm_fraction",
    "memory_fraction",
    "issue_fraction",
    "occupancy_fraction",
    "occupancy_bound",
    "waves",
    "tail_fraction",
    "active_fraction",
    "balance_fraction",
    "sector_use",
    "load_sectors_per_request",
    "shared_fraction",
    "shared_conflict_share",
    "shared_conflict_ways",
    "local_sector_share",
    "local_instruction_share",
    "spill_request_share",
    "spill_bytes",
    "registers",
    "shared_bytes",
    "thread_fraction",
    "divergent_branch_share",
    "atomic_request_share",
    "atomic_unit_fraction",
    "l1_hit_fraction",
    "l2_hit_fraction",
)
_RANKED = (
    ("sm_fraction", "sm_reached", _SUM_BEHIND_PARTS),
    ("memory_fraction", "memory_reached", _SUM_BEHIND_PARTS),
    ("issue_fraction", "issue_reached", _ISSUE_BEHIND_PIPES),
    ("dram_fraction", "dram_reached", 1 / REACHABLE_DRAM),
)
_MEMORY = ("dram_fraction", "l2_fraction", "l1_fraction", "memory_fraction")
_STALLS = {
    "stall_memory": ("long_scoreboard", "lg_throttle", "tex_throttle"),
    "stall_shared": ("short_scoreboard", "mio_throttle"),
    "stall_sync": ("barrier", "membar", "sleeping"),
    "stall_front_end": ("no_instruction", "imc_miss"),
    "stall_execution": ("wait", "math_pipe_throttle", "dispatch_stall", "branch_resolving"),
    "stall_tensor": ("gmma", "warpgroup_arrive"),
    "stall_atomics": (
        "long_scoreboard",
        "lg_throttle",
        "short_scoreboard",
        "mio_throttle",
        "drain",
        "membar",
    ),
}
"""Reasons that mean the same to whoever reads them, added up."""


def signals(kernel: KernelFacts) -> Signals:
    """Return every signal that the facts of a kernel give."""
    found: dict[str, float] = {}
    for name in _COPIED:
        value = getattr(kernel, name)
        if value is not None and math.isfinite(value):
            found[name] = float(value)
    found |= _stalls(kernel)
    found |= _pipes(kernel)
    found |= _derived(kernel, found)
    return found


def slowest(facts: Facts) -> KernelFacts | None:
    """Return the kernel that takes most of a call's time; the first where no time is known."""
    return max(facts.kernels, key=lambda one: one.time_us or 0.0, default=None)


def facts_signals(facts: Facts) -> Signals:
    """Return the signals of a whole profile: its slowest kernel, roofline and machine code."""
    kernel = slowest(facts)
    found: dict[str, float] = dict(signals(kernel)) if kernel else {}
    times = [one.time_us for one in facts.kernels if one.time_us is not None]
    if times:
        found["time_us"] = sum(times)
    if facts.roofline:
        found["time_us"] = sum(roof.time_us for roof in facts.roofline)
        found["fraction_reached"] = min(roof.fraction_reached for roof in facts.roofline)
    mix = facts.instructions
    if mix is not None:
        found["spills"] = float(mix.spills)
        widths = [int(bits) for bits, count in mix.vector_bits.items() if count]
        found["vector_bits"] = float(max(widths, default=0))
        found["fma_share"] = mix.fma / mix.total if mix.total else 0.0
    elif "spill_bytes" in found:
        found["spills"] = found["spill_bytes"]
    return found


def _stalls(kernel: KernelFacts) -> dict[str, float]:
    waiting = {name: share for name, share in kernel.stalls.items() if name != _ELIGIBLE}
    total = sum(waiting.values())
    if not total:
        return {}
    # Warps that only wait for their turn need nothing: shares are of those that wait for more.
    found = {f"stall_{name}": share / total for name, share in waiting.items()}
    for group, names in _STALLS.items():
        measured = [waiting[name] for name in names if name in waiting]
        if measured:
            found[group] = sum(measured) / total
    found["stall_reasons"] = float(len(waiting))
    return found


def _pipes(kernel: KernelFacts) -> dict[str, float]:
    """Return how busy each kind of arithmetic keeps its pipe.

    One pipe multiplies and adds floats, halves and integers alike; what it was busy with is told by
    the rates of the instructions, and taken for float32 where those were not counted.
    """
    found = {f"pipe_{name}": busy for name, busy in kernel.pipes.items()}
    if kernel.tensor_fraction is not None:
        found.setdefault("pipe_tensor", kernel.tensor_fraction)
    fma = kernel.pipes.get("fma")
    half = kernel.pipes.get("fp16", 0.0)
    integer = kernel.pipes.get("alu", 0.0)
    if fma is not None:
        kinds = {"float32": kernel.float32_fraction, "half": kernel.half_fraction}
        known = {name: min(share, fma) for name, share in kinds.items() if share is not None}
        rest = fma - sum(known.values()) if "float32" in known else 0.0
        used = {"float32": fma, **known, "integer": rest}
        mostly = max(used, key=lambda name: used[name])
        found["pipe_fp32"] = fma if mostly == "float32" else used["float32"]
        half = max(half, fma if mostly == "half" else 0.0)
        integer = max(integer, fma if mostly == "integer" else 0.0)
    if "alu" in kernel.pipes or fma is not None:
        found["pipe_int"] = integer
        found["pipe_half"] = half
    return found


def _derived(kernel: KernelFacts, found: Signals) -> dict[str, float]:
    derived = _busy(kernel, found)
    for whole, part, factor in _RANKED:
        if whole in found:
            derived[part] = found[whole] * factor
    if kernel.grid and kernel.multiprocessors:
        derived["grid_fraction"] = min(1.0, math.prod(kernel.grid) / kernel.multiprocessors)
    if kernel.dram_bytes is not None and kernel.required_bytes:
        derived["excess_bytes"] = kernel.dram_bytes / kernel.required_bytes
    if "shared_fraction" in found and "l1_fraction" in found:
        derived["l1_beside_shared"] = max(0.0, found["l1_fraction"] - found["shared_fraction"])
    return derived


def _busy(kernel: KernelFacts, found: Signals) -> dict[str, float]:
    """Return how busy the busiest unit of memory and of the multiprocessors is."""
    memory = [found[name] for name in _MEMORY if name in found]
    work = [value for name, value in found.items() if name.startswith("pipe_")]
    work += [found[name] for name in ("sm_fraction", "issue_fraction") if name in found]
    derived: dict[str, float] = {}
    if memory:
        derived["memory_busy"] = max(memory)
    if work:
        derived["work_busy"] = max(work)
    if memory or work:
        derived["busiest"] = max(memory + work)
    if memory and work and not kernel.stalls:
        derived["stalls_untold"] = 1.0
    return derived
