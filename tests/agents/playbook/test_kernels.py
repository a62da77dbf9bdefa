"""Every recipe, compiled and run: right on odd shapes, at memory's edge, with NaN, in threads."""

import platform
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agents.playbook.catalogue import Recipe, recipes_of, render
from agents.playbook.families import detect
from gpu_runner.problem import Problem, ProfileName, Workload
from graph.targets import load_target
from tests.agents.builders import problem_of
from tests.agents.playbook.device import ON_CPU
from tests.agents.playbook.kernels import Kernel, compiled, contents, worst_error

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="recipes use x86 intrinsics"),
]


def machine_isa() -> tuple[str, ...]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return tuple(line.partition(":")[2].split())
    return ()


@cache
def problem(target: str) -> Problem:
    return load_target(target).problem


@cache
def shapes(target: str) -> tuple[Workload, ...]:
    """Hidden shapes that are small enough for an unoptimised kernel."""
    found = load_target(target)
    return tuple(w for w in found.hidden if found.problem.required_bytes(w) < 400_000)


FAR = {("softmax", "three_pass"), ("silu_and_mul", "vector"), ("gemm_bias_act", "tiles")}
"""Recipes whose last, least likely values are compiled as well; each costs a second."""

CASES = [
    pytest.param(target, recipe, which, id=f"{target}-{recipe.name}-{which}")
    for target in ON_CPU
    for recipe in recipes_of(detect(problem(target)).family, machine_isa())
    for which in (("best", "last") if (target, recipe.name) in FAR else ("best",))
]


def kernel_of(target: str, recipe: Recipe, which: str, folder: Path, threads: int = 1) -> Kernel:
    parameters = {c.name: c.values[0 if which == "best" else -1] for c in recipe.choices}
    candidate = render(recipe, detect(problem(target)), parameters)
    return compiled(problem(target), candidate.sources[0].text, folder, threads=threads)


@pytest.mark.parametrize(("target", "recipe", "which"), CASES)
def test_every_recipe_is_right_on_every_hidden_shape(target, recipe, which, tmp_path):
    given = problem(target)
    kernel = kernel_of(target, recipe, which, tmp_path)
    for number, workload in enumerate(shapes(target)):
        for profile in dict.fromkeys(
            (workload.profile, given.profiles[number % len(given.profiles)])
        ):
            inputs = contents(given, workload, profile.value, number)
            error = worst_error(given, workload, inputs, kernel(workload, inputs))
            assert error <= 0.6, f"{workload.name}/{profile}: {error:.3g} of the bound"


@pytest.mark.parametrize("target", ["gelu_tanh", "gemm_bias_act"])
def test_threads_change_no_bit(target, tmp_path):
    recipe = recipes_of(detect(problem(target)).family, machine_isa())[1]
    alone = kernel_of(target, recipe, "best", tmp_path)
    (tmp_path / "crew").mkdir()
    crew = kernel_of(target, recipe, "best", tmp_path / "crew", threads=3)
    for workload in shapes(target)[-6:]:
        inputs = contents(problem(target), workload, "normal", 5)
        one, three = alone(workload, inputs), crew(workload, inputs)
        assert all(np.array_equal(one[name], three[name]) for name in one)


@pytest.mark.parametrize("rows", [1, 33])
def test_the_other_layout_of_a_weight_is_right(rows, tmp_path):
    reference = (
        "import numpy as np\n"
        "def run(x, w):\n    return np.maximum(x @ w, 0)\n"
        "def bound(x, w, expected):\n"
        "    return 2.0**-24 * (8 + 2 * x.shape[1] ** 0.5) * (abs(x) @ abs(w)) + 1e-37\n"
    )
    given = problem_of("gemm_relu", {"x": "M K", "w": "K N"}, {"y": "M N"}, reference=reference)
    recipe = recipes_of("gemm", machine_isa())[1]
    text = render(recipe, detect(given), recipe.defaults()).sources[0].text
    kernel = compiled(given, text, tmp_path)
    for columns in (1, 11, 12, 13, 40):
        workload = Workload(name="w", axes={"M": rows, "N": columns, "K": 37})
        inputs = contents(given, workload, "normal", columns)
        assert worst_error(given, workload, inputs, kernel(workload, inputs)) <= 0.6


def test_a_row_without_one_finite_logit_is_nan_and_alone(tmp_path):
    recipe = recipes_of("softmax", machine_isa())[1]
    kernel = kernel_of("softmax", recipe, "best", tmp_path)
    workload = Workload(name="w", axes={"B": 3, "N": 37}, profile=ProfileName.NORMAL)
    x = contents(problem("softmax"), workload, "normal", 1)["x"]
    x[0] = -np.inf
    x[1, 20] = np.inf
    y = kernel(workload, {"x": x})["y"]
    assert np.isnan(y[0]).all()
    assert np.isnan(y[1]).all()
    np.testing.assert_allclose(y[2].sum(dtype=np.float64), 1, rtol=1e-6)
