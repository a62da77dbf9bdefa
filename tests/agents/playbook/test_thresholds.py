"""Each threshold of the diagnosis, from both sides, and what outranks what."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.playbook.diagnosis import NEAR_ROOF, RULES, changes, diagnose, worst
from gpu_runner.facts import Facts
from tests.agents.builders import make_view
from tests.agents.playbook.test_diagnosis import CASES, facts_of, make_mix, make_roof
from tests.builders import make_workload

COMPUTE = make_roof(bound="compute")
SHORT = {"floor_us": 0.1, "fraction_reached": 0.1, "bound": "latency"}
NARROW = {"vector_bits": {"128": 40}}

SIDES = {
    "85 % of the roof is not near": (
        make_mix(),
        make_roof(fraction_reached=NEAR_ROOF),
        "memory_bandwidth",
    ),
    "a little more is": (make_mix(), make_roof(fraction_reached=0.851), "near_roof"),
    "above the roof is near": (make_mix(), make_roof(fraction_reached=1.3), "near_roof"),
    "5 us are too short for a roof": (
        make_mix(),
        make_roof(fraction_reached=0.99, time_us=5.0),
        "memory_bandwidth",
    ),
    "5.1 us are not": (make_mix(), make_roof(fraction_reached=0.99, time_us=5.1), "near_roof"),
    "a fifth of scalar work makes calls count": (
        make_mix(calls_in_loops=("expf",), scalar_arithmetic=8),
        make_roof(),
        "calls_in_loop",
    ),
    "less does not": (
        make_mix(calls_in_loops=("expf",), scalar_arithmetic=7),
        make_roof(),
        "memory_bandwidth",
    ),
    "scalar work without calls is no call": (
        make_mix(scalar_arithmetic=8),
        make_roof(),
        "memory_bandwidth",
    ),
    "half scalar is vectorised enough": (
        make_mix(scalar_arithmetic=40),
        make_roof(),
        "memory_bandwidth",
    ),
    "more than half is not": (make_mix(scalar_arithmetic=41), make_roof(), "not_vectorised"),
    "no arithmetic at all says nothing of vectors": (
        make_mix(vector_arithmetic=0, fma=0),
        make_roof(),
        "memory_bandwidth",
    ),
    "half of the width offered is enough": (make_mix(vector_bits={"256": 40}), COMPUTE, "compute"),
    "a quarter is not": (make_mix(**NARROW), COMPUTE, "not_vectorised"),
    "a width that is never used does not count": (
        make_mix(vector_bits={"512": 0, "128": 40}),
        COMPUTE,
        "not_vectorised",
    ),
    "seven spills are few": (make_mix(total=40, spills=7), COMPUTE, "compute"),
    "eight are many": (make_mix(total=40, spills=8), COMPUTE, "spills"),
    "eight of a long body are few": (make_mix(total=54, spills=8), COMPUTE, "compute"),
    "nine of sixty are many": (make_mix(total=60, spills=9), COMPUTE, "spills"),
    "a hundredth of divisions counts": (make_mix(division=1), COMPUTE, "division"),
    "less does not count": (make_mix(total=101, division=1), COMPUTE, "compute"),
    "divisions hide behind memory": (make_mix(division=9), make_roof(), "memory_bandwidth"),
    "divisions do not hide behind latency": (
        make_mix(division=9),
        make_roof(bound="latency"),
        "division",
    ),
    "5 us of latency are set-up": (make_mix(), make_roof(time_us=5.0, **SHORT), "launch_overhead"),
    "6 us are latency": (make_mix(), make_roof(time_us=6.0, **SHORT), "latency"),
    "5 us of memory traffic are no set-up": (
        make_mix(),
        make_roof(**{**SHORT, "bound": "memory"}),
        "memory_bandwidth",
    ),
}


@pytest.mark.parametrize("name", SIDES)
def test_either_side_of_a_threshold(name):
    mix, roof, bottleneck = SIDES[name]
    found = diagnose(facts_of(mix, roof), make_view())
    assert found.rule.bottleneck == bottleneck
    assert all(found.evidence)


@pytest.mark.parametrize(
    ("isa", "mix", "bottleneck"),
    [
        (("avx512f",), {"vector_bits": {"256": 9}}, "compute"),
        (("avx2", "avx512f"), NARROW, "not_vectorised"),
        (("avx2",), NARROW, "compute"),
        ((), NARROW, "compute"),
        ((), {"vector_bits": {}}, "compute"),
    ],
)
def test_what_is_narrow_depends_on_the_machine(isa, mix, bottleneck):
    found = diagnose(facts_of(make_mix(**mix), COMPUTE), make_view(isa=isa))
    assert found.rule.bottleneck == bottleneck


def test_what_makes_others_moot_outranks_them_when_all_hold_at_once():
    """Take the winner's evidence away, one after the other; the next in rank is named."""
    mix = {
        "vector_bits": {},
        "vector_arithmetic": 1,
        "scalar_arithmetic": 30,
        "calls_in_loops": ("expf",),
        "spills": 50,
        "division": 9,
    }
    named = []
    roof = make_roof(time_us=5.0, **SHORT)
    for less in ({}, {"calls_in_loops": ()}, {"scalar_arithmetic": 0}, {"spills": 0}):
        mix |= less
        named.append(diagnose(facts_of(make_mix(**mix), roof), make_view()).rule.bottleneck)
    roof = make_roof(bound="latency", fraction_reached=0.1)
    for less in ({}, {"division": 0}):
        mix |= less
        named.append(diagnose(facts_of(make_mix(**mix), roof), make_view()).rule.bottleneck)
    ranks = [rule.bottleneck for rule in RULES]
    assert named == [
        *("calls_in_loop", "not_vectorised", "spills", "launch_overhead"),
        *("division", "latency"),
    ]
    assert [ranks.index(name) for name in named] == sorted(ranks.index(name) for name in named)


