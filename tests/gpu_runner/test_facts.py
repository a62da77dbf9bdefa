"""Facts: a missing value is none, units are in the names, nothing infinite."""

import re

import pytest
from pydantic import ValidationError

from gpu_runner.facts import Facts, Hotspot, InstructionMix, Remark, Roofline
from gpu_runner.message import digest_of

ROOFLINE = {
    "workload": "rows",
    "time_us": 12.5,
    "required_bytes": 1 << 20,
    "required_flops": 2e6,
    "bandwidth_bytes_per_s": 2e10,
    "peak_flops_per_s": 5e10,
    "floor_us": 52.4,
    "fraction_reached": 4.2,
    "bound": "memory",
}


def make_facts(**changes) -> Facts:
    values = {
        "tier": "cpu",
        "remarks": (Remark(path="kernel.cpp", line=7, kind="missed", text="not vectorised"),),
        "instructions": InstructionMix(total=90, vector_bits={"256": 40, "512": 2}, fma=8),
        "roofline": (Roofline(**ROOFLINE),),
        "hotspots": (Hotspot(symbol="kp_run", share=0.9),),
        "counters": {"cycles": 1e9},
        "unavailable": ("perf counters: not permitted",),
    }
    return Facts(**{**values, **changes})


def test_facts_survive_json_with_every_part():
    facts = make_facts()
    assert Facts.model_validate_json(facts.model_dump_json()) == facts


def test_what_was_not_measured_is_none_and_not_zero():
    facts = Facts(tier="gpu")
    assert facts.instructions is None
    assert (facts.roofline, facts.hotspots, facts.counters) == ((), (), {})
    assert digest_of(facts) != digest_of(Facts(tier="gpu", instructions=InstructionMix(total=0)))


def test_a_fraction_may_exceed_one_where_a_model_was_beaten():
    assert Roofline(**ROOFLINE).fraction_reached > 1


@pytest.mark.parametrize("field", sorted(set(ROOFLINE) - {"workload", "bound"}))
def test_a_roofline_has_every_figure_and_each_is_finite(field):
    with pytest.raises(ValidationError, match=field):
        Roofline(**{name: value for name, value in ROOFLINE.items() if name != field})
    with pytest.raises(ValidationError, match=field):
        Roofline(**{**ROOFLINE, field: float("inf")})


@pytest.mark.parametrize(
    ("noun", "field", "value"),
    [
        (Remark, "kind", "error"),
        (Roofline, "bound", "network"),
        (Facts, "tier", "tpu"),
    ],
)
def test_unknown_words_are_refused_by_name(noun, field, value):
    with pytest.raises(ValidationError, match=field):
        noun.model_validate({**ROOFLINE, field: value})


def test_two_facts_lists_do_not_share_a_default():
    first, second = Facts(tier="cpu"), Facts(tier="cpu")
    first.counters["cycles"] = 1.0
    assert second.counters == {}
    assert InstructionMix(total=1).vector_bits is not InstructionMix(total=1).vector_bits


def test_every_figure_of_a_roofline_carries_its_unit():
    plain = {"workload", "bound"}
    units = re.compile(r".*_(us|bytes|flops|per_s|reached)")
    assert all(units.fullmatch(name) for name in set(Roofline.model_fields) - plain)
