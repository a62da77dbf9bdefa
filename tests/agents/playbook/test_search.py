"""One context gives one proposal; nothing is tried twice; facts and search take turns."""

import pytest

from agents.contexts import PastAttempt, WriteContext
from agents.playbook import Playbook
from agents.playbook.catalogue import Recipe
from agents.playbook.families import detect
from agents.playbook.search import Search
from agents.replies import Digest, Draft
from gpu_runner.jobs import Reason
from graph.targets import load_target
from tests.agents.builders import make_edit, make_past, make_plan, make_view, past_of


def search_of(**changes) -> Search:
    view = make_view(**changes)
    return Search(view, detect(view.problem))


def recipe_of(name: str) -> Recipe:
    found = search_of().recipe(name)
    assert found is not None, f"no recipe {name}"
    return found


async def draft_of(view, **changes) -> Draft:
    return await Playbook().write(WriteContext(view=view, plan=make_plan(), **changes))


def with_edit(recipe: str, **parameters) -> dict[str, Digest]:
    edit = make_edit(recipe=recipe, parameters=parameters)
    digest = Digest(
        bottleneck="compute", confidence=0.5, evidence=("e",), inference=("i",), next_edit=edit
    )
    return {"digest": digest}


async def test_the_opening_is_the_portable_recipe_and_the_best_known_default():
    first = await draft_of(make_view(), lane=0, lanes=2)
    second = await draft_of(make_view(), lane=1, lanes=2)
    assert (first.recipe, first.parameters) == ("plain", {})
    assert second.recipe == "three_pass"
    assert second.parameters == recipe_of("three_pass").defaults()
    assert first.family == second.family == "softmax"
    assert first.provenance[0].source == "agents/recipes/cpp/softmax/plain.cpp.j2"


async def test_the_same_context_gives_the_same_draft_byte_for_byte():
    attempts = tuple(
        make_past(i, recipe="three_pass", parameters=p, vs_baseline=1 + i / 10)
        for i, (p, _) in zip(range(8), search_of().untried(search_of().recipes[1]), strict=False)
    )
    view = make_view(attempts=attempts, round=4)
    drafts = [await draft_of(view, lane=1, lanes=2) for _ in range(2)]
    assert drafts[0].model_dump_json() == drafts[1].model_dump_json()


async def run_of(rounds: int, target: str = "softmax", lanes: int = 2, **changes) -> list[Draft]:
    """Play rounds with made-up times, and return the drafts in order."""
    drafts: list[Draft] = []
    attempts: list[PastAttempt] = []
    for number in range(rounds):
        view = make_view(
            problem=load_target(target).problem, attempts=tuple(attempts), round=number, **changes
        )
        made = [await draft_of(view, lane=lane, lanes=lanes) for lane in range(lanes)]
        for draft in made:
            speed = 1 + int(draft.candidate.digest[:4], 16) / 65536
            attempts.append(past_of(draft, len(attempts), round=number, vs_baseline=speed))
        drafts += made
    return drafts


async def test_no_candidate_is_tried_twice_in_a_long_run():
    drafts = await run_of(40)
    assert len({draft.candidate.digest for draft in drafts}) == 80


async def test_lanes_of_one_round_never_meet():
    drafts = await run_of(4, lanes=4)
    assert len({draft.candidate.digest for draft in drafts}) == 16


async def test_every_recipe_gets_its_turn_early():
    drafts = await run_of(3)
    assert {draft.recipe for draft in drafts} == {"plain", "three_pass", "online"}


async def test_a_spent_search_repeats_its_best_and_says_so():
    isa = ("avx512f", "amx_tile", "amx_int8")
    drafts = await run_of(4, target="int8_scaled_mm", isa=isa)
    digests = [draft.candidate.digest for draft in drafts]
    assert len(set(digests)) == 5  # the plain recipe, and two by two of the matrix unit
    assert len(set(digests[:5])) == 5
    assert "every set of parameters was tried" in drafts[-1].motivation


async def test_the_seed_changes_what_is_sampled():
    runs = [[d.candidate.digest for d in await run_of(8, seed=seed)] for seed in (1, 2)]
    assert runs[0] != runs[1]


