import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.jobs import Reason
from graph.ledger import Attempt, AttemptOutcome, ExitReason
from graph.report import story
from graph.target import Goal
from tests.graph.synthetic_run import SyntheticRun, whole_run
from tests.graph.synthetic_target import COMPILED, EAGER, make_manifest, make_target


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return whole_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def short(tmp_path):
    return SyntheticRun(tmp_path)


def attempts_of(run):
    return run.files.attempts()


def test_headline_of_an_ended_run_is_the_final_claim(run, tmp_path):
    ended = whole_run(tmp_path)
    result = ended.finish()
    found = story.headline(ended.manifest, attempts_of(ended), result)
    assert found.is_final
    assert found.decisions == result.best
    assert found.attempt is not None
    assert found.attempt.attempt_id == "a0013"


def test_headline_of_a_run_in_progress_is_the_last_promotion(run):
    found = story.headline(run.manifest, attempts_of(run), None)
    assert not found.is_final
    assert found.attempt == run.incumbent
    assert found.decisions == run.incumbent.claims


def test_headline_lists_baselines_in_the_targets_order(run):
    turned = make_target(baselines=tuple(reversed(make_target().baselines)))
    found = story.headline(make_manifest(target=turned), attempts_of(run), None)
    assert [decision.against for decision in found.decisions] == [COMPILED, EAGER]


def test_headline_without_a_promotion_has_no_numbers(short):
    short.rejected()
    short.measured(0.9)
    found = story.headline(short.manifest, attempts_of(short), short.finish(ExitReason.PLATEAU))
    assert found.attempt is None
    assert found.decisions == ()
    assert found.is_goal_met is None


@pytest.mark.parametrize(("share_of_low", "is_met"), [(0.9, True), (1.0, True), (1.001, False)])
def test_the_goal_is_met_by_the_low_end(run, share_of_low, is_met):
    wanted = run.incumbent.claims[0].overall.low * share_of_low
    manifest = make_manifest(target=make_target(goal=Goal(speedup=wanted, against=EAGER)))
    assert story.headline(manifest, attempts_of(run), None).is_goal_met is is_met


def test_a_goal_against_what_was_not_claimed_is_not_decided(run):
    manifest = make_manifest(target=make_target(goal=Goal(against="some library")))
    assert story.headline(manifest, attempts_of(run), None).is_goal_met is None


def test_a_claim_places_an_attempt_directly(run):
    point = next(p for p in story.points(attempts_of(run), EAGER) if p.attempt.version == "v002")
    claim = point.attempt.claims[0]
    assert point.is_direct
    assert (point.speedup, point.low, point.high) == (
        claim.overall.speedup,
        claim.overall.low,
        claim.overall.high,
    )


def test_an_attempt_against_the_incumbent_is_placed_through_its_claim(run):
    rows = attempts_of(run)
    point = next(p for p in story.points(rows, EAGER) if p.attempt.attempt_id == "a0006")
    parent = next(a for a in rows if a.attempt_id == "a0005")
    assert not point.is_direct
    assert point.attempt.feedback is not None
    feedback = point.attempt.feedback.overall
    base = parent.claims[0].overall.speedup
    assert point.speedup == pytest.approx(feedback.speedup * base)
    assert point.low == pytest.approx(feedback.low * base)
    assert point.high == pytest.approx(feedback.high * base)


def test_an_attempt_without_parent_is_placed_through_the_last_promotion(short):
    short.promoted(1.5)
    lost = short.measured(0.9, parent=None)
    point = story.points(attempts_of(short), EAGER)[-1]
    assert point.attempt == lost
    assert point.speedup == pytest.approx(0.9 * 1.5)


def test_what_has_no_measurement_is_not_placed(run):
    placed = {point.attempt.attempt_id for point in story.points(attempts_of(run), EAGER)}
    silent = {a.attempt_id for a in attempts_of(run) if a.feedback is None}
    assert placed.isdisjoint(silent)
    assert len(placed) + len(silent) == len(attempts_of(run))


def test_feedback_against_another_baseline_needs_a_chain(short):
    candidate = short.candidate()
    short.attempt(
        candidate=candidate,
        outcome=AttemptOutcome.MEASURED,
        feedback=short.decision(candidate, COMPILED, 0.8, 1),
    )
    assert story.points(attempts_of(short), EAGER) == ()


def test_latency_interval_follows_the_speedup_interval(run):
    for point in story.points(attempts_of(run), EAGER):
        assert point.latency_low_us < point.latency_us < point.latency_high_us


def test_points_keep_the_ledgers_order(run):
    orders = [point.order for point in story.points(attempts_of(run), EAGER)]
    assert orders == sorted(orders)


