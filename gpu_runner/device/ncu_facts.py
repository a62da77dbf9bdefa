"""From the tool's metrics to facts of a kernel, under names that outlive its versions. Pure."""

from gpu_runner.device.ncu_csv import ProfiledLaunch
from gpu_runner.facts import KernelFacts

_ELAPSED = "avg.pct_of_peak_sustained_elapsed"
_ACTIVE = "avg.pct_of_peak_sustained_active"
_FRACTIONS = {
    "dram_fraction": (f"gpu__dram_throughput.{_ELAPSED}", f"dram__throughput.{_ELAPSED}"),
    "l2_fraction": (f"lts__throughput.{_ELAPSED}",),
    "l1_fraction": (f"l1tex__throughput.{_ELAPSED}", f"l1tex__throughput.{_ACTIVE}"),
    "sm_fraction": (f"sm__throughput.{_ELAPSED}",),
    "tensor_fraction": (
        f"sm__pipe_tensor_cycles_active.{_ELAPSED}",
        f"sm__pipe_tensor_cycles_active.{_ACTIVE}",
        f"sm__inst_executed_pipe_tensor.{_ACTIVE}",
    ),
    "occupancy_fraction": (f"sm__warps_active.{_ACTIVE}",),
    "occupancy_bound": ("sm__maximum_warps_per_active_cycle_pct",),
}
"""Field to the metrics that give it, per cent, the newest name first."""
_LIMITS = ("registers", "shared_mem", "warps", "blocks", "barriers")
_STALL_FAMILIES = (
    ("smsp__average_warps_issue_stalled_", "_per_issue_active.ratio"),
    ("smsp__warp_issue_stalled_", "_per_warp_active.pct"),
)
"""Both count warps by what they wait for; the second was the only one before 2023."""
_NO_STALL = frozenset({"selected"})
"""The warp that issues waits for nothing."""


def kernel_facts(launch: ProfiledLaunch, *, workload: str) -> KernelFacts:
    """Return what a launch asked of the device; a metric that is not there leaves None."""
    fractions = {
        field: None if (value := launch.first(*names)) is None else value / 100
        for field, names in _FRACTIONS.items()
    }
    seconds = launch.first("gpu__time_duration.sum", "gpu__time_duration.avg")
    registers = launch.first("launch__registers_per_thread")
    return KernelFacts(
        workload=workload,
        kernel=launch.symbol,
        source="counters",
        time_us=None if seconds is None else seconds * 1e6,
        dram_bytes=_dram_bytes(launch),
        occupancy_limiters=_limiters(launch),
        waves=launch.first("launch__waves_per_multiprocessor"),
        registers=None if registers is None else int(registers),
        shared_bytes=_shared_bytes(launch),
        stalls=_stalls(launch),
        **fractions,
    )


def _dram_bytes(launch: ProfiledLaunch) -> float | None:
    read = launch.first("dram__bytes_read.sum")
    written = launch.first("dram__bytes_write.sum")
    if read is None or written is None:
        return launch.first("dram__bytes.sum")
    return read + written


def _shared_bytes(launch: ProfiledLaunch) -> int | None:
    """Return what the kernel asked for, without what the driver keeps in every block."""
    parts = [launch.first(f"launch__shared_mem_per_block_{kind}") for kind in ("static", "dynamic")]
    known = [part for part in parts if part is not None]
    return round(sum(known)) if known else None


def _limiters(launch: ProfiledLaunch) -> tuple[str, ...]:
    """Return what allows the fewest resident blocks; several where they allow equally few."""
    blocks = {
        name: value
        for name in _LIMITS
        if (value := launch.first(f"launch__occupancy_limit_{name}")) is not None
    }
    least = min(blocks.values(), default=0.0)
    return tuple(name for name, value in blocks.items() if value == least)


def _stalls(launch: ProfiledLaunch) -> dict[str, float]:
    for head, tail in _STALL_FAMILIES:
        found = {
            name.removeprefix(head).removesuffix(tail): value
            for name, value in launch.readings.items()
            if name.startswith(head) and name.endswith(tail) and value > 0
        }
        waiting = {name: value for name, value in found.items() if name not in _NO_STALL}
        total = sum(waiting.values())
        if total:
            ranked = sorted(waiting.items(), key=lambda item: (-item[1], item[0]))
            return {name: value / total for name, value in ranked}
    return {}
