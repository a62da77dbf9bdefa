"""Laws of the search over histories that no run would plan: any order, any speed, any refusal."""

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.contexts import PastAttempt, WriteContext
from agents.playbook.catalogue import Recipe, Value, render
from agents.playbook.families import detect
from agents.playbook.search import Proposal, Search, proposal_for
from agents.replies import Draft
from gpu_runner.jobs import Reason
from graph.targets import load_target
from tests.agents.builders import AVX512, make_edit, make_past, make_plan, make_view
from tests.agents.playbook.test_search import draft_of, recipe_of, search_of

SEARCH = search_of()
POOL = [
    (recipe, parameters, candidate.digest)
    for recipe in SEARCH.recipes
    for parameters, candidate in itertools.islice(SEARCH.untried(recipe), 40)
]
AMX = ("avx512f", "amx_tile", "amx_int8")


def attempt_of(number: int, place: int, speed: float | None, **changes) -> PastAttempt:
    recipe, parameters, digest = POOL[place]
    values = {
        "family": "softmax",
        "recipe": recipe.name,
        "parameters": parameters,
        "candidate_digest": digest,
        "vs_baseline": speed,
        "outcome": "measured" if speed else "rejected",
        "reason": None if speed else Reason.WRONG_RESULT,
    }
    return make_past(number, **{**values, **changes})


SPEEDS = st.none() | st.floats(0.01, 50)
HISTORIES = st.lists(st.tuples(st.integers(0, len(POOL) - 1), SPEEDS), min_size=1, max_size=14).map(
    lambda made: tuple(attempt_of(n, place, speed) for n, (place, speed) in enumerate(made))
)


@settings(max_examples=25, deadline=None)
@given(HISTORIES, st.integers(0, 20), st.integers(0, 3))
def test_no_history_makes_the_search_repeat_itself(attempts, number, lane):
    view = make_view(attempts=attempts, round=number)
    proposal = Search(view, detect(view.problem)).propose(lane, None)
    assert proposal.recipe.fits(proposal.parameters)
    assert proposal.candidate.digest not in {a.candidate_digest for a in attempts}
    assert proposal.candidate == render(proposal.recipe, detect(view.problem), proposal.parameters)
    assert proposal.reason


@settings(max_examples=10, deadline=None)
@given(HISTORIES, st.integers(0, 9), st.booleans())
def test_lanes_of_any_round_differ_with_and_without_an_edit(attempts, number, has_edit):
    view = make_view(attempts=attempts, round=number)
    match = detect(view.problem)
    edit = make_edit(recipe="three_pass", parameters=recipe_of("three_pass").defaults())
    search = Search(view, match)
    made: list[Proposal] = []
    for lane in range(3):
        proposal = search.propose(lane, edit if has_edit else None)
        search.exclude(proposal.candidate)
        made.append(proposal)
    assert len({p.candidate.digest for p in made}) == 3
    context = WriteContext(view=view, plan=make_plan(), lane=2, lanes=3)
    if not has_edit:
        assert proposal_for(context, match) == made[2]


@settings(max_examples=40, deadline=None)
@given(HISTORIES)
def test_the_best_is_the_fastest_measured_and_the_latest_of_equals(attempts):
    best = search_of(attempts=attempts).best()
    measured = [a for a in attempts if a.vs_baseline]
    if not measured:
        assert best is None
        return
    assert best is not None
    fastest = max(a.vs_baseline or 0 for a in measured)
    assert best.vs_baseline == fastest
    assert best.attempt_id == max(a.attempt_id for a in measured if a.vs_baseline == fastest)


@settings(max_examples=40, deadline=None)
@given(HISTORIES)
def test_every_attempt_of_ours_belongs_to_one_recipe(attempts):
    search = search_of(attempts=attempts)
    shares = [search.attempts_of(recipe) for recipe in search.recipes]
    assert sorted(a.attempt_id for share in shares for a in share) == [
        a.attempt_id for a in attempts
    ]


@pytest.mark.parametrize("recipe", ["plain", "three_pass", "online"])
def test_what_is_excluded_is_gone_from_what_is_left(recipe):
    search, known = search_of(), recipe_of(recipe)
    everything = [candidate for _, candidate in search.untried(known)]
    assert len(everything) == len(list(known.combinations()))
    search.exclude(everything[0])
    assert [c for _, c in search.untried(known)] == everything[1:]
    assert not search.is_untried(known, known.defaults())


def test_parameters_of_another_recipe_are_never_untried():
    search = search_of()
    assert not search.is_untried(recipe_of("online"), recipe_of("three_pass").defaults())
    assert not search.is_untried(recipe_of("three_pass"), {})


@pytest.mark.parametrize(
    ("lane", "recipe", "said"),
    [
        (0, "plain", "opening: "),
        (1, "three_pass", "opening: "),
        (2, "online", "opening: "),
    ],
)
def test_the_opening_has_one_recipe_for_each_lane(lane, recipe, said):
    proposal = search_of().propose(lane, None)
    assert proposal.recipe.name == recipe
    assert proposal.parameters == proposal.recipe.defaults()
    assert proposal.reason == said + proposal.recipe.idea
    assert proposal.expected == proposal.recipe.expects


def test_a_lane_beyond_the_recipes_opens_with_something_else():
    view = make_view()
    context = WriteContext(view=view, plan=make_plan(), lane=3, lanes=4)
    proposal = proposal_for(context, detect(view.problem))
    assert not proposal.reason.startswith("opening")
    assert proposal.parameters != proposal.recipe.defaults()


