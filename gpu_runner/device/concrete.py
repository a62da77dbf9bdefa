"""A launch plan for one workload: numbers instead of expressions. Nouns only, no CUDA.

This is all that a launcher is told. Pointers stay names and offsets, because the addresses exist in
the launcher's process alone.
"""

from dataclasses import dataclass

from gpu_runner.problem import DType

Extents = tuple[int, int, int]
"""x, y, z."""


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """The address of a tensor's first element; a multiple of 16 at least."""

    tensor: str


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """An address in the plan's workspace, whose base is a multiple of 256."""

    offset: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """A number passed by value: 4 or 8 bytes, little-endian, as the parameter is declared."""

    bytes: bytes


@dataclass(frozen=True, kw_only=True)
class Map:
    """A tiled tensor map over a tensor seen as a row-major matrix; encoded by the launcher."""

    tensor: str
    rows: int
    columns: int
    box: tuple[int, int]
    """Rows and columns of one copy."""
    item_bytes: int
    dtype: DType
    swizzle: str
    """`none`, `32B`, `64B` or `128B`."""
    l2_promotion: str
    """`none`, `64B`, `128B` or `256B`."""


ConcreteArgument = Pointer | Scratch | Word | Map


@dataclass(frozen=True, kw_only=True)
class ConcreteLaunch:
    """One kernel launch, ready for `cuLaunchKernelEx`."""

    kernel: str
    """As the plan names it; for messages."""
    entry: str
    """File name of the cubin inside the artefact."""
    symbol: str
    grid: Extents
    """In blocks, also where there is a cluster."""
    block: Extents
    cluster: Extents | None
    """In blocks; more than 8 of them need the attribute for non-portable cluster sizes."""
    shared_bytes: int
    """Dynamic shared memory; above 48 KiB the function must be told first."""
    arguments: tuple[ConcreteArgument, ...]
    """One for each parameter of the compiled kernel, also for those its compiler has added."""


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """The launches of one call, in order."""

    plan: int
    """Index of the plan that serves the workload."""
    launches: tuple[ConcreteLaunch, ...]
    workspace_bytes: int
    """What the launcher has to own for `Scratch`; 0 where nothing points into it."""
