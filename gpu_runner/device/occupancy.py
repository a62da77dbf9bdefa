"""How many warps a multiprocessor can hold of a kernel, by arithmetic. Pure.

Source: CUDA C Programming Guide, "Technical Specifications per Compute Capability".
"""

from dataclasses import dataclass

_WARP = 32
_REGISTER_UNIT = 256
"""A warp's registers are given in units of this many."""
_SHARED_UNIT = 128


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one multiprocessor has."""

    registers: int = 65536
    shared_bytes: int = 233472
    warps: int = 64
    blocks: int = 32
    reserved_bytes: int = 1024
    """Shared memory that the driver keeps in every block."""


_LIMITS = {
    "sm_80": Limits(shared_bytes=167936),
    "sm_86": Limits(shared_bytes=102400, warps=48, blocks=16),
    "sm_89": Limits(shared_bytes=102400, warps=48, blocks=24),
}
"""Those that differ from sm_90 and sm_100."""


@dataclass(frozen=True, kw_only=True)
class Occupancy:
    """The most that can be resident."""

    blocks: int
    fraction: float
    """Resident warps of those a multiprocessor can hold."""
    limiters: tuple[str, ...]
    """What allows no more; in the words of `facts.KernelFacts`."""


def occupancy(arch: str, *, threads: int, registers: int, shared_bytes: int) -> Occupancy:
    """Return what a block size, registers a thread and shared memory a block allow.

    Args:
        arch: `sm_90a`; one that is not known counts as sm_90.
        threads: of a block.
        registers: of a thread; 0 where they are not known.
        shared_bytes: of a block, static and dynamic.
    """
    limits = _LIMITS.get(arch, Limits())
    warps = -(-threads // _WARP)
    allowed = {"warps": limits.warps // warps, "blocks": limits.blocks}
    if registers:
        a_warp = -(-registers * _WARP // _REGISTER_UNIT) * _REGISTER_UNIT
        allowed["registers"] = limits.registers // a_warp // warps
    a_block = -(-(shared_bytes + limits.reserved_bytes) // _SHARED_UNIT) * _SHARED_UNIT
    allowed["shared_mem"] = limits.shared_bytes // a_block
    blocks = min(allowed.values())
    return Occupancy(
        blocks=blocks,
        fraction=blocks * warps / limits.warps,
        limiters=tuple(name for name, count in allowed.items() if count == blocks),
    )
