"""Which metrics give which fact, under the names of the tool's versions from 2019 to 2026. Data.

The newest name comes first. A rate over elapsed cycles is asked for before one over active cycles:
what a unit did while its multiprocessor had work says nothing of a kernel that leaves most idle.
Sources: the section files that come with the tool, release by release, and reports of our own.
"""

ELAPSED = "pct_of_peak_sustained_elapsed"
ACTIVE = "pct_of_peak_sustained_active"


def peak(*bases: str) -> tuple[str, ...]:
    """Return the names under which the share of a unit's peak is reported."""
    return tuple(
        f"{base}.{form}.{over}"
        for over in (ELAPSED, ACTIVE)
        for base in bases
        for form in ("avg", "sum")
    )


FRACTIONS = {
    "dram_fraction": peak("gpu__dram_throughput", "dram__throughput", "dram__cycles_active"),
    "l2_fraction": peak("lts__throughput"),
    "l1_fraction": peak("l1tex__throughput"),
    "sm_fraction": peak("sm__throughput"),
    "memory_fraction": peak("gpu__compute_memory_throughput"),
    "occupancy_fraction": (f"sm__warps_active.avg.{ACTIVE}", f"sm__warps_active.sum.{ACTIVE}"),
    "occupancy_bound": ("sm__maximum_warps_per_active_cycle_pct",),
    "issue_fraction": (
        f"sm__inst_issued.avg.{ELAPSED}",
        f"smsp__issue_active.avg.{ACTIVE}",
        f"smsp__issue_active.sum.{ACTIVE}",
        f"smsp__inst_issued.avg.{ACTIVE}",
    ),
    "l1_hit_fraction": ("l1tex__t_sector_hit_rate.pct",),
    "l2_hit_fraction": ("lts__t_sector_op_read_hit_rate.pct", "lts__t_sector_hit_rate.pct"),
    "shared_fraction": peak("l1tex__data_pipe_lsu_wavefronts_mem_shared"),
    "atomic_unit_fraction": (
        f"lts__d_atomic_input_cycles_active.max.{ELAPSED}",
        *peak("lts__d_atomic_input_cycles_active"),
    ),
    "spill_request_share": ("derived__local_spilling_requests_pct",),
}
"""Field of the facts to the metrics that give it, per cent."""

PIPES = {
    "fma": ("fma", "fmaheavy"),
    "alu": ("alu",),
    "fp64": ("fp64", "fp64_op_fp64"),
    "tensor": (
        "tensor",
        "tc",
        "tensor_op_hmma",
        "tensor_op_gmma",
        "tensor_op_imma",
        "tensor_op_dmma",
        "tensor_fp",
    ),
    "xu": ("xu",),
    "lsu": ("lsu",),
    "tex": ("tex",),
    "fp16": ("fp16", "fma_type_fp16"),
}
"""Pipe to the tool's names for it; the busiest counts. Integer products use half of `fma` only."""
PIPE_FORMS = ("sm__pipe_{}_cycles_active", "sm__inst_executed_pipe_{}")
TENSOR_KINDS = ("hmma", "gmma", "imma", "dmma", "bmma", "utcmma")

STALL_FAMILIES = (
    ("smsp__average_warps_issue_stalled_", "_per_issue_active.ratio"),
    ("smsp__average_warp_latency_issue_stalled_", ".ratio"),
    ("smsp__warp_issue_stalled_", "_per_warp_active.pct"),
    ("smsp__warp_issue_stalled_", ".sum"),
    ("smsp__warps_issue_stalled_", ".sum"),
    ("smsp__pcsamp_warps_issue_stalled_", ""),
)
"""All count warps by what they wait for: an issue, an instruction, a cycle, a sample."""
STALL_WORDS = {
    "no_instructions": "no_instruction",
    "no_inst": "no_instruction",
    "long_sb": "long_scoreboard",
    "short_sb": "short_scoreboard",
    "lg": "lg_throttle",
    "mio": "mio_throttle",
    "math": "math_pipe_throttle",
    "tex": "tex_throttle",
    "imc": "imc_miss",
    "dispatch": "dispatch_stall",
    "sleep": "sleeping",
}
"""Other names of a reason, in samples and in the source page."""

GLOBAL_REQUESTS = "l1tex__t_requests_pipe_lsu_mem_global_op_{}.sum"
GLOBAL_SECTORS = "l1tex__t_sectors_pipe_lsu_mem_global_op_{}.sum"
GLOBAL_INSTRUCTIONS = (
    "smsp__sass_inst_executed_op_global_{}.sum",
    "smsp__inst_executed_op_global_{}.sum",
)
LOCAL_INSTRUCTIONS = (
    "smsp__sass_inst_executed_op_local_{}.sum",
    "smsp__inst_executed_op_local_{}.sum",
)
LOCAL_SECTORS = "l1tex__t_sectors_pipe_lsu_mem_local_op_{}.sum"
SHARED_ATOMICS = (
    "smsp__inst_executed_op_shared_atom.sum",
    "smsp__sass_inst_executed_op_shared_atom.sum",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_atom.sum",
)
SHARED_INSTRUCTIONS = (
    "smsp__sass_inst_executed_op_shared.sum",
    "smsp__inst_executed_op_shared.sum",
)
L2_ATOMICS = ("lts__t_requests_srcunit_tex_op_atom.sum", "lts__t_requests_srcunit_tex_op_red.sum")
INSTRUCTIONS = ("smsp__inst_executed.sum", "sm__inst_executed.sum", "inst_executed")
BYTES_PER_SECTOR = "smsp__sass_average_data_bytes_per_sector_mem_global_op_{}.ratio"
