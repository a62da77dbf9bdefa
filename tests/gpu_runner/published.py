"""Definitions and workloads as they are published, for tests of their readers."""

import json
from typing import Any

import numpy as np
import pytest

from gpu_runner.definitions import (
    parse_definition,
    parse_workload,
)
from gpu_runner.errors import DefinitionError
from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import numpy_dtype
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import Problem, Workload

RMSNORM: dict[str, Any] = {
    "name": "rmsnorm_h8",
    "op_type": "rmsnorm",
    "description": "Root mean square normalisation.",
    "tags": ["status:verified", "model:some_model"],
    "axes": {
        "batch_size": {"type": "var", "description": "Tokens."},
        "hidden_size": {"type": "const", "value": 8},
    },
    "inputs": {
        "hidden_states": {"shape": ["batch_size", "hidden_size"], "dtype": "float32"},
        "eps": {"shape": None, "dtype": "float32", "description": "Keeps from dividing by zero."},
        "weight": {"shape": ["hidden_size"], "dtype": "float32", "description": "Gain."},
    },
    "outputs": {"output": {"shape": ["batch_size", "hidden_size"], "dtype": "float32"}},
    "constraints": ["batch_size >= 1"],
    "reference": (
        "import torch\n\n\ndef run(hidden_states, eps, weight):\n"
        "    x = hidden_states\n"
        "    scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)\n"
        "    return x * scale * weight\n"
    ),
}
TRACE: dict[str, Any] = {
    "definition": "rmsnorm_h8",
    "workload": {
        "uuid": "6120f144-b973-4bd9-b884-77ecb132914e",
        "axes": {"batch_size": 3},
        "inputs": {
            "hidden_states": {"type": "random"},
            "weight": {"type": "random"},
            "eps": {"type": "scalar", "value": 1e-6},
        },
    },
    "solution": None,
    "evaluation": None,
}
SPLIT_HEADS: dict[str, Any] = {
    "name": "split_heads",
    "axes": {
        "B": {"type": "var"},
        "S": {"type": "var"},
        "D": {"type": "const", "value": 16},
        "H": {"type": "const", "value": 4},
        "E": {"type": "expr", "expression": "D / H", "description": "Per head."},
    },
    "inputs": {"x": {"shape": ["B", "S", "D"], "dtype": "float16"}},
    "outputs": {"y": {"shape": ["B", "H", "S", "E"], "dtype": "float16"}},
    "reference": (
        "def run(x):\n    b, s, _ = x.shape\n    return (x.view(b, s, 4, 4).transpose(1, 2),)\n"
    ),
}


def rmsnorm(**changes) -> Problem:
    return parse_definition({**RMSNORM, **changes}, source="rmsnorm.json")


def complaint(definition: object) -> str:
    with pytest.raises(DefinitionError) as caught:
        parse_definition(definition, source="k.json")
    return str(caught.value)


def workload_complaint(workload: object, problem: Problem | None = None) -> str:
    with pytest.raises(DefinitionError) as caught:
        parse_workload(workload, problem or rmsnorm(), source="w.jsonl:3")
    return str(caught.value)


def changed(path: str, value: object) -> dict[str, Any]:
    """The definition with one value replaced, or removed where the value is `...`."""
    definition = json.loads(json.dumps(RMSNORM))
    *parents, last = path.split(".")
    place = definition
    for name in parents:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return dict(definition)


Arrays = dict[str, np.ndarray]


def answer(problem: Problem, workload: Workload) -> tuple[Arrays, Arrays]:
    inputs = {
        t.name: np.empty(problem.shape(t, workload), numpy_dtype(t.dtype)) for t in problem.inputs
    }
    Contents(problem, workload, bytes(16)).fill(inputs, call=0)
    return inputs, Oracle(problem).expected(workload, inputs).outputs
