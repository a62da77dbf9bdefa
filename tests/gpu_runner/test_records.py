"""Records as files: what they refuse, what they keep, and the id that names them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gpu_runner.message import digest_of
from gpu_runner.records import (
    BenchRecord,
    Comparison,
    Decision,
    Environment,
    Series,
    Sitting,
    TimingPlan,
    Verdict,
)
from tests.builders import make_environment, make_workload
from tests.gpu_runner.measured import record_of, series_of, sitting_of

TIMES = st.lists(
    st.floats(1e-3, 1e9, allow_nan=False, allow_infinity=False), min_size=1, max_size=5
).map(tuple)
SERIES = st.builds(
    Series,
    workload=st.just("small"),
    against=st.text(min_size=1, max_size=8),
    slots=st.integers(1, 128),
    candidate_us=TIMES,
    against_us=TIMES,
    candidate_cpu_us=TIMES,
    against_cpu_us=TIMES,
)


@settings(deadline=None)
@given(st.lists(SERIES, max_size=3))
def test_a_record_comes_back_from_its_file_to_the_last_bit(series):
    record = record_of(sitting_of(0, *series))
    again = BenchRecord.model_validate_json(record.model_dump_json())
    assert again == record
    assert again.record_id == record.record_id
    times = [s.candidate_us for sitting in again.sittings for s in sitting.series]
    assert times == [s.candidate_us for s in series]


def test_an_id_is_the_beginning_of_the_contents_digest():
    record = record_of(sitting_of(0, series_of(1.1)))
    assert len(record.record_id) == 16
    assert digest_of(record).startswith(record.record_id)


CHANGES = {
    "problem_digest": "1" * 64,
    "candidate_digest": "1" * 64,
    "against": {"another": "0" * 64},
    "workloads": (make_workload(weight=2),),
    "plan": TimingPlan(pairs=41),
    "environment": make_environment(governor="powersave"),
    "sittings": (),
}


@pytest.mark.parametrize("field", CHANGES)
def test_whatever_changes_in_a_record_changes_its_id(field):
    record = record_of(sitting_of(0, series_of(1.1)))
    changed = record.model_copy(update={field: CHANGES[field]})
    assert changed.record_id != record.record_id


def test_every_field_of_a_record_is_content():
    assert set(CHANGES) == set(BenchRecord.model_fields)


def test_one_time_in_the_last_place_is_another_record():
    series = series_of(1.1)
    first = series.candidate_us[0]
    nudged = series.model_copy(
        update={"candidate_us": (first * (1 + 2**-52), *series.candidate_us[1:])}
    )
    one, other = (record_of(sitting_of(0, s)) for s in (series, nudged))
    assert one.record_id != other.record_id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sittings", 0),
        ("most_sittings", 0),
        ("pairs", 9),
        ("most_pairs", 9),
        ("pair_block", 0),
        ("candidate_s", -0.1),
        ("most_s", 0),
        ("warmup_s", -1),
        ("token_us", 0),
        ("most_slots", 0),
        ("width", 0),
        ("near_duplicate_every", 1),
        ("threads", 0),
        ("call_timeout_s", 0),
        ("call_timeout_s", float("inf")),
        ("width", float("nan")),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused_by_its_field(field, value):
    with pytest.raises(ValidationError, match=field):
        TimingPlan(**{field: value})


def test_every_count_and_limit_of_a_plan_has_a_floor():
    for name, field in TimingPlan.model_fields.items():
        floors = [type(bound).__name__ for bound in field.metadata]
        assert floors, f"{name} takes any number"


def test_the_default_plan_is_one_sitting_of_feedback():
    plan = TimingPlan()
    assert (plan.sittings, plan.most_sittings) == (1, 1)
    assert plan.pairs <= plan.most_pairs
    assert plan.near_duplicate_every < plan.pairs  # some pair of every series is a near duplicate
    assert TimingPlan.model_validate_json("{}") == plan


@pytest.mark.parametrize("field", ["speedup", "low", "high"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf")])
def test_a_speed_up_is_a_positive_number(field, value):
    values = {"verdict": "FASTER", "speedup": 1.1, "low": 1.05, "high": 1.2}
    Comparison(**values, candidate_us=1, against_us=0)
    with pytest.raises(ValidationError, match=field):
        Comparison(**{**values, field: value}, candidate_us=1, against_us=1)


def test_verdicts_are_the_words_of_the_report():
    assert [str(v) for v in Verdict] == ["FASTER", "SAME", "SLOWER", "AMBIGUOUS", "REJECTED"]


def make_decision(**changes) -> Decision:
    comparison = Comparison(
        verdict=Verdict.SAME, speedup=1.0, low=0.99, high=1.01, candidate_us=10, against_us=10
    )
    values = {
        "against": "torch eager",
        "record_id": "0" * 16,
        "basis": "claim",
        "sittings": 5,
        "clock": "wall",
        "margin": 0.03,
        "confidence": 0.995,
        "overall": comparison,
        "workloads": {"small": comparison},
    }
    return Decision(**{**values, **changes})


def test_a_decision_survives_json_with_its_verdicts():
    decision = make_decision(noise=("the machine was busy",))
    assert Decision.model_validate_json(decision.model_dump_json()) == decision
    assert '"verdict":"SAME"' in decision.model_dump_json()


@pytest.mark.parametrize(("field", "value"), [("basis", "hope"), ("clock", "gpu")])
def test_a_decision_has_known_grounds(field, value):
    with pytest.raises(ValidationError, match=field):
        make_decision(**{field: value})


def test_a_key_is_kept_as_a_digest_only():
    assert "key" not in Sitting.model_fields
    with pytest.raises(ValidationError, match="key_digest"):
        sitting_of(0).model_copy().model_validate(
            {**sitting_of(0).model_dump(), "key_digest": "the key itself"}
        )


def test_what_a_machine_does_not_say_is_empty_and_not_invented():
    least = {"machine": "m", "arch": "x86_64", "cores": 1, "memory_bytes": 1, "kernel": "6"}
    environment = Environment(**least, python="3.11")
    assert environment.sandbox == environment.isa == ()
    assert {environment.torch, environment.governor, environment.huge_pages} == {""}
