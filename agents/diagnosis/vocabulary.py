"""The words for what binds a kernel, fine and coarse. Nouns only.

A coarse class is what can be said without counters; a fine one belongs to exactly one of them, and
what treats the coarse one is tried where nothing is known for the fine one.
"""

from collections.abc import Mapping
from typing import Literal, get_args

Bottleneck = Literal[
    "memory_bandwidth",
    "compute",
    "not_vectorised",
    "calls_in_loop",
    "division",
    "spills",
    "latency",
    "launch_overhead",
    "near_roof",
    "unknown",
    "dram_bandwidth",
    "uncoalesced_access",
    "excess_traffic",
    "l2_bandwidth",
    "l1_bandwidth",
    "shared_memory_bank_conflicts",
    "shared_memory_bandwidth",
    "fp32_pipe",
    "fp64_pipe",
    "fp16_pipe",
    "int_pipe",
    "special_function_pipe",
    "tensor_pipe",
    "issue_slots",
    "low_occupancy",
    "small_grid",
    "memory_latency",
    "shared_memory_latency",
    "execution_latency",
    "barrier_synchronisation",
    "atomics",
    "divergence",
    "tail",
    "instruction_fetch",
]
"""`tail` includes the quantisation of waves; `instruction_fetch` the constants beside the code."""

COARSE: Mapping[str, Bottleneck] = {
    "dram_bandwidth": "memory_bandwidth",
    "uncoalesced_access": "memory_bandwidth",
    "excess_traffic": "memory_bandwidth",
    "l2_bandwidth": "memory_bandwidth",
    "l1_bandwidth": "memory_bandwidth",
    "shared_memory_bank_conflicts": "memory_bandwidth",
    "shared_memory_bandwidth": "memory_bandwidth",
    "fp32_pipe": "compute",
    "fp64_pipe": "compute",
    "fp16_pipe": "compute",
    "int_pipe": "compute",
    "special_function_pipe": "compute",
    "tensor_pipe": "compute",
    "issue_slots": "compute",
    "low_occupancy": "latency",
    "small_grid": "latency",
    "memory_latency": "latency",
    "shared_memory_latency": "latency",
    "execution_latency": "latency",
    "barrier_synchronisation": "latency",
    "atomics": "latency",
    "divergence": "compute",
    "tail": "latency",
    "instruction_fetch": "latency",
}

LABELS: Mapping[str, str] = {
    "memory_bandwidth": "bound by memory traffic",
    "compute": "bound by arithmetic",
    "not_vectorised": "arithmetic is not vectorised",
    "calls_in_loop": "calls from inside a loop",
    "division": "bound by the divider",
    "spills": "register spills to local memory",
    "latency": "latency-bound",
    "launch_overhead": "launch/latency-bound: too short to tune",
    "near_roof": "near the roof",
    "unknown": "not explained by what was measured",
    "dram_bandwidth": "DRAM-bound",
    "uncoalesced_access": "memory-bound with wasted bytes: uncoalesced access",
    "excess_traffic": "DRAM-bound with wasted bytes: data are moved more than once",
    "l2_bandwidth": "L2-bound",
    "l1_bandwidth": "L1/load-store-bound",
    "shared_memory_bank_conflicts": "shared-memory bound: bank conflicts",
    "shared_memory_bandwidth": "shared-memory bound: bandwidth",
    "fp32_pipe": "FP32-pipe bound",
    "fp64_pipe": "FP64-pipe bound",
    "fp16_pipe": "FP16-pipe bound",
    "int_pipe": "integer-pipe bound",
    "special_function_pipe": "special-function-pipe bound",
    "tensor_pipe": "tensor-pipe bound",
    "issue_slots": "bound by issue slots",
    "low_occupancy": "latency-bound by occupancy",
    "small_grid": "latency-bound by a grid that leaves multiprocessors idle",
    "memory_latency": "memory-latency-bound",
    "shared_memory_latency": "shared-memory-latency-bound",
    "execution_latency": "latency-bound by dependent instructions",
    "barrier_synchronisation": "synchronisation-bound",
    "atomics": "bound by atomics",
    "divergence": "bound by divergent warps",
    "tail": "tail-bound: wave quantisation or uneven blocks",
    "instruction_fetch": "front-end-bound: instruction fetch",
}
"""For people; every class has one."""

ROOFS: frozenset[str] = frozenset(
    {
        "memory_bandwidth",
        "compute",
        "dram_bandwidth",
        "l2_bandwidth",
        "l1_bandwidth",
        "shared_memory_bandwidth",
        "fp32_pipe",
        "fp64_pipe",
        "fp16_pipe",
        "int_pipe",
        "special_function_pipe",
        "tensor_pipe",
        "issue_slots",
    }
)
"""A unit does useful work nearly all the time: close to its peak there is no cheap edit left."""

CLASSES: tuple[str, ...] = get_args(Bottleneck)


def coarse(bottleneck: str) -> str:
    """Return the coarse class of a fine one; a coarse one is its own."""
    return COARSE.get(bottleneck, bottleneck)
