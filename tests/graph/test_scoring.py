"""A digest's prediction, the attempt that made its edit, and what became of it."""

import pytest

from agents.diagnosis.prediction import Score
from agents.replies import Edit, Movement
from gpu_runner.facts import Facts
from gpu_runner.jobs import Benched
from graph.events import PredictionScored, ProfileRead
from graph.nodes.profile import profile
from graph.progress import Progress, describe
from graph.report.evidence import gather
from graph.scoring import makes, prediction_at_hand, score_prediction
from graph.status import status_of
from tests.agents.diagnosis.kernels import make_kernel
from tests.graph.builders import (
    make_attempt,
    make_decision,
    make_digest,
    make_draft,
    make_record,
)
from tests.graph.nodes.workshop import Workshop

MOVES = Movement(metric="sector_use", direction="up", factor=2.0)


def edit(**changes):
    values = {
        "path": "k.cu",
        "symbol": "k",
        "change": "c",
        "why_others_are_weaker": "w",
        "expected": MOVES,
        "validation": "v",
    }
    return Edit(**{**values, **changes})


def facts(**changes):
    return Facts(tier="gpu", kernels=(make_kernel(**changes),))


@pytest.fixture
def workshop(tmp_path):
    """A run whose last digest, of a0007, expects the sectors to be used better."""
    made = Workshop(tmp_path)
    foresee(made)
    return made


def foresee(workshop, key="r001", expected=MOVES, rule="uncoalesced_dram", before=None):
    draft = make_draft()
    step = edit(expected=expected, recipe=draft.recipe, parameters=draft.parameters)
    workshop.files.save_reply(key, make_digest(next_edit=step, rule=rule))
    workshop.files.save_facts("a0007", before or facts(sector_use=0.25))
    workshop.services.tell(
        ProfileRead(
            key="profiled:a0007",
            attempt_id="a0007",
            trigger="t",
            bottleneck="b",
            next_edit="c",
            digest=key,
        )
    )


def measured(workshop, number=0, **changes):
    values = {"status": "measured", "speedup": 1.3, "parent": "a0007", "round": 2}
    lane = workshop.lane(number, f"us={80 + number}", **{**values, **changes})
    record = make_record(80.0, candidate_digest=lane.digest, sittings=1)
    job_id = f"softmax-test-r{lane.round:03}-l{lane.lane}-{lane.attempt_id}-bench-t0"
    workshop.files.save_outcome(Benched(job_id=job_id, record=record, seconds=1.0))
    return lane


def state_of(workshop, *lanes, **changes):
    return workshop.state(*lanes, **{"round": 2, "digest": "r001", **changes})


def scored(workshop):
    return [e.score for e in workshop.files.events.read() if isinstance(e, PredictionScored)]


def test_the_attempt_that_made_the_edit_is_found(workshop):
    lane = measured(workshop)
    foretold = prediction_at_hand(workshop.services, state_of(workshop, lane))
    assert foretold is not None
    assert (foretold.profiled, foretold.rule, foretold.is_scored) == (
        "a0007",
        "uncoalesced_dram",
        False,
    )
    assert foretold.followers == {lane.attempt_id}


@pytest.mark.parametrize("changes", [{"status": "rejected"}, {"round": 1}])
def test_an_attempt_without_a_time_in_this_round_tells_nothing(workshop, changes):
    lane = measured(workshop, **changes)
    assert prediction_at_hand(workshop.services, state_of(workshop, lane)) is None


def test_without_a_digest_nothing_was_foretold(workshop):
    state = state_of(workshop, measured(workshop), digest="")
    assert prediction_at_hand(workshop.services, state) is None


def test_the_metric_decides_where_both_were_profiled(workshop):
    lane = measured(workshop)
    foretold = prediction_at_hand(workshop.services, state_of(workshop, lane))
    assert foretold is not None
    for _ in range(2):  # a node that runs again says the same once
        score_prediction(workshop.services, foretold, lane, facts(sector_use=0.9))
    (found,) = scored(workshop)
    assert (found.outcome, found.rule, found.before, found.after) == (
        "hit",
        "uncoalesced_dram",
        0.25,
        0.9,
    )
    assert prediction_at_hand(workshop.services, state_of(workshop, lane)) is None


def test_a_profile_of_another_attempt_says_nothing(workshop):
    lane, other = measured(workshop), measured(workshop, 1)
    foretold = prediction_at_hand(workshop.services, state_of(workshop, lane))
    assert foretold is not None
    stranger = other.model_copy(update={"attempt_id": "a0099"})
    score_prediction(workshop.services, foretold, stranger, facts())
    score_prediction(workshop.services, foretold, None, None)
    assert scored(workshop) == []


@pytest.mark.parametrize(
    ("speedup", "outcome", "factor"),
    [(1.4, "hit", 1 / 1.4), (1.05, "miss", 1 / 1.05), (0.8, "opposite", 1 / 0.8)],
)
def test_a_time_is_scored_by_the_bench_alone(tmp_path, speedup, outcome, factor):
    workshop = Workshop(tmp_path)
    foresee(workshop, expected=Movement(metric="time_us", direction="down", factor=0.8))
    lane = measured(workshop, speedup=speedup)
    foretold = prediction_at_hand(workshop.services, state_of(workshop, lane))
    assert foretold is not None
    score_prediction(workshop.services, foretold, None, None)
    (found,) = scored(workshop)
    assert (found.metric, found.outcome) == ("time_us", outcome)
    assert found.factor == pytest.approx(factor)


