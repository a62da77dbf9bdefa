"""A bottleneck leads to exactly one edit that was not tried: a parameter, a recipe, or rest."""

import pytest

from agents.contexts import DigestContext
from agents.playbook.catalogue import render
from agents.playbook.diagnosis import diagnose
from agents.playbook.edits import next_edit
from agents.playbook.families import detect
from agents.playbook.search import Search
from tests.agents.builders import make_past, make_view
from tests.agents.playbook.test_diagnosis import CASES
from tests.agents.playbook.test_search import recipe_of
from tests.builders import make_candidate


def edit_of(bottleneck: str, recipe: str, attempts=(), **parameters):
    view = make_view(attempts=tuple(attempts))
    search = Search(view, detect(view.problem))
    known = search.recipe(recipe)
    values = {**known.defaults(), **parameters} if known else parameters
    attempt = make_past(0, recipe=recipe, parameters=values)
    candidate = render(known, search.match, values) if known else make_candidate()
    context = DigestContext(
        view=view, candidate=candidate, attempt=attempt, facts=CASES[bottleneck]
    )
    return next_edit(context, search, diagnose(CASES[bottleneck], view)), values


def test_calls_in_the_plain_loop_lead_to_the_polynomial_recipe():
    edit, _ = edit_of("calls_in_loop", "plain")
    assert edit.recipe == "three_pass"
    assert edit.change.startswith("move to the recipe three_pass")
    assert edit.parameters["vector_bytes"] == 64


def test_memory_traffic_leads_to_stores_past_the_caches():
    edit, values = edit_of("memory_bandwidth", "three_pass")
    assert (edit.recipe, edit.symbol) == ("three_pass", "stores")
    assert edit.parameters == {**values, "stores": "streaming"}


def test_a_remedy_already_in_place_gives_way_to_the_next_one():
    edit, values = edit_of("memory_bandwidth", "three_pass", stores="streaming", prefetch="none")
    assert edit.parameters == {**values, "prefetch": "row"}
    edit, _ = edit_of("memory_bandwidth", "three_pass", stores="streaming")
    assert edit.recipe == "online"


def test_a_remedy_that_was_tried_is_not_named_again():
    first, _ = edit_of("memory_bandwidth", "three_pass")
    view = make_view()
    search = Search(view, detect(view.problem))
    tried = render(recipe_of("three_pass"), search.match, first.parameters).digest
    second, _ = edit_of("memory_bandwidth", "three_pass", [make_past(1, candidate_digest=tried)])
    assert second.parameters != first.parameters


def test_a_kernel_that_no_recipe_made_is_led_to_one():
    edit, _ = edit_of("compute", "")
    assert edit.recipe == "three_pass"


def test_where_the_table_has_no_remedy_the_nearest_untried_set_is_next():
    edit, values = edit_of("launch_overhead", "online")
    assert edit.recipe == "online"
    assert sum(edit.parameters[k] != values[k] for k in values) == 1


def test_near_the_roof_the_edit_is_to_stop():
    edit, _ = edit_of("near_roof", "three_pass")
    assert (edit.recipe, edit.parameters) == ("", {})
    assert "leave this kernel" in edit.change


@pytest.mark.parametrize("bottleneck", CASES)
@pytest.mark.parametrize("recipe", ["plain", "three_pass", "online", ""])
def test_there_is_always_one_edit_and_a_recipe_can_make_it(bottleneck, recipe):
    edit, values = edit_of(bottleneck, recipe)
    if edit.recipe:
        assert recipe_of(edit.recipe).fits(edit.parameters)
        assert (edit.recipe, edit.parameters) != (recipe, values)