def test_without_a_measured_attempt_the_next_recipe_is_tried_at_once():
    attempts = (attempt_of(0, 0, None),)
    proposal = search_of(attempts=attempts, round=1).propose(0, None)
    assert proposal.reason.startswith("a recipe not tried yet")
    assert proposal.recipe.name == "three_pass"


@pytest.mark.parametrize(("number", "explores"), [(1, False), (2, False), (3, False), (4, True)])
def test_the_first_lane_explores_every_fourth_round(number, explores):
    place = next(i for i, (recipe, *_) in enumerate(POOL) if recipe.name == "three_pass")
    attempts = (attempt_of(0, 0, 0.5), attempt_of(1, place, 2.0))
    proposal = search_of(attempts=attempts, round=number).propose(0, None)
    assert (proposal.recipe.name == "online" and "not tried yet" in proposal.reason) is explores


def ranked_attempts(three_pass: float, online: float) -> tuple[PastAttempt, ...]:
    first = {r.name: i for i, (r, *_) in reversed(list(enumerate(POOL)))}
    return (
        attempt_of(0, first["plain"], 0.4),
        attempt_of(1, first["three_pass"], three_pass),
        attempt_of(2, first["online"], online),
    )


@pytest.mark.parametrize(
    ("number", "three_pass", "online", "sampled"),
    [
        (1, 3.0, 2.0, "three_pass"),
        (2, 2.0, 3.0, "online"),
        (3, 3.0, 2.0, "online"),
        (3, 2.0, 3.0, "three_pass"),
        (5, 2.0, 3.0, "online"),
        (7, 3.0, 2.0, "online"),
    ],
)
def test_the_second_best_recipe_gets_each_fourth_turn(number, three_pass, online, sampled):
    search = search_of(attempts=ranked_attempts(three_pass, online), round=number)
    proposal = search.propose(0, None)
    assert proposal.recipe.name == sampled
    assert proposal.reason == f"Optuna over {sampled}, 1 trials known"
    assert proposal.expected.factor == 1.02


def everything_of(search: Search) -> list[tuple[Recipe, dict[str, Value], str]]:
    return [(r, p, c.digest) for r in search.recipes for p, c in search.untried(r)]


def spent_view(speeds: dict[int, float], **changes):
    problem = load_target("int8_scaled_mm").problem
    fresh = make_view(problem=problem, isa=AMX)
    made = everything_of(Search(fresh, detect(problem)))
    attempts = tuple(
        make_past(
            n,
            recipe=recipe.name,
            parameters=parameters,
            candidate_digest=digest,
            vs_baseline=speeds.get(n),
            outcome="measured" if n in speeds else "rejected",
        )
        for n, (recipe, parameters, digest) in enumerate(made)
    )
    return make_view(problem=problem, isa=AMX, attempts=attempts, round=5, **changes)


@pytest.mark.parametrize("speeds", [{}, {0: 0.3}, {1: 2.0, 3: 4.0, 4: 3.0}])
def test_when_all_is_tried_the_best_comes_back(speeds):
    view = spent_view(speeds)
    search = Search(view, detect(view.problem))
    assert search.is_spent()
    proposal = search.propose(0, None)
    best = search.best()
    if best is None:
        assert proposal.parameters == search.recipes[-1].defaults()
    else:
        assert best.vs_baseline == max(speeds.values())
        assert proposal.candidate.digest == best.candidate_digest
    assert proposal.expected.factor == 1.0
    assert "was tried" in proposal.reason


def test_one_set_that_is_left_is_found_by_any_lane():
    view = spent_view({0: 1.0, 1: 2.0})
    left, kept = view.attempts[3], (*view.attempts[:3], *view.attempts[4:])
    view = view.model_copy(update={"attempts": kept})
    for lane in range(3):
        search = Search(view, detect(view.problem))
        assert not search.is_spent()
        assert search.propose(lane, None).candidate.digest == left.candidate_digest


def repair(attempts: tuple[PastAttempt, ...], failed: PastAttempt) -> Draft:
    return asyncio.run(draft_of(make_view(attempts=attempts), repair=failed))


@settings(max_examples=15, deadline=None)
@given(HISTORIES, st.integers(0, 13))
def test_a_repair_is_never_what_was_tried(attempts, which):
    failed = attempts[which % len(attempts)]
    draft = repair(attempts, failed)
    assert draft.candidate.digest not in {a.candidate_digest for a in attempts}
    assert recipe_of(draft.recipe).fits(draft.parameters)


def test_a_repair_says_what_it_repairs_and_expects_less():
    failed = attempt_of(0, len(POOL) - 1, None, reason=Reason.CRASHED)
    draft = repair((failed,), failed)
    assert draft.recipe == failed.recipe == "online"
    assert draft.motivation == "a0000 was refused (crashed); the most cautious values"
    assert draft.expected is not None
    assert (draft.expected.direction, draft.expected.factor) == ("down", 0.9)


@pytest.mark.parametrize("isa", [(), ("avx2",), AVX512])
@pytest.mark.parametrize("target", ["softmax", "rope", "gemm_bias_act", "int8_scaled_mm"])
def test_size_is_what_can_be_told_apart(isa, target):
    problem = load_target(target).problem
    search = Search(make_view(problem=problem, isa=isa), detect(problem))
    digests = {digest for *_, digest in everything_of(search)}
    assert search.size == len(digests) > 0
