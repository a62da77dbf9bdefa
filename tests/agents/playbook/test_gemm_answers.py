"""Products of matrices in Triton give right answers, executed by Triton's interpreter."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.playbook.catalogue import recipes_of, render
from agents.playbook.device_families import detect_on_device
from gpu_runner.candidate import Argument, Candidate, Language, Value
from gpu_runner.expression import evaluate
from gpu_runner.languages import missing_toolchain
from gpu_runner.problem import DType, Problem
from tests.agents.playbook.device import MACHINE, target_of
from tests.agents.playbook.test_gemm_recipes import halves

pytestmark = pytest.mark.skipif(missing_toolchain(Language.TRITON) is not None, reason="no triton")
ROOT = Path(__file__).parents[3]
Arrays = dict[str, np.ndarray]


def candidate_of(problem: Problem, **changes) -> Candidate:
    match = detect_on_device(problem)
    (recipe,) = recipes_of(match.family, MACHINE, (Language.TRITON,))
    return render(recipe, match, {**recipe.defaults(), **changes})


@dataclass(frozen=True, kw_only=True)
class Case:
    """A product, what it is given, and what is right."""

    candidate: Candidate
    sizes: Mapping[str, int]
    given: Arrays
    right: np.ndarray


def described(case: Case) -> str:
    """Return the launches of the plan that serves the case, with numbers for expressions."""
    plan = next(plan for plan in case.candidate.plans if evaluate(plan.guard, case.sizes))
    launches = [
        {
            "kernel": launch.kernel,
            "grid": [evaluate(text, case.sizes) for text in launch.grid],
            "arguments": [_passed(argument, case.sizes) for argument in launch.arguments],
            "constants": launch.constants,
        }
        for launch in plan.launches
    ]
    words = max(1, evaluate(plan.workspace_bytes, case.sizes) // 4)
    sums = "int32" if any(t.dtype == np.int8 for t in case.given.values()) else "float32"
    return json.dumps({"launches": launches, "workspace_words": words, "sums": sums})


def _passed(argument: Argument, sizes: Mapping[str, int]) -> str | int:
    match argument:
        case Value(value=text):
            return evaluate(text, sizes)
        case str():
            return argument
        case _:
            return "workspace"


def answers(cases: Sequence[Case], folder: Path) -> list[Arrays]:
    """Return the tensors of every case as its kernels leave them; all in one process."""
    folders = [folder / f"case_{number}" for number in range(len(cases))]
    for place, case in zip(folders, cases, strict=True):
        place.mkdir()
        (place / "candidate.py").write_text(case.candidate.sources[0].text)
        saved: dict[str, Any] = {"launches": described(case), **case.given}
        np.savez(place / "case.npz", **saved)
    done = subprocess.run(
        [sys.executable, "-m", "tests.agents.playbook.interpreted", *map(str, folders)],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [dict(np.load(place / "case.npz")) for place in folders]


def quantised(m: int, n: int, k: int) -> tuple[Arrays, np.ndarray]:
    draw = np.random.default_rng(7)
    tensors: Arrays = {
        "a": draw.integers(-127, 128, (m, k), dtype=np.int8),
        "b": draw.integers(-127, 128, (n, k), dtype=np.int8),
        "scale_a": draw.uniform(0.002, 0.02, m).astype(np.float32),
        "scale_b": draw.uniform(0.001, 0.01, n).astype(np.float32),
        "bias": draw.uniform(-0.5, 0.5, n).astype(np.float16),
        "y": np.full((m, n), np.nan, np.float16),
    }
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    sums = wide["a"] @ wide["b"].T
    return tensors, sums * wide["scale_a"][:, None] * wide["scale_b"] + wide["bias"]


QUANTISED: tuple[tuple[tuple[int, int, int], dict[str, str | int]], ...] = (
    ((5, 33, 35), {}),
    ((3, 32, 256), {"few": "64x16x256x4x4"}),
    ((17, 48, 512), {"few": "64x32x128x4x6", "split": 2}),
    ((70, 144, 128), {"many": "64x128x128x4x4"}),
    ((70, 16, 144), {"many": "64x128x128x4x4"}),
)
"""Sizes M, N, K and parameters, such that every plan serves one."""


def test_quantised_products_are_right(tmp_path):
    problem = target_of("int8_scaled_mm").problem
    cases = []
    for sizes, changes in QUANTISED:
        given, right = quantised(*sizes)
        named = dict(zip("MNK", sizes, strict=True))
        candidate = candidate_of(problem, **changes)
        cases.append(Case(candidate=candidate, sizes=named, given=given, right=right))
    served = {described(case) for case in cases}
    assert len(served) == len(cases)
    for case, left in zip(cases, answers(cases, tmp_path), strict=True):
        found = left.pop("y").astype(np.float64)
        np.testing.assert_allclose(found, case.right, rtol=2**-10, atol=2**-12)
        for name, tensor in left.items():
            np.testing.assert_array_equal(tensor, case.given[name])


def erf(z: np.ndarray) -> np.ndarray:
    import torch  # noqa: PLC0415 - numpy has none

    return torch.erf(torch.from_numpy(z)).numpy()


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "def run(x, w, c): return relu(x @ w.T + c)": lambda z: np.maximum(z, 0),
    "def run(x, w, c): return silu(x @ w.T + c)": lambda z: z / (1 + np.exp(-z)),
    "def run(x, w, c): return erf(x @ w.T + c)  # gelu": lambda z: z * (1 + erf(z / 2**0.5)) / 2,
    "def run(x, w, c): return tanh(0.044715 * (x @ w.T + c))  # gelu": lambda z: (
        z / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (z + 0.044715 * z**3)))
    ),
    "def run(x, w, c): return x @ w.T + c": lambda z: z,
}


def test_every_activation_is_right(tmp_path):
    draw = np.random.default_rng(3)
    m, n, k = 20, 32, 128
    given = {
        "x": draw.normal(size=(m, k)).astype(np.float16),
        "w": draw.uniform(-0.2, 0.2, (n, k)).astype(np.float16),
        "c": draw.uniform(-0.5, 0.5, n).astype(np.float16),
        "y": np.full((m, n), np.nan, np.float16),
    }
    wide = {key: tensor.astype(np.float64) for key, tensor in given.items()}
    cases = []
    for reference, activation in ACTIVATIONS.items():
        name = "gelu" if "gelu" in reference else "product"
        problem = halves(reference, dtype=DType.FLOAT16).model_copy(update={"name": name})
        candidate = candidate_of(problem, few="16x64x128x4x4")
        right = activation(wide["x"] @ wide["w"].T + wide["c"])
        sizes = {"M": m, "N": n, "K": k}
        cases.append(Case(candidate=candidate, sizes=sizes, given=given, right=right))
    assert len({case.candidate.digest for case in cases}) == len(ACTIVATIONS)
    for case, left in zip(cases, answers(cases, tmp_path), strict=True):
        found = left["y"].astype(np.float64)
        np.testing.assert_allclose(found, case.right, rtol=2**-9, atol=2**-11)
