"""The store of lessons, and what a ledger teaches."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpu_runner.candidate import Language
from gpu_runner.jobs import Reason
from graph.learning import family_of, lessons_of, scope_of
from graph.ledger import AttemptOutcome
from graph.memory import append_lessons, read_lessons, store_path, teach
from tests.agents.builders import make_lesson
from tests.graph.builders import make_attempt, make_decision, make_manifest, make_target

# -- the store -----------------------------------------------------------------------------------


def test_lessons_come_back_in_the_order_they_were_learnt(tmp_path):
    path = tmp_path / "lessons.jsonl"
    first, second = make_lesson(recipe="plain"), make_lesson(recipe="online")
    assert append_lessons(path, (first,)) == 1
    assert append_lessons(path, (second,)) == 1
    assert read_lessons(path) == (first, second)


def test_a_run_that_ends_twice_teaches_once(tmp_path):
    path = tmp_path / "lessons.jsonl"
    assert append_lessons(path, (make_lesson(),)) == 1
    assert append_lessons(path, (make_lesson(),)) == 0
    assert read_lessons(path)[0].times == 1


def test_nothing_that_was_written_is_ever_changed(tmp_path):
    path = tmp_path / "lessons.jsonl"
    append_lessons(path, (make_lesson(),))
    before = path.read_bytes()
    append_lessons(path, (make_lesson(finding="slow", evidence=("run2:x",)),))
    assert path.read_bytes().startswith(before)


def test_what_is_no_lesson_is_passed_over(tmp_path, caplog):
    path = tmp_path / "lessons.jsonl"
    append_lessons(path, (make_lesson(),))
    path.write_bytes(b'{"scope": 1}\nnot json\n' + path.read_bytes() + b'{"torn')
    assert len(read_lessons(path)) == 1
    assert "line=1" in caplog.text
    append_lessons(path, (make_lesson(recipe="plain"),))
    assert [one.recipe for one in read_lessons(path)] == ["online", "plain"]


def test_runs_that_end_at_the_same_time_lose_nothing(tmp_path):
    path = tmp_path / "lessons.jsonl"

    def end(number: int) -> int:
        return append_lessons(path, [make_lesson(parameters={"unroll": number})])

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(end, range(24))) == 24
    assert len(read_lessons(path)) == 24


def test_a_store_that_cannot_be_used_costs_a_run_nothing(tmp_path, caplog):
    folder = tmp_path / "lessons.jsonl"
    folder.mkdir()
    assert read_lessons(folder) == ()
    teach(folder, (make_lesson(),))
    assert "cannot be read" in caplog.text
    assert "cannot be kept" in caplog.text


def test_without_a_store_there_are_no_lessons(tmp_path):
    assert read_lessons(tmp_path / "none.jsonl") == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("", "lessons.jsonl"), ("none", None), ("/shared/lessons.jsonl", "/shared/lessons.jsonl")],
)
def test_lessons_lie_beside_the_runs_unless_another_place_is_set(tmp_path, setting, expected):
    found = store_path(setting, tmp_path / "runs" / "softmax-1")
    if expected == "lessons.jsonl":
        assert found == tmp_path / "runs" / "lessons.jsonl"
    else:
        assert found == (Path(expected) if expected else None)


# -- what a ledger teaches -----------------------------------------------------------------------


def promoted(number: int, recipe: str, speedup: float, **changes):
    values = {
        "version": f"v{number:03}",
        "recipe": recipe,
        "family": "softmax",
        "outcome": AttemptOutcome.PROMOTED,
        "claims": (make_decision(speedup, record_id=f"{number:016x}"),),
    }
    return make_attempt(number, **{**values, **changes})


def measured(number: int, recipe: str, speedup: float):
    feedback = make_decision(speedup, basis="feedback", record_id=f"{number:016x}")
    return make_attempt(number, recipe=recipe, feedback=feedback)


def refused(number: int, recipe: str):
    return make_attempt(
        number,
        recipe=recipe,
        outcome=AttemptOutcome.REJECTED,
        reason=Reason.WRONG_RESULT,
        message="row 3 differs",
    )


def taught(*rows, best: str | None = "a0001") -> dict[str, tuple[str, float | None]]:
    found = lessons_of(make_manifest(), rows, best)
    return {one.recipe: (one.finding, one.of_best) for one in found}


def test_what_was_promoted_is_fast_and_cites_the_records_of_its_claims():
    (lesson,) = lessons_of(
        make_manifest(), (promoted(1, "online", 1.5, parameters={"unroll": 2}),), "a0001"
    )
    assert (lesson.finding, lesson.speedup, lesson.of_best) == ("fast", 1.5, 1.0)
    assert lesson.evidence == ("softmax-test:0000000000000001",)
    assert lesson.parameters == {"unroll": 2}
    assert lesson.scope == scope_of(make_manifest(), Language.CPP)
    assert (lesson.scope.arch, lesson.scope.toolchain) == ("x86_64", "g++ 13")


def test_of_the_best_the_claims_made_after_it_was_selected_count():
    final = (make_decision(1.3, record_id="f1"), make_decision(9.0, against="torch compile"))
    rows = (promoted(1, "online", 1.5), promoted(2, "three_pass", 1.6))
    found = lessons_of(make_manifest(), rows, "a0002", final)
    assert [(one.recipe, one.speedup) for one in found] == [("online", 1.5), ("three_pass", 1.3)]
    assert found[1].evidence == ("softmax-test:f1",)


def test_a_recipe_far_behind_the_best_is_slow_by_its_best_attempt():
    rows = (promoted(1, "online", 2.0), measured(2, "plain", 1.0), measured(3, "plain", 1.2))
    assert taught(*rows) == {"online": ("fast", 1.0), "plain": ("slow", pytest.approx(0.6))}


def test_a_recipe_that_came_close_teaches_nothing():
    assert set(taught(promoted(1, "online", 2.0), measured(2, "plain", 1.9))) == {"online"}


def test_a_recipe_that_never_passed_is_refused_with_the_reason():
    rows = (promoted(1, "online", 2.0), refused(2, "tiles"), refused(3, "tiles"))
    found = {one.recipe: one for one in lessons_of(make_manifest(), rows, "a0001")}
    assert found["tiles"].finding == "refused"
    assert "row 3 differs" in found["tiles"].why
    assert found["tiles"].evidence == ("softmax-test:a0003",)


def test_a_recipe_that_was_refused_once_and_won_later_is_fast():
    assert taught(refused(2, "online"), promoted(1, "online", 2.0)) == {"online": ("fast", 1.0)}


def test_what_could_not_be_served_and_what_a_model_lost_with_teaches_nothing():
    lost = make_attempt(2, recipe="plain", outcome=AttemptOutcome.UNSERVED)
    assert taught(lost, measured(3, "", 0.5), best=None) == {}


def test_an_idea_of_a_model_that_won_is_kept_in_its_words():
    row = promoted(1, "", 1.4, motivation="keep the row in registers")
    (lesson,) = lessons_of(make_manifest(), (row,), "a0001")
    assert lesson.idea == "keep the row in registers"


def test_a_run_teaches_the_same_lines_however_often_it_ends():
    rows = (promoted(1, "online", 2.0), measured(2, "plain", 1.0))
    first, second = (lessons_of(make_manifest(), rows, "a0001") for _ in range(2))
    assert [one.model_dump_json() for one in first] == [one.model_dump_json() for one in second]


def test_a_problem_without_a_family_is_one_of_its_own():
    assert family_of(make_manifest()) == "softmax"
    changes = {"name": "mystery", "inputs": (), "reference": "def run(): ..."}
    odd = make_target().problem.model_copy(update=changes)
    assert family_of(make_manifest(target=make_target(problem=odd))) == "mystery"
