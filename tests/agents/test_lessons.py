"""Which lessons are one, which bear on a run, and how they fade."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.lessons import MOST_RECALLED, Scope, merged, recalled, weight
from gpu_runner.candidate import Language
from tests.agents.builders import HERE, NOW, make_lesson


def scope(**changes) -> Scope:
    return HERE.model_copy(update=changes)


# -- what is one lesson --------------------------------------------------------------------------


def test_the_same_thing_found_again_counts_twice_and_keeps_both_proofs():
    (one,) = merged([make_lesson(), make_lesson(speedup=1.7, evidence=("run2:r9",))])
    assert (one.times, one.speedup) == (2, 1.7)
    assert one.evidence == ("run1:r1", "run2:r9")


def test_a_later_run_that_found_otherwise_holds_and_counts_from_one():
    again = make_lesson(finding="slow", speedup=0.9, of_best=0.5, evidence=("run3:r1",))
    (one,) = merged([make_lesson(), make_lesson(), again])
    assert (one.finding, one.times, one.evidence) == ("slow", 1, ("run3:r1",))


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": "plain"},
        {"parameters": {"unroll": 8}},
        {"scope": scope(arch="sm_90")},
        {"scope": scope(toolchain="g++ 14")},
    ],
)
def test_another_recipe_parameter_or_place_is_another_lesson(changes):
    assert len(merged([make_lesson(), make_lesson(**changes)])) == 2


def test_the_problem_and_the_words_do_not_tell_lessons_of_a_recipe_apart():
    assert len(merged([make_lesson(), make_lesson(problem="other", idea="words")])) == 1
    ideas = [make_lesson(recipe="", idea=idea) for idea in ("split rows", "use tma")]
    assert len(merged(ideas)) == 2


@given(st.lists(st.sampled_from(["plain", "online", "three_pass"]), max_size=12))
def test_merging_twice_is_merging_once(recipes):
    lessons = [make_lesson(recipe=name, evidence=(f"r{n}:x",)) for n, name in enumerate(recipes)]
    once = merged(lessons)
    assert merged(once) == once
    assert sum(one.times for one in once) == len(lessons)
    assert {one.recipe for one in once} == set(recipes)


# -- what bears on a run -------------------------------------------------------------------------


def found(*lessons, here=HERE, languages=(Language.CPP,)) -> list[str]:
    return [one.recipe for one in recalled(lessons, here, languages, NOW)]


def test_only_the_family_and_the_languages_of_the_run_are_recalled():
    other = make_lesson(recipe="norm", scope=scope(family="layernorm"))
    cuda = make_lesson(recipe="vectors", scope=scope(language=Language.CUDA))
    assert found(make_lesson(), other, cuda) == ["online"]
    both = found(make_lesson(), cuda, languages=(Language.CUDA, Language.CPP))
    assert set(both) == {"online", "vectors"}


def test_what_was_learnt_here_weighs_more_than_what_was_learnt_elsewhere():
    lessons = (
        make_lesson(recipe="far", scope=scope(arch="aarch64"), speedup=9.0),
        make_lesson(recipe="tool", scope=scope(toolchain="g++ 9"), speedup=5.0),
        make_lesson(recipe="here", speedup=1.1),
    )
    assert found(*lessons) == ["here", "tool", "far"]


def test_of_equal_weight_the_faster_comes_first():
    assert found(make_lesson(recipe="slow"), make_lesson(recipe="quick", speedup=2.5)) == [
        "quick",
        "slow",
    ]


@pytest.mark.parametrize(
    ("learnt_at", "expected"),
    [
        (NOW, 1.0),
        ("2026-03-03T00:00:00+00:00", 0.5),
        ("2025-12-03T00:00:00+00:00", 0.25),
        ("2027-01-01T00:00:00+00:00", 1.0),
    ],
)
def test_a_lesson_fades_by_half_in_ninety_days(learnt_at, expected):
    assert weight(make_lesson(learnt_at=learnt_at), HERE, NOW) == pytest.approx(expected)


def test_a_lesson_of_years_ago_is_forgotten():
    assert found(make_lesson(learnt_at="2024-01-01T00:00:00+00:00")) == []


@pytest.mark.parametrize(
    ("learnt", "arch", "expected"),
    [("sm_90", "sm_90a", 0.9), ("sm_90", "sm_100", 0.3), ("x86_64", "sm_90", 0.3)],
)
def test_another_machine_counts_less(learnt, arch, expected):
    lesson = make_lesson(scope=scope(arch=learnt))
    assert weight(lesson, scope(arch=arch), NOW) == pytest.approx(expected)


def test_no_more_are_recalled_than_a_prompt_can_carry():
    many = [make_lesson(parameters={"unroll": n}) for n in range(40)]
    assert len(recalled(many, HERE, (Language.CPP,), NOW)) == MOST_RECALLED


@given(
    st.sampled_from(["x86_64", "sm_90", "sm_90a", "aarch64"]),
    st.sampled_from(["g++ 13", "g++ 9", ""]),
    st.integers(1, 12),
)
def test_a_weight_is_a_share(arch, toolchain, month):
    lesson = make_lesson(
        scope=scope(arch=arch, toolchain=toolchain), learnt_at=f"2025-{month:02}-01T00:00:00+00:00"
    )
    assert 0 < weight(lesson, HERE, NOW) <= 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "online(unroll=4) was promoted at 1.80 times the baseline (softmax, cpp, x86_64"),
        ({"finding": "slow", "of_best": 0.62}, "and 0.62 of the run's best"),
        ({"finding": "refused", "why": "wrong_result"}, "was refused: wrong_result"),
        ({"recipe": "", "idea": "split the row"}, "split the row was promoted"),
    ],
)
def test_a_lesson_says_what_where_and_how_much(changes, words):
    assert words in make_lesson(**changes).words()
