"""What an enclosed process may do. Nouns only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

LayerName = Literal["bubblewrap", "landlock", "seccomp", "cgroup", "rlimits"]


@dataclass(frozen=True, kw_only=True)
class Grants:
    """Everything beyond the system's libraries and the interpreter; nothing is inherited."""

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """The complete environment."""
    memory_bytes: int | None = None
    may_spawn: bool = False
    """Builders may start processes; what holds a candidate may not."""
    descriptors: tuple[int, ...] = ()
    """Kept open, under the same numbers."""
    without: frozenset[LayerName] = frozenset()
    """Layers not to use although they work here: for tests, and for hosts where one misbehaves."""
