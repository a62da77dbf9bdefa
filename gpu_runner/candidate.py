"""What is measured: a Candidate (sources in a language), and on a GPU its LaunchPlan.

Nouns only. A candidate is data; its identity is the digest of its content.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

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


DEVICE_LANGUAGES = frozenset({Language.CUDA, Language.TRITON})
"""Candidates in these are cubins and launch plans."""


class Source(Message):
    """One text file of a candidate."""

    path: SourcePath
    text: str = Field(max_length=512 * 1024)


class Value(Message):
    """A number passed by value: an expression over axes, or a scalar of the problem."""

    value: str
    """`ceil_div(N, 8)`, or the name of a scalar."""
    type: Literal["i32", "i64", "f32", "f64"]
    """How the kernel's parameter is declared; a float type takes a scalar only."""
    divisible: Literal[1, 16] = 1
    """Triton only: compile for multiples of this; the plan must hold elsewhere too, or guard it."""


class Slice(Message):
    """A pointer into the plan's workspace."""

    workspace: str
    """Offset in bytes, an expression over axes; a multiple of 16."""


class TensorMap(Message):
    """A tiled tensor map for the bulk copy engine, passed as a `__grid_constant__ CUtensorMap`.

    The tensor is seen as a row-major matrix [rows, columns], by default its leading axes together
    and its last one.
    """

    tensor: Name
    box: tuple[str, str]
    """Rows and columns of one copy, elements; at most 256 each."""
    rows: str = ""
    columns: str = ""
    swizzle: Literal["none", "32B", "64B", "128B"] = "none"
    l2_promotion: Literal["none", "64B", "128B", "256B"] = "none"


Argument = Name | Value | Slice | TensorMap
"""A bare name is a tensor (a pointer), an axis (int64), a scalar (double or int64) or `workspace`
(a pointer to its first byte)."""
Constant = bool | int | float | str


class Launch(Message):
    """One kernel launch; sizes are expressions over the problem's axes."""

    kernel: Name
    grid: tuple[str, str, str]
    block: tuple[str, str, str]
    cluster: tuple[str, str, str] | None = None
    shared_bytes: str = "0"
    """Dynamic shared memory, bytes; of a triton kernel the compiler knows it."""
    arguments: tuple[Argument, ...]
    """In the kernel's parameter order."""
    constants: dict[Name, Constant] = Field(default_factory=dict)
    """Triton only: values of `tl.constexpr` parameters, instead of their defaults."""
    stages: int | None = Field(default=None, ge=1, le=12)
    """Triton only: `num_stages`."""

    def texts(self) -> dict[str, str]:
        """Return every expression by the field it stands in: `grid[0]`, `arguments[3].value`."""
        extents = {"grid": self.grid, "block": self.block, "cluster": self.cluster or ()}
        found = {f"{k}[{i}]": text for k, texts in extents.items() for i, text in enumerate(texts)}
        found["shared_bytes"] = self.shared_bytes
        for index, argument in enumerate(self.arguments):
            where = f"arguments[{index}]"
            match argument:
                case Value(value=text):
                    found[f"{where}.value"] = text
                case Slice(workspace=text):
                    found[f"{where}.workspace"] = text
                case TensorMap(box=box, rows=rows, columns=columns):
                    found |= {f"{where}.box[{i}]": text for i, text in enumerate(box)}
                    found |= {f"{where}.rows": rows} if rows else {}
                    found |= {f"{where}.columns": columns} if columns else {}
                case _:
                    pass
        return found


class LaunchPlan(Message):
    """The launches of one call, in order, and the shapes they serve."""

    launches: tuple[Launch, ...] = Field(min_length=1, max_length=16)
    workspace_bytes: str = "0"
    guard: str = "1"
    """Condition over axes; where it is 0 the plan does not serve the shape."""


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
