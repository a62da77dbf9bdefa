"""Each rule of the table holds for its facts, in the order that makes later ones moot."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.diagnosis.vocabulary import Bottleneck, coarse
from agents.playbook.diagnosis import RULES, changes, diagnose, worst
from gpu_runner.facts import Facts, InstructionMix, Remark, Roofline
from tests.agents.builders import make_view
from tests.builders import make_workload


def make_roof(**changes) -> Roofline:
    values = {
        "workload": "small",
        "time_us": 100.0,
        "required_bytes": 1000,
        "required_flops": 1000.0,
        "bandwidth_bytes_per_s": 1e10,
        "peak_flops_per_s": 1e11,
        "floor_us": 50.0,
        "fraction_reached": 0.5,
        "bound": "memory",
    }
    return Roofline(**{**values, **changes})


def make_mix(**changes) -> InstructionMix:
    values = {"total": 100, "vector_bits": {"512": 40}, "vector_arithmetic": 40, "fma": 10}
    return InstructionMix(**{**values, **changes})


def facts_of(mix: InstructionMix | None = None, *roofs: Roofline, **changes) -> Facts:
    return Facts(tier="cpu", instructions=mix or make_mix(), roofline=roofs, **changes)


NEAR = make_roof(fraction_reached=0.9)
CASES = {
    "near_roof": facts_of(make_mix(calls_in_loops=("expf",), scalar_arithmetic=30), NEAR),
    "calls_in_loop": facts_of(
        make_mix(calls_in_loops=("expf",), scalar_arithmetic=30, spills=50), make_roof()
    ),
    "not_vectorised": facts_of(
        make_mix(vector_bits={}, vector_arithmetic=1, scalar_arithmetic=30), make_roof()
    ),
    "spills": facts_of(make_mix(spills=20), make_roof()),
    "launch_overhead": facts_of(
        None, make_roof(time_us=1.5, floor_us=0.1, bound="latency", fraction_reached=0.1)
    ),
    "division": facts_of(make_mix(division=3), make_roof(bound="compute")),
    "memory_bandwidth": facts_of(make_mix(division=3), make_roof()),
    "compute": facts_of(None, make_roof(bound="compute")),
    "latency": facts_of(None, make_roof(bound="latency", fraction_reached=0.1)),
    "unknown": Facts(tier="cpu", unavailable=("objdump: not installed",)),
}


@pytest.mark.parametrize("name", CASES)
def test_each_bottleneck_is_found_by_its_facts(name):
    found = diagnose(CASES[name], make_view())
    assert found.rule.bottleneck == name
    assert all(found.evidence)


def test_every_coarse_class_has_one_rule():
    coarse_ones = {name for name in get_args(Bottleneck) if coarse(name) == name}
    assert sorted(rule.bottleneck for rule in RULES) == sorted(coarse_ones)


def test_evidence_quotes_the_numbers():
    assert diagnose(CASES["calls_in_loop"], make_view()).evidence == (
        "expf is called from inside a loop",
    )
    assert diagnose(CASES["spills"], make_view()).evidence == (
        "20 stack accesses inside loops, of 100 instructions",
    )
    assert "30 of 31 arithmetic instructions are scalar" in (
        diagnose(CASES["not_vectorised"], make_view()).evidence
    )
    assert (
        "50% of a floor of 50 us, bound by compute"
        in (diagnose(CASES["compute"], make_view()).evidence[0])
    )


def test_narrow_vectors_are_judged_by_what_the_machine_offers():
    facts = facts_of(make_mix(vector_bits={"128": 40}), make_roof(bound="compute"))
    assert diagnose(facts, make_view()).rule.bottleneck == "not_vectorised"
    assert diagnose(facts, make_view(isa=("avx2",))).rule.bottleneck == "compute"


def test_the_compilers_remark_is_quoted_where_a_loop_is_scalar():
    remarks = (
        Remark(path="kernel.cpp", line=7, kind="note", text="n"),
        Remark(path="kernel.cpp", line=9, kind="missed", text="no vectype"),
    )
    facts = CASES["not_vectorised"].model_copy(update={"remarks": remarks})
    assert diagnose(facts, make_view()).evidence[-1] == "line 9 not vectorised: no vectype"


def test_one_workload_far_from_the_roof_is_enough_to_go_on():
    facts = facts_of(None, NEAR, make_roof(workload="large", time_us=125.0, fraction_reached=0.4))
    assert diagnose(facts, make_view()).rule.bottleneck == "memory_bandwidth"
    assert worst(facts, make_view()) == facts.roofline[1]


def test_weights_decide_where_most_is_to_gain():
    heavy, light = make_workload(weight=9.0), make_workload(name="light")
    facts = facts_of(None, make_roof(), make_roof(workload="light", time_us=400.0))
    assert worst(facts, make_view(workloads=(heavy, light))) == facts.roofline[0]
    assert worst(facts, make_view()) == facts.roofline[1]
    assert worst(facts_of(), make_view()) is None


def test_calls_so_short_that_no_floor_describes_them_do_not_hide_the_roof():
    tiny = make_roof(workload="tiny", time_us=0.6, floor_us=0.02, fraction_reached=0.03)
    assert diagnose(facts_of(None, NEAR, tiny), make_view()).rule.bottleneck == "near_roof"
    assert diagnose(facts_of(None, tiny), make_view()).rule.bottleneck != "near_roof"


def test_a_call_made_once_a_row_is_no_bottleneck():
    facts = facts_of(make_mix(calls_in_loops=("sqrt",), scalar_arithmetic=3), make_roof())
    assert diagnose(facts, make_view()).rule.bottleneck == "memory_bandwidth"


def test_one_division_in_a_long_body_is_no_bottleneck():
    facts = facts_of(make_mix(total=448, division=1), make_roof(bound="compute"))
    assert diagnose(facts, make_view()).rule.bottleneck == "compute"


def test_a_few_spills_in_a_long_body_are_no_bottleneck():
    facts = facts_of(make_mix(total=229, spills=17), make_roof())
    assert diagnose(facts, make_view()).rule.bottleneck == "memory_bandwidth"


def test_exactly_at_the_threshold_is_not_near_enough():
    facts = facts_of(None, make_roof(fraction_reached=0.85))
    assert diagnose(facts, make_view()).rule.bottleneck == "memory_bandwidth"


def test_without_parent_nothing_is_compared():
    assert changes(CASES["spills"], None) == ()


def test_what_moved_against_the_parent_is_told_with_both_numbers():
    before = facts_of(make_mix(calls_in_loops=("expf",), spills=9), make_roof(time_us=200.0))
    after = facts_of(make_mix(fma=30), make_roof(time_us=100.0, fraction_reached=1.0))
    assert changes(after, before) == (
        "fma: 10 -> 30",
        "spills: 9 -> 0",
        "no longer called from a loop: expf",
        "small: 200 -> 100 us, 50% -> 100% of the roof",
    )


def test_a_workload_that_the_parent_lacks_is_left_out():
    now = facts_of(None, make_roof(workload="new"))
    assert changes(now, facts_of(None, make_roof())) == ()


MIXES = st.builds(
    make_mix,
    division=st.integers(0, 5),
    spills=st.integers(0, 30),
    scalar_arithmetic=st.integers(0, 60),
    calls_in_loops=st.sampled_from([(), ("expf",)]),
)
ROOFS = st.builds(
    make_roof,
    fraction_reached=st.floats(0, 1.2),
    bound=st.sampled_from(["memory", "compute", "latency"]),
    time_us=st.floats(0.1, 1e4),
)


@given(st.none() | MIXES, st.lists(ROOFS, max_size=3))
def test_any_facts_have_exactly_one_diagnosis_with_evidence(mix, roofs):
    facts = Facts(tier="cpu", instructions=mix, roofline=tuple(roofs))
    found = diagnose(facts, make_view())
    assert found.evidence
    assert found == diagnose(facts, make_view())
