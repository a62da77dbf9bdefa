"""Each condition of every rule on both sides of its threshold; predictions at their borders."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.diagnosis.comparison import bytes_of, compare, explain, microseconds, relative
from agents.diagnosis.device import DEVICE_RULES, place
from agents.diagnosis.prediction import Score, outcome_of, score, tally
from agents.diagnosis.query import evidence_query
from agents.diagnosis.rules import Condition, judge
from agents.diagnosis.vocabulary import CLASSES, LABELS
from agents.replies import Movement
from gpu_runner.facts import Facts, Hotspot
from tests.agents.diagnosis.kernels import make_kernel

ARCHES = ("", "sm_89", "sm_90")
ASKED = [
    pytest.param(rule, condition, id=f"{rule.name}-{condition.signal}")
    for rule in DEVICE_RULES
    for condition in rule.conditions
]


def beyond(condition: Condition, arch: str = "") -> float:
    """The nearest value that does not hold."""
    limit = condition.limit(arch)
    return math.nextafter(limit, -math.inf if condition.op == ">=" else math.inf)


def at_limits(rule, arch=""):
    return {one.signal: one.limit(arch) for one in rule.conditions}


def held(rule, known, arch=""):
    return [verdict.rule.name for verdict in judge(known, arch, [rule])] == [rule.name]


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("rule", DEVICE_RULES, ids=lambda one: one.name)
def test_a_rule_holds_at_all_its_thresholds_and_least_surely_there(rule, arch):
    known = at_limits(rule, arch)
    (verdict,) = judge(known, arch, [rule])
    limits = [one.limit(arch) for one in rule.conditions]
    assert [reading.threshold for reading in verdict.readings] == limits
    sure = judge({one.signal: one.sure for one in rule.conditions}, arch, [rule])
    assert [one.confidence for one in sure] == [0.95]
    assert 0.5 <= verdict.confidence <= 0.95


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize(("rule", "condition"), ASKED)
def test_one_condition_that_just_fails_ends_its_rule(rule, condition, arch):
    known = at_limits(rule, arch)
    assert held(rule, known, arch)
    assert not held(rule, {**known, condition.signal: beyond(condition, arch)}, arch)


@pytest.mark.parametrize(("rule", "condition"), ASKED)
def test_what_was_not_measured_ends_a_rule_or_costs_it_a_tenth(rule, condition):
    sure = {one.signal: one.sure for one in rule.conditions}
    less = {name: value for name, value in sure.items() if name != condition.signal}
    verdicts = judge(less, "", [rule])
    if condition.is_needed:
        assert verdicts == ()
    else:
        assert [one.missing for one in verdicts] == [(condition.signal,)]
        # Half of what it can be and more, so no digest calls it a guess.
        assert verdicts[0].confidence < 0.95
        assert verdicts[0].confidence >= round(0.5 * 0.9, 2)


@pytest.mark.parametrize(("rule", "condition"), ASKED)
def test_to_be_sure_lies_on_the_side_that_holds(rule, condition):
    for arch in ARCHES:
        limit = condition.limit(arch)
        assert condition.sure >= limit if condition.op == ">=" else condition.sure <= limit
    assert condition.source, rule.name


@given(st.sampled_from(ASKED), st.floats(0, 1))
def test_confidence_never_falls_towards_where_nothing_is_in_doubt(param, share):
    rule, condition = param.values
    sure = {one.signal: one.sure for one in rule.conditions}
    limit = condition.limit("")
    part = limit + (condition.sure - limit) * share
    (nearer,) = judge({**sure, condition.signal: condition.sure}, "", [rule])
    (farther,) = judge({**sure, condition.signal: part}, "", [rule])
    (least,) = judge({**sure, condition.signal: limit}, "", [rule])
    assert least.confidence <= farther.confidence <= nearer.confidence


def expects(direction="up", factor=2.0, metric="sector_use"):
    return Movement(metric=metric, direction=direction, factor=factor)


HALF = math.sqrt(2.0)


@pytest.mark.parametrize(
    ("direction", "factor", "before", "after", "outcome"),
    [
        ("up", 2.0, 1.0, HALF * 1.0001, "hit"),
        ("up", 2.0, 1.0, HALF * 0.9999, "miss"),
        ("up", 2.0, 1.0, 1.0, "miss"),
        ("up", 2.0, 1.0, 1 / 1.0199, "miss"),
        ("up", 2.0, 1.0, 1 / 1.0201, "opposite"),
        ("down", 0.5, 1.0, 0.9999 / HALF, "hit"),
        ("down", 0.5, 1.0, 1.0001 / HALF, "miss"),
        ("down", 0.5, 1.0, 1.0199, "miss"),
        ("down", 0.5, 1.0, 1.0201, "opposite"),
        ("up", 1.0, 1.0, 1.052, "hit"),
        ("up", 1.0, 1.0, 1.053, "miss"),
        ("down", 1.0, 0.0, 1.0, "miss"),
        ("up", 2.0, -1.0, 1.0, "unmeasured"),
        ("up", 2.0, 1.0, -1.0, "unmeasured"),
        ("up", 2.0, None, None, "unmeasured"),
        ("up", 2.0, 0.0, 0.0, "unmeasured"),
        ("up", 2.0, 1.0, 0.0, "opposite"),
        ("up", 2.0, 1e300, 1e-300, "opposite"),
        ("down", 0.5, 1e300, 1e-300, "hit"),
        ("up", 2.0, 5e-324, 1e300, "hit"),
    ],
)
def test_outcomes_at_their_borders(direction, factor, before, after, outcome):
    assert outcome_of(expects(direction, factor), before, after) == outcome


positive = st.floats(1e-9, 1e9)


@given(positive, positive, st.floats(1.05, 10), st.floats(1e-3, 1e3))
def test_an_outcome_does_not_depend_on_the_unit(before, after, factor, unit):
    wanted = expects(factor=factor)
    ratio = after / before
    borders = (math.sqrt(factor), 1 / 1.02)
    if all(abs(ratio / border - 1) > 1e-9 for border in borders):
        assert outcome_of(wanted, before * unit, after * unit) == outcome_of(wanted, before, after)


def facts(**changes):
    return Facts(tier="gpu", kernels=(make_kernel(**changes),))


@pytest.mark.parametrize(
    ("before", "after", "outcome", "factor"),
    [
        ({"sector_use": 0.25}, {"sector_use": 0.5}, "hit", 2.0),
        ({"sector_use": 0.5}, {"sector_use": 0.5}, "miss", 1.0),
        ({"sector_use": 0.5}, {"sector_use": 0.25}, "opposite", 0.5),
        ({"sector_use": None}, {"sector_use": 0.5}, "unmeasured", None),
        ({"sector_use": 0.5}, {"sector_use": None}, "unmeasured", None),
        ({"sector_use": 0.0}, {"sector_use": 0.5}, "hit", None),
        ({"sector_use": 0.5}, {"sector_use": 0.0}, "opposite", 0.0),
    ],
)
def test_a_score_is_of_the_metric_that_was_foretold(before, after, outcome, factor):
    scored = score(expects(), facts(**before), facts(**after), rule="r")
    assert (scored.outcome, scored.factor, scored.expected_factor) == (outcome, factor, 2.0)
    assert (scored.before, scored.after) == (before["sector_use"], after["sector_use"])


def test_a_metric_that_no_signal_has_is_unmeasured():
    scored = score(expects(metric="no_such_signal"), facts(), facts())
    assert (scored.outcome, scored.metric) == ("unmeasured", "no_such_signal")


outcomes = st.sampled_from(["hit", "miss", "opposite", "unmeasured"])


@given(st.lists(st.tuples(st.sampled_from("abc"), outcomes)))
def test_a_tally_counts_each_score_once(given_scores):
    scores = [
        Score(rule=rule, metric="m", outcome=outcome, expected_factor=2.0)
        for rule, outcome in given_scores
    ]
    rows = tally(scores)
    assert [row.rule for row in rows] == sorted({rule for rule, _ in given_scores})
    for row in rows:
        mine = [outcome for rule, outcome in given_scores if rule == row.rule]
        assert (row.hits, row.unmeasured) == (mine.count("hit"), mine.count("unmeasured"))
        assert row.scored == len(mine) - mine.count("unmeasured")
    assert tally(reversed(scores)) == rows


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (999.4, "999 B"),
        (999.6, "1 KB"),
        (999_400, "999 KB"),
        (999_600, "1 MB"),
        (999_999_999, "1 GB"),
        (1e15, "1 PB"),
        (-2048.0, "-2.05 KB"),
    ],
)
def test_bytes_never_count_a_thousand_of_a_unit(value, text):
    assert bytes_of(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 us"), (0.5, "0.5 us"), (999_900.0, "999.9 ms"), (1e6, "1 s"), (2.5e7, "25 s")],
)
def test_long_times_are_seconds(value, text):
    assert microseconds(value) == text


@given(st.floats(1e-3, 1e9))
def test_no_quantity_is_told_with_an_exponent(value):
    assert "e" not in bytes_of(value)
    assert "e" not in microseconds(value)


@pytest.mark.parametrize(
    ("change", "text"),
    [(-0.001, "+0 %"), (0.0, "+0 %"), (-0.006, "-1 %"), (0.5, "+50 %"), (math.inf, "+inf %")],
)
def test_no_minus_stands_before_a_zero(change, text):
    assert relative(change) == text


def test_a_share_that_hardly_moved_is_no_minus_either():
    (one,) = (
        delta
        for delta in compare(make_kernel(dram_fraction=0.3001), make_kernel(dram_fraction=0.3))
        if delta.metric == "dram_fraction"
    )
    assert one.shown_change == "+0.0 points"


@pytest.mark.parametrize(("after", "explains"), [(102.0, False), (102.1, True), (98.0, False)])
def test_only_what_is_slower_by_more_than_noise_is_explained(after, explains):
    before = make_kernel(time_us=100.0, sector_use=1.0)
    assert bool(explain(before, make_kernel(time_us=after, sector_use=0.5))) == explains


def spot(share, path, line):
    return Hotspot(symbol="line", share=share, path=path, line=line, text="x")


@pytest.mark.parametrize(
    ("spots", "file"),
    [
        ((), "the kernel's source"),
        ((spot(0.9, "", 3),), "the kernel's source"),
        ((spot(0.9, "/usr/include/x.h", 3), spot(0.1, "own.cu", 7)), "own.cu:7"),
        ((spot(0.9, "/usr/include/x.h", 3),), "/usr/include/x.h:3"),
        ((spot(0.2, "a.cu", 1), spot(0.3, "b.cu", 2)), "b.cu:2"),
        ((spot(0.9, "a.cu", None),), "the kernel's source"),
    ],
)
def test_the_edit_is_placed_at_the_hottest_line_of_the_users_own(spots, file):
    assert place(make_kernel(hotspots=spots)) == (file, "k")


@pytest.mark.parametrize("symptom", CLASSES)
def test_every_class_can_be_asked_about(symptom):
    query = evidence_query(symptom, "", arch="sm_100a", language="cuda", operator="softmax")
    assert query.arch == "sm_100"
    words = query.text.split()
    assert len(words) == len(set(words))
    assert {*LABELS[symptom].split(), "cuda", "softmax", "blackwell", "b200"} <= set(words)