async def test_the_profilers_edit_is_followed_in_the_first_lane():
    base = recipe_of("three_pass").defaults()
    view = make_view(round=1, attempts=(make_past(0, recipe="plain"),))
    edit = with_edit("three_pass", **{**base, "unroll": 8})
    draft = await draft_of(view, lane=0, lanes=2, **edit)
    assert (draft.recipe, draft.parameters["unroll"]) == ("three_pass", 8)
    assert draft.motivation == "the profiler's edit: unroll"
    other = await draft_of(view, lane=1, lanes=2, **edit)
    assert other.candidate.digest != draft.candidate.digest


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [("", {}), ("unheard_of", {}), ("three_pass", {"unroll": 3}), ("three_pass", {"colour": 1})],
)
async def test_an_edit_that_no_recipe_can_make_is_passed_over(recipe, parameters):
    view = make_view(round=1, attempts=(make_past(0, recipe="plain"),))
    draft = await draft_of(view, **with_edit(recipe, **parameters))
    assert recipe_of(draft.recipe).fits(draft.parameters)
    assert "profiler" not in draft.motivation


async def test_an_edit_that_was_tried_is_not_made_again():
    view = make_view()
    best = await draft_of(view, lane=1, lanes=2)
    view = make_view(round=1, attempts=(past_of(best, 0),))
    draft = await draft_of(view, **with_edit("three_pass", **best.parameters))
    assert draft.candidate.digest != best.candidate.digest


async def test_a_refused_candidate_is_repaired_with_the_most_cautious_values():
    failed = past_of(
        await draft_of(make_view(), lane=1, lanes=2),
        0,
        outcome="rejected",
        reason=Reason.COMPILE_FAILED,
        vs_baseline=None,
    )
    view = make_view(attempts=(failed,))
    draft = await draft_of(view, repair=failed)
    cautious = {c.name: c.values[-1] for c in recipe_of("three_pass").choices}
    assert (draft.recipe, draft.parameters) == ("three_pass", cautious)
    assert "a0000 was refused" in draft.motivation

    again = past_of(draft, 1, outcome="rejected", reason=Reason.CRASHED, vs_baseline=None)
    draft = await draft_of(make_view(attempts=(failed, again)), repair=again)
    assert draft.recipe == "plain"

    plain = past_of(draft, 2, outcome="rejected", reason=Reason.CRASHED, vs_baseline=None)
    draft = await draft_of(make_view(attempts=(failed, again, plain)), repair=plain)
    assert draft.candidate.digest not in {a.candidate_digest for a in (failed, again, plain)}


async def test_a_repair_of_foreign_text_starts_from_plain_loops():
    failed = make_past(0, outcome="rejected", reason=Reason.CRASHED, vs_baseline=None)
    draft = await draft_of(make_view(attempts=(failed,)), repair=failed)
    assert draft.recipe == "plain"


def test_refused_and_foreign_attempts_do_not_disturb_the_study():
    best = recipe_of("three_pass").defaults()
    attempts = (
        make_past(0, recipe="three_pass", parameters=best, outcome="rejected", vs_baseline=None),
        make_past(1, recipe="", vs_baseline=9.0),
        make_past(2, recipe="three_pass", parameters={"gone": 1}, vs_baseline=9.0),
        make_past(3, recipe="online", parameters=recipe_of("online").defaults()),
    )
    search = search_of(attempts=attempts, round=2)
    assert search.best() == attempts[3]
    proposal = search.propose(0, None)
    assert proposal.recipe.fits(proposal.parameters)


def test_the_search_goes_where_it_is_fast():
    """With one parameter that decides all, later proposals use its good value most of the time."""
    found = search_of()
    recipe = recipe_of("three_pass")
    attempts = []
    for number, (parameters, candidate) in enumerate(found.untried(recipe)):
        if number % 5 < 2:
            speed = 2.0 if parameters["stores"] == "scratch" else 0.5
            past = make_past(
                number,
                recipe=recipe.name,
                parameters=parameters,
                candidate_digest=candidate.digest,
                vs_baseline=speed,
            )
            attempts.append(past)
    searches = [search_of(attempts=tuple(attempts), round=4, seed=seed) for seed in range(12)]
    picks = [proposal.parameters["stores"] for s in searches if (proposal := s._sampled(0))]
    assert picks.count("scratch") >= 8


def test_size_counts_every_set_of_parameters():
    search = search_of()
    assert search.size == sum(len(list(r.combinations())) for r in search.recipes)
    assert not search.is_spent()
