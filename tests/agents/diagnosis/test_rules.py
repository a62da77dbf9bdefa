import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.diagnosis.comparison import METRICS
from agents.diagnosis.device import DEVICE_RULES
from agents.diagnosis.rules import (
    Condition,
    DeviceRule,
    Treatment,
    at_least,
    at_most,
    judge,
    missing,
)
from agents.diagnosis.signals import signals
from agents.diagnosis.vocabulary import CLASSES, COARSE, LABELS, coarse
from agents.replies import Movement
from tests.agents.diagnosis.kernels import KNOWN, known, make_kernel

TREATMENT = Treatment(
    change="c", expects=Movement(metric="time_us", direction="down", factor=0.8), validation="v"
)


def rule(*conditions, **changes):
    values = {
        "name": "r",
        "bottleneck": "tail",
        "tier": 1,
        "conditions": conditions,
        "because": ("b",),
        "others_are_weaker": "o",
        "treatment": TREATMENT,
        "query": "q",
    }
    return DeviceRule(**{**values, **changes})


def test_all_conditions_must_hold():
    one = rule(at_least("a", 0.5, 1.0, "s"), at_most("b", 0.5, 0.0, "s"))
    assert judge({"a": 0.5, "b": 0.5}, "", [one])
    assert not judge({"a": 0.49, "b": 0.5}, "", [one])
    assert not judge({"a": 0.5, "b": 0.51}, "", [one])
    assert not judge({"a": 0.5}, "", [one])


@pytest.mark.parametrize(
    ("value", "confidence"), [(0.5, 0.5), (0.75, 0.72), (1.0, 0.95), (9, 0.95)]
)
def test_the_margin_gives_the_confidence(value, confidence):
    (verdict,) = judge({"a": value}, "", [rule(at_least("a", 0.5, 1.0, "s"))])
    assert verdict.confidence == pytest.approx(confidence, abs=0.011)


def test_the_least_margin_counts():
    one = rule(at_least("a", 0.5, 1.0, "s"), at_most("b", 0.5, 0.0, "s"))
    (verdict,) = judge({"a": 1.0, "b": 0.45}, "", [one])
    assert [reading.margin for reading in verdict.readings] == [1.0, pytest.approx(0.1)]
    assert verdict.confidence == pytest.approx(0.545, abs=0.01)


def test_a_threshold_may_depend_on_the_architecture():
    one = Condition(
        signal="a", op=">=", threshold=0.5, sure=1.0, source="s", by_arch={"sm_80": 0.8}
    )
    assert judge({"a": 0.6}, "sm_90", [rule(one)])
    assert not judge({"a": 0.6}, "sm_80", [rule(one)])


def test_the_lower_tier_wins_then_the_busier_unit():
    ask = at_least("a", 0.1, 1.0, "s")
    rules = [
        rule(ask, name="late", tier=3),
        rule(ask, name="idle", tier=2, utilisation="u"),
        rule(ask, name="busy", tier=2, utilisation="w"),
    ]
    held = judge({"a": 1.0, "u": 0.7, "w": 0.9}, "", rules)
    assert [one.rule.name for one in held] == ["busy", "idle", "late"]


def test_missing_signals_are_those_that_most_rules_want():
    rules = [
        rule(at_least("a", 0, 1, "s"), at_least("b", 0, 1, "s")),
        rule(at_least("a", 0, 1, "s"), at_least("c", 0, 1, "s", is_needed=False)),
    ]
    assert missing({}, rules) == ("a", "b")
    assert missing({"a": 1.0}, rules) == ("b",)


def test_names_are_unique_and_every_rule_explains_itself():
    names = [one.name for one in DEVICE_RULES]
    assert len(set(names)) == len(names)
    for one in DEVICE_RULES:
        assert one.bottleneck in CLASSES
        assert one.because
        assert one.others_are_weaker
        assert one.query
        assert all(condition.source for condition in one.conditions)


@pytest.mark.parametrize("one", DEVICE_RULES, ids=lambda one: one.name)
def test_a_prediction_has_a_sign_and_a_size_of_a_metric_that_is_shown(one):
    expects = one.treatment.expects
    assert (expects.factor < 1) == (expects.direction == "down")

    assert expects.metric in _every_signal()
    shown = METRICS.keys() | {
        "pipe_int",
        "pipe_xu",
        "atomic_unit_fraction",
        "balance_fraction",
        "dram_bytes",
        "shared_fraction",
    }
    assert expects.metric in shown


def test_conditions_ask_for_signals_that_exist():
    asked = {c.signal for one in DEVICE_RULES for c in one.conditions}
    assert asked <= _every_signal() | {"stall_tensor"}


def _every_signal() -> set[str]:
    kernels = [
        *known().values(),
        make_kernel(stalls={}, memory_fraction=0.5),
        make_kernel(
            spill_bytes=3,
            required_bytes=1.0,
            dram_bytes=2.0,
            atomic_unit_fraction=0.1,
            balance_fraction=0.5,
            pipes={"fma": 0.1, "xu": 0.1, "fp64": 0.1},
        ),
    ]
    return {name for kernel in kernels for name in signals(kernel)}


def test_every_class_has_a_label_and_fine_ones_a_coarse_class():
    assert set(LABELS) == set(CLASSES)
    for fine, wide in COARSE.items():
        assert fine in CLASSES
        assert wide in CLASSES
        assert coarse(wide) == wide
    assert coarse("spills") == "spills"


@pytest.mark.parametrize("name", KNOWN)
def test_fewer_counters_never_name_another_class_with_more_confidence(name):
    whole = known()[name]
    held = judge(signals(whole), whole.arch, DEVICE_RULES)
    values = dict(signals(whole))
    for signal in list(values):
        less = {key: value for key, value in values.items() if key != signal}
        for verdict in judge(less, whole.arch, DEVICE_RULES)[:1]:
            assert verdict.confidence <= held[0].confidence + 1e-9 or verdict.rule in {
                one.rule for one in held
            }


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_confidence_lies_between_half_and_all_but_one_in_twenty(value, threshold, sure):
    for verdict in judge({"a": value}, "", [rule(at_least("a", threshold, sure, "s"))]):
        assert 0.5 <= verdict.confidence <= 0.95
