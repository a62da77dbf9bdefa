"""Reads a target YAML into a Target for one kind of device, and explains what is wrong with it.

The schema, as `configs/targets/*.yaml` are written::

    name: softmax                       # the file's stem
    description: ...
    problem:                            # or `definition: FILE`, a flashinfer-bench definition
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
        def run(x, scale, eps): ...
      array_type: numpy                 # numpy | torch
      tolerance: {relative_units: 4, absolute: 0, rms_factor: 3}
      rules: [{input: scale, role: parameter, low: 0.5, high: 1.5}]
      profiles: [normal, large, ...]    # ProfileName
      library_ops: ["aten::_softmax"]
      flops: "8 * B * H"
    baselines:                          # the first is what the goal and the fallback refer to
      - name: torch eager
        version: "1"                    # default
        calling: returning              # default; or destination
        source: |                       # Python source with run(...)
          import torch
          def run(x, scale, eps): ...
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
    goal: {speedup: 1.1, against: torch eager, kind: trend}      # optional from here on
    scope: {lanes: 2}
    budget: {rounds: 84, wall_s: 3600}

Unknown keys are errors that name the nearest known one.
"""
