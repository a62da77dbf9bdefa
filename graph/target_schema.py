"""What a target YAML says, before it is made concrete for one kind of device. Nouns only.

The schema, as `configs/targets/*.yaml` are written::

    name: softmax                       # the file's stem
    description: ...
    problem:                            # or `definition: FILE`, beside this file: the JSON of a
                                        # flashinfer-bench or SOL-ExecBench definition
      axes:
        - {name: B, kind: var}
        - {name: H, kind: const, value: 4096}
        - {name: H2, kind: expr, expression: H // 2}
      inputs:
        - {name: x, shape: [B, H], dtype: T}       # T is a key of devices.<d>.dtypes
        - {name: scale, shape: [], dtype: float32}
      outputs:
        - {name: y, shape: [B, H], dtype: T}
      scalars: [{name: eps, kind: float, default: 1.0e-6}]
      constraints: ["H % 2 == 0"]
      reference: |                      # Python source: run(*inputs, *scalars) [and bound(...)]
        import numpy as np
        def run(x, scale, eps): ...     # ROUNDOFF_T stands for the unit roundoff of T: 2.0**-24
      array_type: numpy                 # numpy | torch
      tolerance: {relative_units: 4, absolute: 0, rms_factor: 3}
      rules: [{input: scale, role: parameter, low: 0.5, high: 1.5}]
      profiles: [normal, large, ...]    # ProfileName
      library_ops: ["aten::_softmax"]
      flops: "8 * B * H"
    workloads_file: FILE                # optional, JSON lines: workloads of every device, before
                                        # those listed below, which then may be none
    baselines:                          # the first is what the goal and the fallback refer to
      - name: torch eager
        version: "1"                    # default
        calling: returning              # default; or destination
        source: |                       # Python source with run(...)
          import torch
          def run(x, scale, eps): ...
        constants: {MODE: default}      # optional: names bound above the source, so that one text
                                        # (a YAML anchor and its aliases) serves several baselines
        devices: [cpu, cuda]            # default: both
    devices:                            # at least one
      cpu:
        dtypes: {T: float32}
        threads: 1
        languages: [cpp]
        workloads:
          - {name: rows_4096, axes: {B: 4096}, weight: 3, scalars: {eps: 1.0e-5},
             profile: normal, source: where the shape is met}
        hidden:
          - {name: odd_tail, axes: {B: 257}, profile: large}
      cuda:
        dtypes: {T: bfloat16}
        arch: sm_90a                    # optional
        languages: [cuda, triton]
        workloads: [...]
        hidden: [...]
        goal: {speedup: 1.05, against: best}   # optional: instead of the one below
    goal: {speedup: 1.1, against: torch eager, kind: trend}      # optional from here on; `best`:
                                        # whichever baseline the kernel gains least over
    scope: {lanes: 2}
    budget: {rounds: 84, wall_s: 3600}

Unknown keys are errors that name the nearest known one.
"""

from typing import Literal

from pydantic import Field, JsonValue

from gpu_runner.candidate import Language
from gpu_runner.message import Message, Name
from gpu_runner.problem import DType, ProfileName
from graph.target import Budget, Goal

Device = Literal["cpu", "cuda"]


class WorkloadEntry(Message):
    """One row of `workloads` or `hidden`."""

    name: Name
    axes: dict[Name, int]
    scalars: dict[Name, float] = Field(default_factory=dict)
    weight: float = Field(default=1.0, gt=0)
    profile: ProfileName = ProfileName.NORMAL
    source: str = ""


class DeviceEntry(Message):
    """One of `devices`."""

    dtypes: dict[str, DType] = Field(default_factory=dict)
    threads: int = Field(default=1, ge=1)
    arch: str = ""
    languages: tuple[Language, ...] = Field(min_length=1)
    workloads: tuple[WorkloadEntry, ...] = ()
    hidden: tuple[WorkloadEntry, ...] = ()
    goal: Goal | None = None
    """Instead of the document's."""


class BaselineEntry(Message):
    """One of `baselines`."""

    name: str
    version: str = "1"
    calling: Literal["returning", "destination"] = "returning"
    source: str
    constants: dict[Name, bool | int | float | str] = Field(default_factory=dict)
    devices: tuple[Device, ...] = ("cpu", "cuda")

    @property
    def text(self) -> str:
        """The source, below the constants it refers to."""
        bound = "".join(f"{name} = {value!r}\n" for name, value in self.constants.items())
        return bound + self.source


class ScopeEntry(Message):
    """`scope`, as far as it does not depend on the device."""

    lanes: int = Field(default=2, ge=1, le=8)


class TargetDocument(Message):
    """The whole file."""

    name: Name
    description: str = ""
    problem: dict[str, JsonValue] | None = None
    definition: str = ""
    workloads_file: str = ""
    baselines: tuple[BaselineEntry, ...] = Field(min_length=1)
    devices: dict[Device, DeviceEntry] = Field(min_length=1)
    goal: Goal | None = None
    scope: ScopeEntry = ScopeEntry()
    budget: Budget = Budget()


class Overrides(Message):
    """What a run may change of a target: exactly what is no part of what is right or measured."""

    goal: dict[str, JsonValue] = Field(default_factory=dict)
    scope: dict[str, JsonValue] = Field(default_factory=dict)
    budget: dict[str, JsonValue] = Field(default_factory=dict)
    hardware: dict[str, JsonValue] = Field(default_factory=dict)
