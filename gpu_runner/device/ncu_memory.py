"""What a launch did to memory: bytes, sectors, conflicts, spills, atomics. Pure."""

from typing import TypedDict

from gpu_runner.device.ncu_csv import ProfiledLaunch
from gpu_runner.device.ncu_metrics import (
    BYTES_PER_SECTOR,
    GLOBAL_INSTRUCTIONS,
    GLOBAL_REQUESTS,
    GLOBAL_SECTORS,
    INSTRUCTIONS,
    L2_ATOMICS,
    LOCAL_INSTRUCTIONS,
    LOCAL_SECTORS,
    SHARED_ATOMICS,
    SHARED_INSTRUCTIONS,
)

_SECTOR_BYTES = 32
_WAVEFRONTS = "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"
_CONFLICTS = "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum"


class MemoryFacts(TypedDict):
    """Fields of `KernelFacts`."""

    dram_bytes: float | None
    dram_read_bytes: float | None
    dram_write_bytes: float | None
    bytes_per_s: float | None
    peak_bytes_per_s: float | None
    load_sectors_per_request: float | None
    store_sectors_per_request: float | None
    sector_use: float | None
    shared_conflict_share: float | None
    shared_conflict_ways: float | None
    local_sector_share: float | None
    local_instruction_share: float | None
    atomic_request_share: float | None


def memory_facts(launch: ProfiledLaunch) -> MemoryFacts:
    """Return them; what was not measured is None."""
    read, written, moved = _dram(launch)
    clock = launch.first("dram__cycles_elapsed.avg.per_second")
    width = launch.first("dram__bytes.sum.peak_sustained")
    share, ways = _conflicts(launch)
    return MemoryFacts(
        dram_bytes=moved,
        dram_read_bytes=read,
        dram_write_bytes=written,
        bytes_per_s=launch.first("dram__bytes.sum.per_second"),
        peak_bytes_per_s=None if clock is None or width is None else clock * width,
        load_sectors_per_request=_sectors_per_request(launch, "ld"),
        store_sectors_per_request=_sectors_per_request(launch, "st"),
        sector_use=_sector_use(launch),
        shared_conflict_share=share,
        shared_conflict_ways=ways,
        local_sector_share=_local_sectors(launch),
        local_instruction_share=_local_instructions(launch),
        atomic_request_share=_atomics(launch),
    )


def _dram(launch: ProfiledLaunch) -> tuple[float | None, float | None, float | None]:
    read, written = (
        launch.first(f"dram__bytes_{kind}.sum", f"dram__bytes_op_{kind}.sum")
        for kind in ("read", "write")
    )
    if read is None or written is None:
        return read, written, launch.first("dram__bytes.sum")
    return read, written, read + written


def _sectors_per_request(launch: ProfiledLaunch, kind: str) -> float | None:
    requests = launch.first(GLOBAL_REQUESTS.format(kind))
    sectors = launch.first(GLOBAL_SECTORS.format(kind))
    return sectors / requests if requests and sectors is not None else None


def _sector_use(launch: ProfiledLaunch) -> float | None:
    """Return ideal over actual sectors; by bytes used of a sector where only that is known."""
    actual = launch.first("memory_l2_theoretical_sectors_global")
    ideal = launch.first("memory_l2_theoretical_sectors_global_ideal")
    if actual and ideal is not None:
        return min(1.0, ideal / actual)
    excess = launch.first("derived__memory_l2_theoretical_sectors_global_excessive")
    if actual and excess is not None:
        return max(0.0, 1 - excess / actual)
    weighted = total = 0.0
    for kind in ("ld", "st"):
        used = launch.first(BYTES_PER_SECTOR.format(kind))
        sectors = launch.first(GLOBAL_SECTORS.format(kind))
        if used and sectors != 0:
            weight = sectors or 1.0
            weighted += min(1.0, used / _SECTOR_BYTES) * weight
            total += weight
    return weighted / total if total else None


def _conflicts(launch: ProfiledLaunch) -> tuple[float | None, float | None]:
    passes = launch.first("memory_l1_wavefronts_shared")
    needed = launch.first("memory_l1_wavefronts_shared_ideal")
    if passes and needed:
        return max(0.0, 1 - needed / passes), max(1.0, passes / needed)
    passes, conflicts = launch.first(_WAVEFRONTS), launch.first(_CONFLICTS)
    if not passes or conflicts is None:
        return None, None
    needed = passes - conflicts
    return min(1.0, conflicts / passes), passes / needed if needed > 0 else None


def _local_sectors(launch: ProfiledLaunch) -> float | None:
    local = _total(launch, *((LOCAL_SECTORS.format(kind),) for kind in ("ld", "st")))
    if local is None:
        return None
    everything = _total(launch, *((GLOBAL_SECTORS.format(kind),) for kind in ("ld", "st")))
    whole = local + (everything or 0.0)
    return local / whole if whole else 0.0


def _local_instructions(launch: ProfiledLaunch) -> float | None:
    kinds = ("ld", "st")
    local = _total(launch, *(tuple(n.format(k) for n in LOCAL_INSTRUCTIONS) for k in kinds))
    if local is None:
        local = launch.first("derived__local_spilling_requests")
    executed = launch.first(*INSTRUCTIONS)
    return local / executed if local is not None and executed else None


def _atomics(launch: ProfiledLaunch) -> float | None:
    """Return the atomics' share of the requests to memory, each request of a warp counted once."""
    outer = _total(launch, *((GLOBAL_REQUESTS.format(kind),) for kind in ("atom", "red")))
    if not outer:
        named = (tuple(n.format(kind) for n in GLOBAL_INSTRUCTIONS) for kind in ("atom", "red"))
        outer = _total(launch, *named) or _total(launch, *((name,) for name in L2_ATOMICS)) or outer
    inner = launch.first(*SHARED_ATOMICS)
    if outer is None and inner is None:
        return None
    atomics = (outer or 0.0) + (inner or 0.0)
    plain = _total(launch, *((GLOBAL_REQUESTS.format(kind),) for kind in ("ld", "st"))) or 0.0
    shared = launch.first(*SHARED_INSTRUCTIONS) or 0.0
    whole = (outer or 0.0) + plain + max(shared, inner or 0.0)
    return min(1.0, atomics / whole) if whole else 0.0


def _total(launch: ProfiledLaunch, *alternatives: tuple[str, ...]) -> float | None:
    """Return the sum of those that are known; each is known under any of its names."""
    known = [value for names in alternatives if (value := launch.first(*names)) is not None]
    return sum(known) if known else None
