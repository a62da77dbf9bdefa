import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.diagnosis.prediction import Score, Tally, outcome_of, score, tally
from agents.replies import Movement
from gpu_runner.facts import Facts
from tests.agents.diagnosis.kernels import make_kernel


def expects(metric="sector_use", direction="up", factor=2.0):
    return Movement(metric=metric, direction=direction, factor=factor)


@pytest.mark.parametrize(
    ("direction", "factor", "before", "after", "outcome"),
    [
        ("up", 2.0, 0.3, 0.6, "hit"),
        ("up", 2.0, 0.3, 0.9, "hit"),
        ("up", 2.0, 0.3, 0.43, "hit"),
        ("up", 2.0, 0.3, 0.41, "miss"),
        ("up", 2.0, 0.3, 0.3, "miss"),
        ("up", 2.0, 0.3, 0.295, "miss"),
        ("up", 2.0, 0.3, 0.29, "opposite"),
        ("down", 0.5, 100, 50, "hit"),
        ("down", 0.5, 100, 71, "miss"),
        ("down", 0.5, 100, 70, "hit"),
        ("down", 0.5, 100, 103, "opposite"),
        ("down", 0.5, 5, 0, "hit"),
        ("up", 2.0, 0, 5, "hit"),
        ("down", 0.5, 0, 5, "opposite"),
        ("down", 0.5, 0, 0, "unmeasured"),
        ("down", 0.5, None, 5, "unmeasured"),
        ("down", 0.5, 5, None, "unmeasured"),
        ("down", 1.0, 100, 104, "hit"),
        ("down", 1.0, 100, 106, "miss"),
        ("down", 1.0, 100, 90, "miss"),
    ],
)
def test_a_prediction_is_a_hit_a_miss_or_the_opposite(direction, factor, before, after, outcome):
    assert outcome_of(expects(direction=direction, factor=factor), before, after) == outcome


def facts(**changes):
    return Facts(tier="gpu", kernels=(make_kernel(**changes),))


def test_a_score_has_metric_values_and_factor():
    found = score(expects(), facts(sector_use=0.25), facts(sector_use=1.0), rule="uncoalesced_dram")
    assert found == Score(
        rule="uncoalesced_dram",
        metric="sector_use",
        outcome="hit",
        before=0.25,
        after=1.0,
        expected_factor=2.0,
        factor=4.0,
    )


def test_a_metric_that_one_profile_lacks_is_unmeasured():
    found = score(expects(), facts(sector_use=0.25), Facts(tier="gpu"))
    assert (found.outcome, found.factor) == ("unmeasured", None)


def test_a_speedup_comes_from_the_bench():
    wanted = expects("speedup", factor=1.2)
    assert score(wanted, facts(), facts(), speedup=1.15).outcome == "hit"
    assert score(wanted, facts(), facts(), speedup=0.9).outcome == "opposite"
    assert score(wanted, facts(time_us=None), facts()).outcome == "unmeasured"


def test_without_a_bench_a_speedup_comes_from_the_profiles_times():
    wanted = expects("speedup", factor=1.2)
    found = score(wanted, facts(time_us=120.0), facts(time_us=100.0))
    assert (found.outcome, found.before) == ("hit", 1.0)
    assert found.after == pytest.approx(1.2)


def test_outcomes_are_kept_by_rule():
    outcomes = ("hit", "hit", "miss", "unmeasured")
    scores = [Score(rule="b", metric="m", outcome=o, expected_factor=2.0) for o in outcomes]
    other = Score(rule="a", metric="m", outcome="opposite", expected_factor=2.0)
    assert tally([*scores, other]) == (
        Tally(rule="a", opposites=1),
        Tally(rule="b", hits=2, misses=1, unmeasured=1),
    )
    assert [row.scored for row in tally([*scores, other])] == [1, 3]
    assert tally([]) == ()


positive = st.floats(1e-6, 1e6)


@given(positive, positive, st.floats(1.1, 10))
def test_what_is_right_one_way_is_wrong_the_other(before, after, factor):
    up = outcome_of(expects(factor=factor), before, after)
    down = outcome_of(expects(direction="down", factor=1 / factor), before, after)
    assert not (up == "hit" and down == "hit")
    assert (up == "hit") <= (down == "opposite")


@given(positive, st.floats(1.05, 10))
def test_what_happens_as_foretold_is_a_hit(before, factor):
    assert outcome_of(expects(factor=factor), before, before * factor) == "hit"
    assert (
        outcome_of(expects(direction="down", factor=1 / factor), before, before / factor) == "hit"
    )
