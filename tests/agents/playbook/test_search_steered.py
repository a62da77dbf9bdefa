"""What a user says changes what the search proposes, and never what is measured."""

import pytest

from agents.errors import NothingFits
from agents.playbook.families import detect
from agents.playbook.search import Search
from tests.agents.builders import make_edit, make_past, make_view

TRIED = make_past(0, recipe="plain", family="softmax")


def search_of(**changes) -> Search:
    view = make_view(**{"attempts": (TRIED,), "round": 2, **changes})
    return Search(view, detect(view.problem))


@pytest.mark.parametrize("subject", ["three_pass", "softmax/three_pass"])
def test_a_vetoed_recipe_is_not_searched(subject):
    names = [recipe.name for recipe in search_of(vetoed=(subject,)).recipes]
    assert "three_pass" not in names
    assert {"plain", "online"} <= set(names)


def test_an_edit_of_a_vetoed_recipe_is_not_made():
    edit = make_edit(recipe="three_pass")
    assert search_of().propose(0, edit).recipe.name == "three_pass"
    assert search_of(vetoed=("three_pass",)).propose(0, edit).recipe.name != "three_pass"


def test_a_vetoed_attempt_leaves_its_recipe_alone():
    assert len(search_of(vetoed=("a0000",)).recipes) == len(search_of().recipes)


def test_with_every_recipe_vetoed_nothing_fits():
    with pytest.raises(NothingFits, match="every recipe of family 'softmax' is vetoed"):
        search_of(vetoed=("softmax",))


@pytest.mark.parametrize("lane", [0, 1])
def test_a_hint_that_names_a_recipe_is_heeded_once(lane):
    search = search_of(hints=("what about online?",))
    first = search.propose(lane, None)
    assert first.recipe.name == "online"
    assert first.reason == "the user's hint: what about online?"
    search.exclude(first.candidate)
    assert "hint" not in search.propose(lane, None).reason


def test_a_hint_may_name_values_of_parameters():
    unroll = next(c for c in recipe("three_pass").choices if c.name == "unroll")
    value = unroll.values[-1]
    found = search_of(hints=(f"three_pass with unroll={value}, please",)).propose(0, None)
    assert found.recipe.name == "three_pass"
    assert found.parameters == {**recipe("three_pass").defaults(), "unroll": value}


def recipe(name: str):
    found = search_of().recipe(name)
    assert found is not None
    return found


@pytest.mark.parametrize("hint", ["look at the loads", "unroll=12345", "onlineish", "", "x=1; y=2"])
def test_a_hint_that_names_nothing_known_changes_nothing(hint):
    plain = search_of().propose(1, None)
    assert search_of(hints=(hint,)).propose(1, None).candidate == plain.candidate


def test_the_latest_hint_comes_first():
    search = search_of(hints=("online", "three_pass"))
    assert search.propose(0, None).recipe.name == "three_pass"


def test_a_hint_for_what_is_vetoed_is_not_heeded():
    found = search_of(hints=("online",), vetoed=("online",)).propose(0, None)
    assert found.recipe.name != "online"
