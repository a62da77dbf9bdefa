"""Recipes for a GPU are complete tables whose plans are valid and serve every shape."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.contexts import WriteContext
from agents.diagnosis.vocabulary import Bottleneck
from agents.errors import NothingFits
from agents.playbook import Playbook
from agents.playbook.catalogue import Recipe, notes_of, recipes_of, render
from agents.playbook.search import Search
from agents.replies import Draft
from gpu_runner.candidate import Candidate, Language, LaunchPlan, Value
from gpu_runner.device.lowered import refuse_invalid
from gpu_runner.expression import evaluate
from gpu_runner.problem import Problem, Workload
from tests.agents.builders import make_plan, make_view, past_of
from tests.agents.playbook.device import (
    LANGUAGES,
    MACHINE,
    NAMES,
    ROWS,
    each_recipe,
    match_of,
    parameters_of,
    recipe_named,
    recipes_for,
    target_of,
)

ALL = each_recipe(ROWS)
CLASSES = set(get_args(Bottleneck))


def plan_for(candidate: Candidate, problem: Problem, workload: Workload) -> LaunchPlan:
    sizes = problem.sizes(workload)
    return next(plan for plan in candidate.plans if evaluate(plan.guard, sizes))


@pytest.mark.parametrize(("name", "recipe"), each_recipe(NAMES))
def test_the_table_of_a_recipe_is_consistent(name, recipe: Recipe):
    assert recipe.family == match_of(name).family
    assert recipe.language in LANGUAGES
    assert set(recipe.answers) <= CLASSES
    for choice in recipe.choices:
        assert choice.reason
        assert len(set(choice.values)) == len(choice.values)
        assert set(choice.answers) <= CLASSES
        assert set(choice.answers.values()) <= set(choice.values), choice.name


@pytest.mark.parametrize("name", NAMES)
def test_a_name_means_one_recipe_whatever_the_language(name):
    names = [recipe.name for recipe in recipes_for(name)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ROWS)
def test_the_plain_recipe_is_first_and_needs_nothing(name):
    first, *others = recipes_for(name)
    assert first.is_portable
    assert not first.needs
    assert others
    for recipe in recipes_for(name):
        assert notes_of(recipe.family, recipe.language).startswith("# ")
        assert "\n- " in notes_of(recipe.family, recipe.language)


@pytest.mark.parametrize(("name", "recipe"), each_recipe(NAMES))
def test_every_value_gives_another_candidate(name, recipe: Recipe):
    best = recipe.defaults()
    for choice in recipe.choices:
        found = {
            render(recipe, match_of(name), {**best, choice.name: value}).digest
            for value in choice.values
        }
        assert len(found) == len(choice.values), choice.name


@pytest.mark.parametrize(("name", "recipe"), ALL)
def test_the_text_is_plain_source_in_one_file(name, recipe: Recipe):
    candidate = render(recipe, match_of(name), recipe.defaults())
    assert candidate.language is recipe.language
    (source,) = candidate.sources
    assert source.path == {"cuda": "kernel.cu", "triton": "kernel.py"}[recipe.language]
    assert not any(mark in source.text for mark in ("{{", "{%", "{#", "\t"))
    if recipe.language is Language.CUDA:
        assert '#include "problem.h"' in source.text
        kernels = {launch.kernel for plan in candidate.plans for launch in plan.launches}
        assert all(f"\n{kernel}(" in source.text for kernel in kernels)
    else:
        compile(source.text, source.path, "exec")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_parameters_render_to_valid_plans_that_serve_every_shape(data):
    name = data.draw(st.sampled_from(ROWS))
    recipe = data.draw(st.sampled_from(recipes_for(name)))
    parameters = data.draw(parameters_of(recipe))
    candidate = render(recipe, match_of(name), parameters)
    assert candidate == render(recipe, match_of(name), dict(reversed(parameters.items())))
    target = target_of(name)
    refuse_invalid(target.problem, candidate.plans, candidate.language)
    assert candidate.plans[-1].guard == "1"
    for workload in (*target.public, *target.hidden):
        plan = plan_for(candidate, target.problem, workload)
        sizes = target.problem.sizes(workload)
        for launch in plan.launches:
            extents = [evaluate(text, sizes) for text in (*launch.grid, *launch.block)]
            assert min(extents) >= 1
            assert extents[0] < 2**31
            assert max(extents[1:3]) == 1
            words = [a for a in launch.arguments if isinstance(a, Value) and a.type == "i32"]
            assert all(evaluate(word.value, sizes) < 2**31 for word in words)
            for word in words:
                assert evaluate(word.value, sizes) % word.divisible == 0


@pytest.mark.parametrize(("name", "recipe"), ALL)
def test_vectors_are_never_used_on_rows_that_are_not_whole_ones(name, recipe: Recipe):
    """Odd rows start at odd addresses: only the last plan of CUDA may serve them."""
    candidate = render(recipe, match_of(name), recipe.defaults())
    target = target_of(name)
    odd = [w for w in target.hidden if w.name in {"columns_33", "halves_33", "columns_4097"}]
    assert odd
    for workload in odd:
        if match_of(name).family != "elementwise":
            plan = plan_for(candidate, target.problem, workload)
            assert plan is candidate.plans[-1]


def test_serving_shapes_of_softmax_go_to_the_kernels_meant_for_them():
    target = target_of("softmax")
    recipe = recipe_named("softmax", "registers")
    candidate = render(recipe, match_of("softmax"), recipe.defaults())
    found = {
        workload.name: plan_for(candidate, target.problem, workload).launches[0].kernel
        for workload in target.public
    }
    assert found["router_decode"] == found["router_prefill"] == "row_in_16_lanes_x1"
    assert found["scores_8k"] == "row_in_block_x8"
    assert found["scores_2k"] == "row_in_block_x2"
    assert found["vocab_32k"] == "row_in_2_blocks"
    assert found["vocab_128k"] == "row_in_8_blocks"


@pytest.mark.parametrize("name", ROWS)
def test_a_machine_of_another_architecture_is_offered_what_it_can_run(name):
    recipes = recipes_of(match_of(name).family, ("sm_80",), LANGUAGES)
    assert recipes
    assert "pipeline" not in [recipe.name for recipe in recipes]


@pytest.mark.parametrize("language", LANGUAGES)
def test_only_languages_in_scope_are_offered(language):
    recipes = recipes_of("softmax", MACHINE, (language,))
    assert {recipe.language for recipe in recipes} == {language}


def test_a_family_without_recipes_in_a_language_says_where_to_add_one():
    with pytest.raises(NothingFits, match="agents/recipes/triton/rope"):
        recipes_of("rope", MACHINE, (Language.TRITON,))
    with pytest.raises(NothingFits, match="a language of the target"):
        recipes_of("softmax", MACHINE, (Language.PYTHON,))


@pytest.mark.parametrize("name", ROWS)
async def test_a_run_on_a_gpu_opens_with_recipes_of_its_languages(name):
    """Rounds of two lanes never repeat a candidate and reach every recipe."""
    view = make_view(
        problem=target_of(name).problem,
        tier="gpu",
        arch="sm_90a",
        isa=(),
        languages=LANGUAGES,
    )
    made: list[Draft] = []
    for round_ in range(4):
        attempts = tuple(
            past_of(draft, number, vs_baseline=1.0 + number / 10)
            for number, draft in enumerate(made)
        )
        shown = view.model_copy(update={"attempts": attempts, "round": round_})
        contexts = [WriteContext(view=shown, plan=make_plan(), lane=lane) for lane in range(2)]
        made += [await Playbook().write(context) for context in contexts]
    assert len({draft.candidate.digest for draft in made}) == len(made)
    assert {draft.recipe for draft in made} == {recipe.name for recipe in recipes_for(name)}
    assert made[0].provenance[0].source.startswith("agents/recipes/cuda/")
    assert Search(view, match_of(name)).size > len(made)
