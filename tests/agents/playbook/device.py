"""The shipped targets by device, with matches and recipes of those for a GPU."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from agents.playbook.catalogue import Recipe, recipes_of
from agents.playbook.device_families import detect_on_device
from agents.playbook.families import Match
from gpu_runner.candidate import Language
from graph.target import Target
from graph.targets import devices_of, load_target, target_names

LANGUAGES = (Language.CUDA, Language.TRITON)
MACHINE = ("sm_90a",)
ON_CPU = tuple(name for name in target_names() if "cpu" in devices_of(name))
NAMES = tuple(name for name in target_names() if "cuda" in devices_of(name))
ROWS = (
    "softmax",
    "rmsnorm",
    "layernorm",
    "quantize_per_token",
    "silu_and_mul",
    "gelu_tanh",
    "rope",
)
"""Targets whose recipes are rows, elements or pairs, not products of matrices."""


@cache
def target_of(name: str) -> Target:
    return load_target(name, device="cuda")


@cache
def match_of(name: str) -> Match:
    return detect_on_device(target_of(name).problem)


def recipes_for(name: str) -> tuple[Recipe, ...]:
    return recipes_of(match_of(name).family, MACHINE, LANGUAGES)


def each_recipe(names: Iterable[str]) -> list[Any]:
    """Cases of a test: a target's name and one of its recipes."""
    return [
        pytest.param(name, recipe, id=f"{name}-{recipe.name}")
        for name in names
        for recipe in recipes_for(name)
    ]


def parameters_of(recipe: Recipe) -> SearchStrategy[dict[str, Any]]:
    """Any value of each choice of a recipe."""
    return st.fixed_dictionaries({c.name: st.sampled_from(c.values) for c in recipe.choices})


def recipe_named(name: str, recipe: str) -> Recipe:
    return next(found for found in recipes_for(name) if found.name == recipe)
