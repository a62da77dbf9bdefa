"""Recipes are complete tables, and one set of parameters renders to one text."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.diagnosis.vocabulary import Bottleneck
from agents.playbook.catalogue import Recipe, notes_of, notes_path, recipes_of, render
from agents.playbook.families import detect
from gpu_runner.candidate import Language
from gpu_runner.languages.cpp import refuse_flags
from graph.targets import load_target
from tests.agents.builders import AVX512
from tests.agents.playbook.device import ON_CPU
from tests.builders import make_problem

MATCHES = {name: detect(load_target(name).problem) for name in ON_CPU}
ALL = [
    pytest.param(name, recipe, id=f"{name}-{recipe.name}")
    for name, match in MATCHES.items()
    for recipe in recipes_of(match.family, AVX512)
]
CLASSES = set(get_args(Bottleneck))


@pytest.mark.parametrize(("name", "recipe"), ALL)
def test_the_table_of_a_recipe_is_consistent(name, recipe: Recipe):
    assert recipe.family == MATCHES[name].family
    assert set(recipe.answers) <= CLASSES
    for choice in recipe.choices:
        assert len(set(choice.values)) == len(choice.values)
        assert set(choice.answers) <= CLASSES
        assert set(choice.answers.values()) <= set(choice.values), choice.name


@pytest.mark.parametrize(("name", "recipe"), ALL)
def test_every_parameter_changes_the_text_somewhere(name, recipe: Recipe):
    best = recipe.defaults()
    for choice in recipe.choices:
        if len(choice.values) > 1:
            texts = {
                render(recipe, MATCHES[name], {**best, choice.name: value}).digest
                for value in choice.values
            }
            assert len(texts) == len(choice.values), choice.name


@pytest.mark.parametrize(("name", "recipe"), ALL)
def test_the_text_is_plain_source_with_the_entry(name, recipe: Recipe):
    candidate = render(recipe, MATCHES[name], recipe.defaults())
    assert candidate.language is Language.CPP
    (source,) = candidate.sources
    assert source.path == "kernel.cpp"
    assert f'extern "C" int kp_run(const struct {name}_args* a)' in source.text
    assert '#include "problem.h"' in source.text
    assert "{{" not in source.text
    assert "{%" not in source.text
    assert not any(line.rstrip() != line and "\t" in line for line in source.text.splitlines())


@given(st.data())
def test_rendering_is_a_function_of_its_arguments(data):
    name = data.draw(st.sampled_from(sorted(MATCHES)))
    recipe = data.draw(st.sampled_from(recipes_of(MATCHES[name].family, AVX512)))
    parameters = {c.name: data.draw(st.sampled_from(c.values)) for c in recipe.choices}
    assert recipe.fits(parameters)
    shuffled = dict(reversed(parameters.items()))
    assert render(recipe, MATCHES[name], parameters) == render(recipe, MATCHES[name], shuffled)


@pytest.mark.parametrize("family", sorted({m.family for m in MATCHES.values()}))
def test_each_family_opens_with_a_portable_recipe_and_has_notes(family):
    recipes = recipes_of(family, ())
    assert recipes[0].is_portable
    assert not recipes[0].needs
    assert notes_of(family).startswith("# ")
    assert "\n- " in notes_of(family)
    assert notes_path(family) == f"agents/recipes/cpp/{family}/notes.md"


@pytest.mark.parametrize(
    ("isa", "widths"), [(AVX512, (64, 32)), (("avx2",), (32, 16)), ((), (16,))]
)
def test_vector_widths_follow_the_machine(isa, widths):
    recipe = recipes_of("softmax", isa)[1]
    assert recipe.choices[0].values == widths


def test_recipes_that_the_machine_cannot_run_are_not_offered():
    names = [recipe.name for recipe in recipes_of("int8_gemm", ("avx2",))]
    assert names == ["plain"]
    names = [recipe.name for recipe in recipes_of("int8_gemm", AVX512)]
    assert names == ["plain", "amx", "vnni"]


@pytest.mark.parametrize("isa", [(), ("avx2",), AVX512])
def test_a_machine_without_extensions_still_gets_the_plain_recipe(isa):
    assert recipes_of("gemm", isa)[0].name == "plain"


def test_combinations_begin_with_the_best_known_and_never_repeat():
    recipe = recipes_of("softmax", AVX512)[1]
    combinations = [tuple(c.items()) for c in recipe.combinations()]
    assert dict(combinations[0]) == recipe.defaults()
    assert len(set(combinations)) == len(combinations) == 2 * 4 * 2 * 3 * 2


def test_parameters_that_are_not_the_recipes_do_not_fit():
    recipe = recipes_of("softmax", AVX512)[1]
    best = recipe.defaults()
    assert recipe.fits(best)
    assert not recipe.fits({**best, "unroll": 3})
    assert not recipe.fits({**best, "more": 1})
    assert not recipe.fits({})


@pytest.mark.parametrize(("name", "recipe"), ALL)
def test_the_flags_of_a_recipe_are_ones_that_the_builder_allows(name, recipe: Recipe):
    candidate = render(recipe, MATCHES[name], recipe.defaults())
    assert candidate.flags == recipe.flags
    assert refuse_flags(candidate) is None


def test_the_name_of_the_problem_is_in_the_text():
    match = detect(make_problem(name="softmax_of_mine"))
    recipe = recipes_of("softmax", AVX512)[1]
    text = render(recipe, match, recipe.defaults()).sources[0].text
    assert "struct softmax_of_mine_args* a" in text
