"""Kernels on a GPU as their counters show them: the captured ones, and made-up neighbours."""

from pathlib import Path

from gpu_runner.facts import KernelFacts
from gpu_runner.report import read_kernels

NCU = Path(__file__).parents[2] / "data" / "ncu"
KNOWN = {
    "dram_stream": "dram_bandwidth",
    "smem_bank_conflict": "shared_memory_bank_conflicts",
    "fma_bound": "fp32_pipe",
    "low_occupancy": "low_occupancy",
    "barrier_bound": "barrier_synchronisation",
    "tensor_wmma": "tensor_pipe",
    "tiny": "launch_overhead",
    "spills": "spills",
    "pointer_chase": "memory_latency",
}
"""Kernel to the class that it was written to have."""


def known(page: str = "raw") -> dict[str, KernelFacts]:
    """The captured kernels by name."""
    return {one.kernel: one for one in read_kernels(NCU / "known" / f"{page}.csv")}


def make_kernel(**changes) -> KernelFacts:
    """A kernel of which nothing stands out."""
    values = {
        "workload": "small",
        "kernel": "k",
        "source": "counters",
        "time_us": 100.0,
        "dram_fraction": 0.3,
        "l2_fraction": 0.3,
        "l1_fraction": 0.3,
        "sm_fraction": 0.3,
        "issue_fraction": 0.3,
        "occupancy_fraction": 0.6,
        "occupancy_bound": 1.0,
        "occupancy_limiters": ("warps",),
        "waves": 20.0,
        "tail_fraction": 0.01,
        "active_fraction": 0.97,
        "grid": (4096, 1, 1),
        "block": (256, 1, 1),
        "multiprocessors": 132,
        "sector_use": 1.0,
        "thread_fraction": 1.0,
        "l2_hit_fraction": 0.4,
        "shared_fraction": 0.05,
        "shared_conflict_share": 0.0,
        "local_sector_share": 0.0,
        "atomic_request_share": 0.0,
        "arch": "sm_90",
        "pipes": {"fma": 0.2, "alu": 0.2, "tensor": 0.0, "fp64": 0.0, "xu": 0.0},
        "stalls": {
            "wait": 0.3,
            "long_scoreboard": 0.25,
            "not_selected": 0.2,
            "barrier": 0.1,
            "short_scoreboard": 0.1,
            "no_instruction": 0.05,
        },
    }
    return KernelFacts(**{**values, **changes})


def waiting_for(reason: str, share: float = 0.8) -> dict[str, float]:
    """Stalls of which one stands out."""
    return {reason: share, "wait": (1 - share) / 2, "selected_next": (1 - share) / 2}
