"""Lessons say what is tried first and last, and rule nothing out."""

import pytest

from agents.playbook.families import detect
from agents.playbook.search import Search
from gpu_runner.candidate import Language
from tests.agents.builders import make_lesson, make_past, make_view


def search_of(*lessons, **changes) -> Search:
    view = make_view(lessons=lessons, **changes)
    return Search(view, detect(view.problem))


def known(name: str, **parameters):
    recipe = search_of().recipe(name)
    assert recipe is not None
    return make_lesson(recipe=name, parameters={**recipe.defaults(), **parameters})


def opening(
    search: Search, lanes: int = 2
) -> list[tuple[str, dict[str, int | float | str | bool]]]:
    made = []
    for lane in range(lanes):
        found = search.propose(lane, None)
        search.exclude(found.candidate)
        made.append((found.recipe.name, found.parameters))
    return made


def test_a_run_opens_with_what_won_before():
    lesson = known("three_pass", unroll=2)
    first, second = opening(search_of(lesson))
    assert first == ("three_pass", lesson.parameters)
    assert second[0] != first[0] or second[1] != first[1]
    assert search_of(lesson).propose(0, None).reason.startswith(f"recalled {lesson.lesson_id}: ")


def test_several_winners_open_in_the_order_of_their_weight():
    lessons = (known("online"), known("three_pass"))
    assert [name for name, _ in opening(search_of(*lessons))] == ["online", "three_pass"]


def test_once_there_are_attempts_the_measurements_lead():
    tried = make_past(0, recipe="plain", family="softmax")
    lesson = known("three_pass", unroll=2)
    assert "recalled" not in search_of(lesson, attempts=(tried,), round=2).propose(0, None).reason


@pytest.mark.parametrize("finding", ["slow", "refused"])
def test_a_known_loser_is_not_opened_with(finding):
    lost = known("plain").model_copy(update={"finding": finding, "speedup": None})
    assert "plain" not in [name for name, _ in opening(search_of(lost))]


def test_where_everything_lost_before_the_opening_is_as_without_memory():
    names = [recipe.name for recipe in search_of().recipes]
    lost = [known(name).model_copy(update={"finding": "slow"}) for name in names]
    assert opening(search_of(*lost)) == opening(search_of())


def test_a_loser_is_tried_all_the_same_when_nothing_else_is_left():
    lost = known("plain").model_copy(update={"finding": "refused"})
    search = search_of(lost)
    for recipe in search.recipes:
        if recipe.name != "plain":
            for _, candidate in list(search.untried(recipe)):
                search.exclude(candidate)
    assert search.propose(0, None).recipe.name == "plain"
    assert not search_of(lost).is_spent()


def test_a_recipe_that_won_and_lost_is_no_loser():
    lessons = (known("plain"), make_lesson(recipe="plain", parameters={"x": 1}, finding="slow"))
    assert opening(search_of(*lessons))[0][0] == "plain"


@pytest.mark.parametrize(
    "changes",
    [{"recipe": "gone"}, {"parameters": {"unroll": 12345}}, {"recipe": "", "idea": "split it"}],
)
def test_a_lesson_that_no_recipe_can_follow_changes_nothing(changes):
    strange = known("three_pass").model_copy(update=changes)
    assert opening(search_of(strange)) == opening(search_of())


def test_a_lesson_of_a_vetoed_recipe_is_not_followed():
    found = search_of(known("three_pass"), vetoed=("three_pass",)).propose(0, None)
    assert found.recipe.name != "three_pass"
    assert found.candidate.language is Language.CPP
