"""Problems, tensors and questions that several tests of the device's oracle need."""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from gpu_runner.device.torch_compare import DeviceExpected
from gpu_runner.device.torch_contents import DeviceContents
from gpu_runner.device.torch_elements import from_raw, to_raw, torch_dtype
from gpu_runner.device.torch_oracle import TorchOracle
from gpu_runner.oracle.reference import Expected
from gpu_runner.problem import DType, Problem, ProfileName, Workload
from graph.target import Target
from graph.targets import load_target
from tests.builders import make_workload
from tests.gpu_runner.oracle.drawn import KEY, one_input

TARGETS = (
    "gelu_tanh",
    "gemm_bias_act",
    "int8_scaled_mm",
    "layernorm",
    "rmsnorm",
    "rope",
    "silu_and_mul",
    "softmax",
)
MOST_ELEMENTS = 1 << 17


@cache
def target(name: str) -> Target:
    """A shipped target as it is on a GPU."""
    return load_target(name, "cuda")


def small_workloads(name: str) -> tuple[Workload, ...]:
    """The target's own workloads that a CPU answers at once."""
    problem = target(name).problem
    return tuple(
        w
        for w in target(name).workloads
        if sum(math.prod(problem.shape(t, w)) for t in (*problem.inputs, *problem.outputs))
        <= MOST_ELEMENTS
        and problem.required_flops(w) < 2e7
    )


def tensors_of(
    problem: Problem, workload: Workload, *, slots: int | None = None
) -> dict[str, Tensor]:
    """Empty inputs by name, or stacked ones."""
    lead = () if slots is None else (slots,)
    return {
        t.name: torch.zeros((*lead, *problem.shape(t, workload)), dtype=torch_dtype(t.dtype))
        for t in problem.inputs
    }


def strided(
    problem: Problem, workload: Workload, slots: int, *, gap: int = 64
) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Stacked inputs whose slots are apart, as in one slab; and the slots as mappings."""
    stacked = {}
    for tensor in problem.inputs:
        shape = problem.shape(tensor, workload)
        size = math.prod(shape)
        slab = torch.zeros(slots * (size + gap), dtype=torch_dtype(tensor.dtype))
        inner = torch.empty(shape).stride()
        stacked[tensor.name] = slab.as_strided((slots, *shape), (size + gap, *inner))
    return stacked, [{n: v[slot] for n, v in stacked.items()} for slot in range(slots)]


def filled(
    problem: Problem,
    workload: Workload,
    *,
    call: int = 0,
    profile: ProfileName | None = None,
    key: bytes = KEY,
) -> dict[str, Tensor]:
    into = tensors_of(problem, workload)
    DeviceContents(problem, workload, key, "cpu").fill(into, call=call, profile=profile)
    return into


def near(problem, workload, source, *, call: int) -> dict[str, Tensor]:
    into = tensors_of(problem, workload)
    DeviceContents(problem, workload, KEY, "cpu").perturb(source, into, call=call)
    return into


def oracle_of(problem: Problem, **changes) -> TorchOracle:
    return TorchOracle(problem, "cpu", KEY, **changes)


def raw_of(problem: Problem, values) -> dict[str, np.ndarray]:
    """Tensors of inputs or outputs as the host's raw arrays."""
    types = {t.name: t.dtype for t in (*problem.inputs, *problem.outputs)}
    return {name: to_raw(one, types[name]) for name, one in values.items()}


def tensor_of(raw: np.ndarray, dtype: DType) -> Tensor:
    return from_raw(raw, dtype, "cpu")


def on_device(expected: Expected) -> DeviceExpected:
    """The host's expectation as the device's."""
    return DeviceExpected(
        outputs={n: torch.from_numpy(v.copy()) for n, v in expected.outputs.items()},
        bounds={n: torch.from_numpy(v.copy()) for n, v in expected.bounds.items()},
    )


def plain_problem(reference: str, dtype: DType = DType.FLOAT32, **changes) -> Problem:
    return one_input(dtype, reference=reference, **changes)


def wide_workload(rows: int = 64, length: int = 96, **changes) -> Workload:
    return make_workload(axes={"B": rows, "N": length}, **changes)
