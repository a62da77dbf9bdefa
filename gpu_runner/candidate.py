"""What is measured: a Candidate (sources in a language), and on a GPU its LaunchPlan.

Nouns only. A candidate is data; its identity is the digest of its content.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gpu_runner.expression import names_in
from gpu_runner.message import Message, Name, digest_of

SourcePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_]+([./-][A-Za-z0-9_]+)*$", max_length=128)
]
"""Relative, inside the candidate's own folder."""


class Language(StrEnum):
    """What a candidate is written in; one builder each."""

    CPP = "cpp"
    PYTHON = "python"
    CUDA = "cuda"
    TRITON = "triton"


class Source(Message):
    """One text file of a candidate."""

    path: SourcePath
    text: str = Field(max_length=512 * 1024)


class Launch(Message):
    """One kernel launch; sizes are expressions over the problem's axes."""

    kernel: Name
    grid: tuple[str, str, str]
    block: tuple[str, str, str]
    cluster: tuple[str, str, str] | None = None
    shared_bytes: str = "0"
    """Dynamic shared memory, bytes."""
    arguments: tuple[Name, ...]
    """Tensor, axis, scalar or `workspace` names in the kernel's parameter order."""


class LaunchPlan(Message):
    """The launches of one call, in order, and the shapes they serve."""

    launches: tuple[Launch, ...] = Field(min_length=1)
    workspace_bytes: str = "0"
    guard: str = "1"
    """Condition over axes; where it is 0 the plan does not serve the shape."""

    def axis_names(self) -> set[str]:
        """Return every axis name the plan's expressions use."""
        texts = [self.workspace_bytes, self.guard]
        for launch in self.launches:
            texts += [*launch.grid, *launch.block, *(launch.cluster or ()), launch.shared_bytes]
        return set().union(*(names_in(text) for text in texts))


class Candidate(Message):
    """Sources and how to call them.

    `cpp` defines `extern "C" int kp_run(const struct <problem>_args*)` of the generated
    `problem.h`; `python` defines `run(*inputs, *scalars)` that returns the outputs, or
    `run(*inputs, *scalars, *outputs)` that writes them (`calling="destination"`).
    """

    language: Language
    sources: tuple[Source, ...] = Field(min_length=1)
    calling: Literal["returning", "destination"] = "returning"
    """Python only: whether `run` returns its outputs or writes into given tensors."""
    flags: tuple[str, ...] = ()
    """Extra compiler flags; the builder has the list of allowed ones."""
    plans: tuple[LaunchPlan, ...] = ()
    """GPU languages only: the first plan whose guard holds serves the call."""

    @model_validator(mode="after")
    def _paths_differ(self) -> Self:
        paths = [source.path for source in self.sources]
        if len(set(paths)) != len(paths):
            msg = f"two sources of the candidate have one path: {sorted(paths)}"
            raise ValueError(msg)
        return self

    @property
    def digest(self) -> str:
        """Identity: sha256 of the content."""
        return digest_of(self)


class Contender(Message):
    """A named side of a comparison."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
    """`torch eager`, `incumbent`, `v003`."""
    version: str = "1"
    candidate: Candidate
    is_trusted: bool = False
    """Baselines of the target are our own code: they may compile while they start."""
