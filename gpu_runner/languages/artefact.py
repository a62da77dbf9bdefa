"""What a builder gives: an artefact (a read-only directory), or why the candidate cannot be built.

Nouns only; nothing here compiles, and nothing here touches the disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gpu_runner.candidate import Language
from gpu_runner.jobs import Reason

ENTRY_FILES: Mapping[Language, str] = {
    Language.CPP: "kernel.so",
    Language.PYTHON: "candidate.py",
    Language.CUDA: "kernel.cubin",
    Language.TRITON: "kernels.json",
}
"""The file of an artefact that is loaded, by language; for triton it names a cubin a kernel."""
BUILD_FOLDER = "build"
INDUCTOR_FOLDER = "inductor"
REMARKS_FILE = "remarks.txt"
HEADER_FILE = "problem.h"


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A directory in the cache that holds everything a subject needs to load one candidate."""

    path: Path
    """The directory; never written again, except for `writable`."""
    digest: str
    """Identity: problem, candidate, compiler, flags and machine instruction set; sha256."""
    language: Language
    calling: Literal["returning", "destination"]
    compiler: str
    """`g++ 13.3.0`, `python 3.11.4`."""
    log_tail: str
    """Last 8 KiB of what the builder said; warnings of a build that succeeded."""
    seconds: float
    """What the build took when it was made, also when it now comes from the cache."""
    is_cached: bool
    is_trusted: bool = False
    """Made from a baseline of the target, our own code: it may compile while it starts."""
    counters: Mapping[str, float] = field(default_factory=dict)
    """What the compiler counted, by name: `softmax.registers`, `softmax.spill_store_bytes`."""

    @property
    def entry(self) -> Path:
        """The file that is loaded: a shared object, a Python module or a cubin."""
        return self.path / ENTRY_FILES[self.language]

    @property
    def remarks(self) -> Path:
        """What the compiler said of the loops; absent where the language has no such remarks."""
        return self.path / REMARKS_FILE

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables the artefact needs in the process that loads it."""
        if self.language is not Language.PYTHON:
            return {}
        found = {"CAND_BUILD_DIR": str(self.path / BUILD_FOLDER)}
        if self.is_trusted:
            found["TORCHINDUCTOR_CACHE_DIR"] = str(self.path / INDUCTOR_FOLDER)
            found["TORCHINDUCTOR_FX_GRAPH_CACHE"] = "1"
        return found

    @property
    def writable(self) -> tuple[Path, ...]:
        """Folders the process that loads it may write: the compile cache of a trusted baseline."""
        if self.is_trusted and self.language is Language.PYTHON:
            return (self.path / INDUCTOR_FOLDER,)
        return ()


@dataclass(frozen=True, kw_only=True)
class BuildRefused:
    """The candidate cannot be built, and why; its writer's fault."""

    reason: Reason
    message: str
    """One sentence that names the thing and what to do."""
    log_tail: str = ""
    """Last 8 KiB of the compiler's output; paths are relative to the candidate's folder."""