@pytest.mark.parametrize("name", CASES)
def test_a_diagnosis_is_the_first_rule_that_holds(name):
    facts, view = CASES[name], make_view()
    holding = [rule for rule in RULES if rule.evidence(facts, view)]
    assert diagnose(facts, view).rule is holding[0]
    assert holding[-1].bottleneck == "unknown"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.bottleneck)
def test_a_rule_explains_itself(rule):
    assert 0 < rule.confidence < 1
    assert rule.because
    assert rule.others_are_weaker
    assert (rule.expects.factor < 1) == (rule.expects.direction == "down")
    assert not rule.query or rule.query == rule.query.lower()


def test_the_surest_rules_rest_on_what_can_be_read_in_the_code():
    sure = {rule.bottleneck for rule in RULES if rule.confidence >= 0.9}
    assert sure == {"near_roof", "calls_in_loop", "not_vectorised"}
    assert min(RULES, key=lambda rule: rule.confidence).bottleneck == "unknown"


TIMES = st.floats(0.6, 1e5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(TIMES, st.floats(0.001, 1e5), st.floats(0.1, 10)), min_size=1, max_size=5)
)
def test_equal_ratios_are_told_by_weight_and_equal_weights_by_ratio(made):
    roofs = [
        make_roof(workload=f"w{n}", time_us=time, floor_us=floor)
        for n, (time, floor, _) in enumerate(made)
    ]
    alike = [make_workload(name=f"w{n}", weight=2.0) for n in range(len(made))]
    found = worst(facts_of(None, *roofs), make_view(workloads=tuple(alike)))
    assert found is not None
    best = max(roof.time_us / (roof.floor_us + 0.5) for roof in roofs)
    assert found.time_us / (found.floor_us + 0.5) == pytest.approx(best)

    same = [make_roof(workload=f"w{n}") for n in range(len(made))]
    weighted = [make_workload(name=f"w{n}", weight=weight) for n, (*_, weight) in enumerate(made)]
    found = worst(facts_of(None, *same), make_view(workloads=tuple(weighted)))
    assert found is not None
    weights = {w.name: w.weight for w in weighted}
    assert weights[found.workload] == max(weights.values())


def test_a_floor_of_nothing_does_not_divide_by_zero():
    found = worst(facts_of(None, make_roof(floor_us=0.0, time_us=0.0)), make_view())
    assert found is not None


COUNTS = st.fixed_dictionaries(
    {name: st.integers(0, 9) for name in ("fma", "division", "spills", "vector_arithmetic")}
)


@settings(max_examples=40, deadline=None)
@given(COUNTS, COUNTS)
def test_changes_name_what_moved_and_nothing_else(now, before):
    said = changes(facts_of(make_mix(**now)), facts_of(make_mix(**before)))
    moved = [name for name in now if now[name] != before[name]]
    assert sorted(line.split(":")[0] for line in said) == sorted(moved)
    for line in said:
        name, values = line.split(": ")
        assert values == f"{before[name]} -> {now[name]}"


def test_profiles_without_counts_compare_their_roofs_alone():
    bare = Facts(tier="cpu", roofline=(make_roof(time_us=50.0, fraction_reached=0.8),))
    assert changes(bare, facts_of(None, make_roof())) == (
        "small: 100 -> 50 us, 50% -> 80% of the roof",
    )
    assert changes(facts_of(), Facts(tier="cpu")) == ()


def test_a_call_that_appears_is_not_told_as_gone():
    before, now = facts_of(make_mix()), facts_of(make_mix(calls_in_loops=("expf",)))
    assert changes(now, before) == ()
    assert changes(before, now) == ("no longer called from a loop: expf",)
