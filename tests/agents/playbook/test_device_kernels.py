"""Every recipe for a GPU compiles for sm_90a, without one, and its plans lower to what it compiled.

Defaults of every target, then each other value of every parameter for one family of each engine.
"""

from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from agents.playbook.catalogue import Recipe, render
from agents.playbook.families import Match
from gpu_runner.candidate import Language
from gpu_runner.device.kernel_index import read_index
from gpu_runner.device.lowered import lower
from gpu_runner.languages import Artefact, build, missing_toolchain
from gpu_runner.problem import DType, Problem
from tests.agents.playbook.device import ROWS, match_of, recipe_named, recipes_for, target_of

CUDA, TRITON = Language.CUDA, Language.TRITON
needs_cuda = pytest.mark.skipif(missing_toolchain(CUDA) is not None, reason="no CUDA compiler")
needs_triton = pytest.mark.skipif(missing_toolchain(TRITON) is not None, reason="no triton")
ENGINES = (("layernorm", "registers"), ("quantize_per_token", "pipeline"), ("rope", "vectors"))
SPILLS = "spill_store_bytes"


def recipes_in(language: Language) -> list[ParameterSet]:
    return [
        pytest.param(name, recipe, id=f"{name}-{recipe.name}")
        for name in ROWS
        for recipe in recipes_for(name)
        if recipe.language is language
    ]


def variants() -> list[ParameterSet]:
    """The second and the last value of every parameter; tuning compiles the others."""
    found = []
    for name, recipe_name in ENGINES:
        recipe = recipe_named(name, recipe_name)
        longest = max(len(choice.values) for choice in recipe.choices)
        for place in sorted({1, longest - 1}):
            parameters = {c.name: c.values[place % len(c.values)] for c in recipe.choices}
            found.append(pytest.param(name, recipe, parameters, id=f"{name}-{recipe_name}-{place}"))
    return found


def built(problem: Problem, match: Match, recipe: Recipe, parameters, folder: Path) -> Artefact:
    candidate = render(recipe, match, parameters)
    made = build(problem, candidate, cache=folder, timeout_s=120)
    assert isinstance(made, Artefact), f"{made.message}\n{made.log_tail}"
    return made


def lowers_everywhere(name: str, recipe: Recipe, parameters, folder: Path) -> Artefact:
    target = target_of(name)
    made = built(target.problem, match_of(name), recipe, parameters, folder)
    plans = render(recipe, match_of(name), parameters).plans
    for workload in (*target.public, *target.hidden):
        lowered = lower(target.problem, plans, read_index(made.path), workload)
        assert lowered.launches
        if workload.visibility == "public" and not recipe.is_portable:
            assert lowered.plan < len(plans) - 1 or len(plans) == 1, workload.name
    return made


@needs_cuda
@pytest.mark.parametrize(("name", "recipe"), recipes_in(CUDA))
def test_a_cuda_recipe_compiles_without_spills_and_serves_every_workload(name, recipe, tmp_path):
    made = lowers_everywhere(name, recipe, recipe.defaults(), tmp_path)
    counters = read_counters(made)
    assert counters
    assert not {kernel: n for kernel, n in counters.items() if kernel.endswith(SPILLS) and n}


def read_counters(made: Artefact) -> dict[str, float]:
    return {name: value for name, value in made.counters.items() if "." in name}


@needs_cuda
@pytest.mark.parametrize(("name", "recipe", "parameters"), variants())
def test_other_values_of_parameters_compile_too(name, recipe, parameters, tmp_path):
    lowers_everywhere(name, recipe, parameters, tmp_path)


@needs_triton
@pytest.mark.parametrize(("name", "recipe"), recipes_in(TRITON))
def test_a_triton_recipe_compiles_ahead_of_time_and_serves_every_workload(name, recipe, tmp_path):
    target = target_of(name)
    made = built(target.problem, match_of(name), recipe, recipe.defaults(), tmp_path)
    plans = render(recipe, match_of(name), recipe.defaults()).plans
    for workload in (*target.public, *target.hidden):
        assert lower(target.problem, plans, read_index(made.path), workload).launches


@needs_cuda
@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.FLOAT32])
@pytest.mark.parametrize("name", ["softmax", "rmsnorm", "silu_and_mul"])
def test_the_other_element_types_compile(name, dtype, tmp_path):
    problem = target_of(name).problem
    changes = {
        "inputs": tuple(t.model_copy(update={"dtype": dtype}) for t in problem.inputs),
        "outputs": tuple(t.model_copy(update={"dtype": dtype}) for t in problem.outputs),
    }
    turned = problem.model_copy(update=changes)
    item_bytes = dtype.item_bytes
    ctype = {DType.FLOAT16: "kp_fp16", DType.FLOAT32: "float"}[dtype]
    binding = {**match_of(name).binding, "dtype": dtype.value, "ctype": ctype}
    match = Match(family=match_of(name).family, binding={**binding, "item_bytes": item_bytes})
    recipe = recipes_for(name)[1]
    assert recipe.language is CUDA
    built(turned, match, recipe, recipe.defaults(), tmp_path)
