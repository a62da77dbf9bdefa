"""`kernels.json` of an artefact: what the compiler made of every launch of every plan.

Written by the builders of GPU languages, read when a plan is lowered. Nothing here knows CUDA.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from gpu_runner.errors import RunnerError
from gpu_runner.message import Message

INDEX_FILE = "kernels.json"
_PARAMETER = re.compile(r"^[busf](8|16|32|64|128)(?:\[(\d+)\])?$")


class CompiledKernel(Message):
    """One compiled entry function."""

    cubin: str
    """File name inside the artefact."""
    symbol: str
    """Name of the function in the cubin."""
    shared_bytes: int = Field(ge=0)
    """Shared memory of a block as far as the compiler knows it."""
    is_dynamic_shared: bool
    """Whether `shared_bytes` must be asked for at the launch (triton) or is static (CUDA C++)."""
    parameters: tuple[str, ...]
    """Types of all parameters in PTX's words: `u64`, `f32`, `b8[128]` for 128 bytes by value."""
    hidden: int = Field(default=0, ge=0)
    """How many of them, the last ones, the compiler has added: pointers that may be null."""
    registers: int = Field(default=0, ge=0)
    """A thread's registers; 0 where the compiler did not say."""
    scratch_bytes: int = Field(default=0, ge=0)
    """Global memory a block needs for itself, behind the first hidden parameter (triton)."""
    threads: int = Field(default=0, ge=0)
    """Threads of a block where the compiler fixed them (triton); 0 where the launch chooses."""
    most_threads: int = Field(default=1024, ge=1)
    """The launch bound the source declares."""


KernelIndex = Mapping[str, CompiledKernel]
"""Kernels by `index_key`."""

_INDEX = TypeAdapter(dict[str, CompiledKernel])


def index_key(plan: int, launch: int) -> str:
    """Return the name of a launch: `0.1` is the second launch of the first plan."""
    return f"{plan}.{launch}"


def parameter_bytes(parameter: str) -> int:
    """Return the size of a parameter from its PTX type.

    Raises:
        ValueError: this is no PTX type.
    """
    match = _PARAMETER.match(parameter)
    if match is None:
        raise ValueError(f"{parameter!r} is no type of a kernel parameter")
    return int(match[1]) // 8 * int(match[2] or 1)


def read_index(artefact_path: Path) -> KernelIndex:
    """Return the index of an artefact.

    Raises:
        RunnerError: there is none, or it is damaged.
    """
    path = artefact_path / INDEX_FILE
    try:
        return _INDEX.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunnerError(
            f"{path} is no kernel index; delete the artefact and build it again"
        ) from error


def write_index(folder: Path, index: KernelIndex) -> None:
    """Write `kernels.json` into an artefact that is being made."""
    (folder / INDEX_FILE).write_bytes(_INDEX.dump_json(dict(index), indent=1))
