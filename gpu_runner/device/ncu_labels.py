"""The details page's labels as metric names. Pure.

The page shows a label and a rounded value; a label means one metric only within its section and for
its unit. Those that have no metric keep section and label, so that nothing is mistaken for another.
Source: the section files that come with the tool, which give label and metric of every row.
"""

_ELAPSED = "avg.pct_of_peak_sustained_elapsed"
_ACTIVE = "avg.pct_of_peak_sustained_active"
_LABELS = {
    ("GPU Speed Of Light Throughput", "DRAM Throughput"): f"gpu__dram_throughput.{_ELAPSED}",
    ("GPU Speed Of Light Throughput", "L2 Cache Throughput"): f"lts__throughput.{_ELAPSED}",
    ("GPU Speed Of Light Throughput", "L1/TEX Cache Throughput"): f"l1tex__throughput.{_ACTIVE}",
    ("GPU Speed Of Light Throughput", "Compute (SM) Throughput"): f"sm__throughput.{_ELAPSED}",
    ("GPU Speed Of Light Throughput", "SM [%]"): f"sm__throughput.{_ELAPSED}",
    ("GPU Speed Of Light Throughput", "Memory Throughput"): (
        f"gpu__compute_memory_throughput.{_ELAPSED}"
    ),
    ("GPU Speed Of Light Throughput", "Duration"): "gpu__time_duration.sum",
    ("GPU Speed Of Light Throughput", "Elapsed Cycles"): "gpc__cycles_elapsed.max",
    ("GPU Speed Of Light Throughput", "SM Active Cycles"): "sm__cycles_active.avg",
    ("GPU Speed Of Light Throughput", "SM Frequency"): "smsp__cycles_elapsed.avg.per_second",
    ("GPU Speed Of Light Throughput", "DRAM Frequency"): "dram__cycles_elapsed.avg.per_second",
    ("Compute Workload Analysis", "Issue Slots Busy"): f"sm__inst_issued.{_ELAPSED}",
    ("Compute Workload Analysis", "SM Busy"): f"sm__instruction_throughput.{_ELAPSED}",
    ("Compute Workload Analysis", "Executed Ipc Active"): "sm__inst_executed.avg.per_cycle_active",
    ("Memory Workload Analysis", "Memory Throughput"): "dram__bytes.sum.per_second",
    ("Memory Workload Analysis", "L1/TEX Hit Rate"): "l1tex__t_sector_hit_rate.pct",
    ("Memory Workload Analysis", "L2 Hit Rate"): "lts__t_sector_hit_rate.pct",
    ("Memory Workload Analysis", "Local Memory Spilling Requests"): (
        "derived__local_spilling_requests"
    ),
    ("Memory Workload Analysis", "Local Memory Spilling Request Overhead"): (
        "derived__local_spilling_requests_pct"
    ),
    ("Scheduler Statistics", "One or More Eligible"): (
        "smsp__issue_active.avg.pct_of_peak_sustained_active"
    ),
    ("Scheduler Statistics", "Eligible Warps Per Scheduler"): (
        "smsp__warps_eligible.avg.per_cycle_active"
    ),
    ("Scheduler Statistics", "Active Warps Per Scheduler"): (
        "smsp__warps_active.avg.per_cycle_active"
    ),
    ("Warp State Statistics", "Warp Cycles Per Issued Instruction"): (
        "smsp__average_warp_latency_per_inst_issued.ratio"
    ),
    ("Warp State Statistics", "Avg. Active Threads Per Warp"): (
        "smsp__thread_inst_executed_per_inst_executed.ratio"
    ),
    ("Warp State Statistics", "Avg. Not Predicated Off Threads Per Warp"): (
        "smsp__thread_inst_executed_pred_on_per_inst_executed.ratio"
    ),
    ("Instruction Statistics", "Executed Instructions"): "smsp__inst_executed.sum",
    ("Launch Statistics", "Block Size"): "launch__block_size",
    ("Launch Statistics", "Grid Size"): "launch__grid_size",
    ("Launch Statistics", "# SMs"): "launch__sm_count",
    ("Launch Statistics", "Threads"): "launch__thread_count",
    ("Launch Statistics", "Waves Per SM"): "launch__waves_per_multiprocessor",
    ("Launch Statistics", "Registers Per Thread"): "launch__registers_per_thread",
    ("Launch Statistics", "Dynamic Shared Memory Per Block"): (
        "launch__shared_mem_per_block_dynamic"
    ),
    ("Launch Statistics", "Static Shared Memory Per Block"): "launch__shared_mem_per_block_static",
    ("Occupancy", "Theoretical Occupancy"): "sm__maximum_warps_per_active_cycle_pct",
    ("Occupancy", "Achieved Occupancy"): f"sm__warps_active.{_ACTIVE}",
    ("Occupancy", "Block Limit SM"): "launch__occupancy_limit_blocks",
    ("Occupancy", "Block Limit Registers"): "launch__occupancy_limit_registers",
    ("Occupancy", "Block Limit Shared Mem"): "launch__occupancy_limit_shared_mem",
    ("Occupancy", "Block Limit Warps"): "launch__occupancy_limit_warps",
    ("Occupancy", "Block Limit Barriers"): "launch__occupancy_limit_barriers",
    ("GPU and Memory Workload Distribution", "Average SM Active Cycles"): "sm__cycles_active.avg",
    ("GPU and Memory Workload Distribution", "Total SM Elapsed Cycles"): "sm__cycles_elapsed.sum",
    ("Source Counters", "Avg. Divergent Branches"): (
        "smsp__sass_branch_targets_threads_divergent.avg"
    ),
}
_RATE = "byte/s"


def metric_of(section: str, label: str, unit: str) -> str:
    """Return the metric that a row of a long table holds.

    Args:
        section: name of the section; empty where the table has none.
        label: a metric's name, or what the details page calls it.
        unit: tells two rows of one label apart.
    """
    if "__" in label:
        return label
    name = _LABELS.get((section, label))
    if name is None:
        return f"{section}/{label}" if section else label
    is_rate = unit.lower().endswith((_RATE, "byte/second"))
    return name if is_rate == name.endswith(".sum.per_second") else f"{section}/{label}"