def test_every_record_is_named_once(run):
    tuning, result = run.tuning(), None
    found = story.record_ids(attempts_of(run), tuning, result)
    assert len(found) == len(set(found))
    assert set(found) == set(run.files.records())


def test_record_ids_of_the_final_claim_are_included(tmp_path):
    ended = whole_run(tmp_path)
    before = set(story.record_ids(attempts_of(ended), None, None))
    result = ended.finish()
    added = set(story.record_ids(attempts_of(ended), None, result)) - before
    assert added == {decision.record_id for decision in result.best}


def test_counts_name_every_outcome(run):
    assert story.counts(attempts_of(run)) == {
        AttemptOutcome.PROMOTED: 4,
        AttemptOutcome.MEASURED: 9,
        AttemptOutcome.REJECTED: 3,
        AttemptOutcome.UNSERVED: 1,
    }


def test_lineage_of_successive_promotions_is_one_column(run):
    rows = story.lineage(attempts_of(run))
    assert [row.attempt.version if row.attempt else "" for row in rows] == [
        "",
        "v001",
        "v002",
        "v003",
        "v004",
    ]
    assert {row.depth for row in rows} == {0}
    assert [row.parent_row for row in rows] == [None, 0, 1, 2, 3]


def test_lineage_puts_dead_ends_beside_what_they_came_from(run):
    rows = story.lineage(attempts_of(run))
    assert [leaf.attempt_id for leaf in rows[0].leaves] == ["a0001"]
    assert [leaf.attempt_id for leaf in rows[2].leaves] == ["a0006", "a0007"]


def test_a_branch_gets_a_column_of_its_own(short):
    first = short.promoted(1.2)
    branch = short.promoted(1.1)
    short.incumbent = first
    short.promoted(1.3)
    rows = story.lineage(attempts_of(short))
    assert [(row.attempt.attempt_id if row.attempt else "", row.depth) for row in rows] == [
        ("", 0),
        ("a0001", 0),
        (branch.attempt_id, 1),
        ("a0003", 0),
    ]
    assert [row.parent_row for row in rows] == [None, 0, 1, 1]


def test_an_unknown_parent_hangs_on_the_start(short):
    short.measured(0.9, parent="a0099")
    rows = story.lineage(attempts_of(short))
    assert [leaf.attempt_id for leaf in rows[0].leaves] == ["a0001"]


@given(st.lists(st.tuples(st.booleans(), st.integers(min_value=-1, max_value=30)), max_size=30))
def test_lineage_holds_every_attempt_once(tree):
    attempts = tuple(
        _row(index, is_promoted=is_promoted, parent=parent)
        for index, (is_promoted, parent) in enumerate(tree)
    )
    rows = story.lineage(attempts)
    held = [row.attempt.attempt_id for row in rows if row.attempt]
    held += [leaf.attempt_id for row in rows for leaf in row.leaves]
    assert sorted(held) == [attempt.attempt_id for attempt in attempts]
    assert all(
        row.parent_row < index for index, row in enumerate(rows) if row.parent_row is not None
    )


def _row(index, *, is_promoted, parent):
    """An attempt whose parent, if any, came before it."""
    return _BLANK.model_copy(
        update={
            "attempt_id": f"a{index:04d}",
            "parent": f"a{parent:04d}" if 0 <= parent < index else None,
            "outcome": AttemptOutcome.PROMOTED if is_promoted else AttemptOutcome.REJECTED,
            "reason": None if is_promoted else Reason.WRONG_RESULT,
        }
    )


_BLANK = Attempt(
    attempt_id="a0000",
    round=1,
    lane=0,
    candidate_digest="0" * 64,
    language="cpp",
    motivation="because",
    outcome=AttemptOutcome.REJECTED,
)


@pytest.mark.parametrize(("share_of_low", "is_met"), [(0.99, True), (1.01, False)])
def test_a_goal_against_the_best_is_decided_by_the_smallest_gain(run, share_of_low, is_met):
    claims = {claim.against: claim.overall for claim in run.incumbent.claims}
    weakest = min((EAGER, COMPILED), key=lambda name: claims[name].speedup)
    goal = Goal(speedup=claims[weakest].low * share_of_low, against="best")
    found = story.headline(make_manifest(target=make_target(goal=goal)), attempts_of(run), None)
    assert (found.bar, found.is_goal_met) == (weakest, is_met)


def test_without_claims_nothing_decides_the_goal(short):
    short.rejected()
    manifest = make_manifest(target=make_target(goal=Goal(against="best")))
    assert story.headline(manifest, attempts_of(short), None).bar == ""