def test_pairs_of_a_bench_tell_more_of_a_time_than_two_profiles(tmp_path):
    workshop = Workshop(tmp_path)
    foresee(workshop, expected=Movement(metric="time_us", direction="down", factor=0.8))
    lane = measured(workshop, speedup=1.3)
    foretold = prediction_at_hand(workshop.services, state_of(workshop, lane))
    assert foretold is not None
    score_prediction(workshop.services, foretold, lane, facts(time_us=900.0))
    assert [one.outcome for one in scored(workshop)] == ["hit"]


def test_a_time_against_another_parent_is_not_comparable(tmp_path):
    workshop = Workshop(tmp_path)
    foresee(workshop, expected=Movement(metric="time_us", direction="down", factor=0.8))
    lane = measured(workshop, parent="a0003")
    foretold = prediction_at_hand(workshop.services, state_of(workshop, lane))
    assert foretold is not None
    score_prediction(workshop.services, foretold, None, None)
    assert scored(workshop) == []


@pytest.mark.parametrize(("against", "outcome"), [("torch eager", "hit"), ("another", None)])
def test_before_a_promotion_the_baseline_tells_of_both(tmp_path, against, outcome):
    workshop = Workshop(tmp_path)
    foresee(workshop, expected=Movement(metric="time_us", direction="down", factor=0.5))
    name = workshop.services.target.baselines[0].name if outcome else against
    workshop.files.append_attempt(
        make_attempt(7, feedback=make_decision(0.5, against=name, basis="feedback"))
    )
    lane = measured(workshop, parent="", speedup=1.0)
    foretold = prediction_at_hand(workshop.services, state_of(workshop, lane))
    assert foretold is not None
    score_prediction(workshop.services, foretold, None, None)
    assert [one.outcome for one in scored(workshop)] == ([outcome] if outcome else [])


def test_a_rule_that_was_scored_before_is_known_as_such(workshop):
    old = Score(rule="uncoalesced_dram", metric="m", outcome="hit", expected_factor=2.0)
    workshop.services.tell(
        PredictionScored(key="scored:r000", digest="r000", attempt_id="a0001", score=old)
    )
    foretold = prediction_at_hand(workshop.services, state_of(workshop, measured(workshop)))
    assert foretold is not None
    assert foretold.is_scored


def test_an_edit_of_a_recipe_is_known_by_its_parameters():
    draft = make_draft()
    same = edit(recipe=draft.recipe, parameters=draft.parameters)
    assert makes(same, draft)
    assert not makes(same.model_copy(update={"parameters": {"other": 1}}), draft)
    assert not makes(same.model_copy(update={"recipe": "another"}), draft)


def test_an_edit_in_words_is_known_by_what_its_draft_expects():
    draft = make_draft().model_copy(update={"expected": MOVES})
    assert makes(edit(), draft)
    assert not makes(edit(), draft.model_copy(update={"expected": None}))


async def test_the_node_scores_what_the_round_tells(workshop):
    lane = measured(workshop)
    await profile(state_of(workshop, lane), workshop.runtime)
    (found,) = scored(workshop)
    assert found.rule == "uncoalesced_dram"
    assert found.outcome == "unmeasured"  # the pool's profile is of a processor


async def test_before_a_claim_replaces_the_digest_its_prediction_is_looked_at_once(workshop):
    follower, claimed = measured(workshop), measured(workshop, 1)
    claimed_draft = make_draft("// other").model_copy(update={"parameters": {"other": 1}})
    workshop.files.save_reply("r002-l5-t0", claimed_draft)
    other = claimed.model_copy(update={"lane": 5, "attempt_id": "a0042"})
    state = state_of(workshop, follower, other, claimed="a0042")
    await profile(state, workshop.runtime)
    assert workshop.files.facts("a0042") is not None
    assert workshop.files.facts(follower.attempt_id) is not None
    assert len(scored(workshop)) == 1


def test_status_and_console_tell_how_predictions_fare(workshop):
    for key, outcome in (("r001", "hit"), ("r002", "opposite")):
        one = Score(
            rule="barriers",
            metric="stall_sync",
            outcome=outcome,
            expected_factor=0.5,
            before=0.6,
            after=0.2,
            factor=1 / 3,
        )
        workshop.services.tell(
            PredictionScored(key=f"scored:{key}", digest=key, attempt_id="a0009", score=one)
        )
    assert status_of(workshop.files).predictions == "barriers: 1 hit, 0 miss, 1 opposite"
    progress = Progress()
    lines = []
    for event in workshop.files.events.read():
        progress.add(event)
        lines.append(describe(event) or "")
    assert (
        "prediction of barriers about a0009: HIT (stall_sync 0.6 -> 0.2, foretold 0.50 times)"
        in (lines)
    )
    found = gather(workshop.files, workshop.services.target, (), None)
    assert [one.score.outcome for one in found.predictions] == ["hit", "opposite"]


def test_what_was_not_measured_is_told_so():
    one = Score(rule="tail_wave", metric="tail_fraction", outcome="unmeasured", expected_factor=0.3)
    event = PredictionScored(key="k", digest="r001", attempt_id="a0001", score=one)
    assert describe(event) == (
        "prediction of tail_wave about a0001: UNMEASURED (tail_fraction was not measured)"
    )
