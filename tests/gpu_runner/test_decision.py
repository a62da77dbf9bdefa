import math

import numpy as np
import pytest

from gpu_runner.decision import decide
from gpu_runner.records import Verdict
from tests.builders import make_workload
from tests.gpu_runner.measured import (
    BASE,
    claim,
    mixed,
    overall,
    record_of,
    series_of,
    sitting_of,
    two_clocks,
)

# The rule ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((1.20, 1.21, 1.19, 1.20, 1.22), Verdict.FASTER),
        ((1.08, 1.09, 1.08, 1.085, 1.08), Verdict.FASTER),
        ((0.85, 0.84, 0.86, 0.85, 0.85), Verdict.SLOWER),
        ((1.00, 1.001, 0.999, 1.0, 1.0), Verdict.SAME),
        ((1.01, 1.011, 1.009, 1.01, 1.01), Verdict.SAME),
        ((1.03, 1.03, 1.03, 1.03, 1.03), Verdict.AMBIGUOUS),
        ((1.20, 1.21, 1.19, 0.70, 1.22), Verdict.AMBIGUOUS),
        ((1.50, 1.05, 1.40, 1.10, 1.60), Verdict.AMBIGUOUS),
        ((0.90, 1.10, 0.95, 1.05, 1.00), Verdict.AMBIGUOUS),
    ],
)
def test_five_sittings_decide(ratios, verdict):
    assert overall(claim(*ratios)).verdict is verdict


def test_the_estimate_is_the_geometric_mean_of_the_sittings():
    comparison = overall(claim(1.10, 1.20, 1.30, 1.20, 1.21, noise=1e-6))
    mean = math.exp(np.mean(np.log([1.10, 1.20, 1.30, 1.20, 1.21])))
    assert comparison.speedup == pytest.approx(mean, rel=1e-5)
    spread = np.log([1.10, 1.20, 1.30, 1.20, 1.21]).std(ddof=1) / math.sqrt(5)
    assert comparison.low == pytest.approx(mean * math.exp(-4.604095 * spread), rel=1e-4)
    assert comparison.high == pytest.approx(mean * math.exp(4.604095 * spread), rel=1e-4)


def test_from_six_sittings_on_the_extremes_are_dropped():
    comparison = overall(claim(0.50, 1.20, 1.21, 1.19, 1.20, 3.00, noise=1e-6))
    assert comparison.speedup == pytest.approx(1.2, rel=1e-3)
    assert comparison.low > 1.15
    assert comparison.verdict is Verdict.FASTER


@pytest.mark.parametrize(
    ("sittings", "odd", "verdict"),
    [
        (5, 1, Verdict.AMBIGUOUS),  # forgiven, but five leave too wide an interval around it
        (7, 1, Verdict.FASTER),
        (9, 1, Verdict.FASTER),
        (9, 2, Verdict.AMBIGUOUS),
        (13, 2, Verdict.FASTER),
        (13, 3, Verdict.AMBIGUOUS),
    ],
)
def test_one_odd_sitting_in_five_is_forgiven(sittings, odd, verdict):
    usual = [1.20, 1.21, 1.19, 1.20, 1.20, 1.21, 1.20, 1.20, 1.19, 1.20, 1.20, 1.20, 1.21]
    speedups = usual[: sittings - odd] + [1.02] * odd
    assert overall(claim(*speedups, noise=1e-6)).verdict is verdict


def test_the_low_end_must_exceed_the_margin_and_not_one():
    assert overall(claim(1.025, 1.025, 1.026, 1.025, 1.025)).verdict is Verdict.SAME
    assert overall(claim(1.036, 1.036, 1.036, 1.036, 1.036, noise=1e-6)).verdict is Verdict.FASTER


def test_a_decision_says_what_it_rests_on():
    record = claim(1.2, 1.2, 1.2, 1.2, 1.2)
    decision = decide(record, BASE, basis="claim")
    assert decision.against == BASE
    assert decision.record_id == record.record_id
    assert decision.sittings == 5
    assert decision.clock == "cpu"
    assert decision.margin == 0.03
    assert decision.confidence == 0.995
    assert decision.noise == ()
    assert decision.overall.candidate_us == pytest.approx(100 / 1.2, rel=0.01)
    assert decision.overall.against_us == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("tested", [1, 4, 20])
def test_many_candidates_make_the_level_stricter(tested):
    record = claim(1.20, 1.25, 1.22, 1.24, 1.21)
    decision = decide(record, BASE, basis="claim", candidates_tested=tested)
    assert decision.confidence == pytest.approx(1 - 0.005 / tested)
    assert decision.overall.low <= overall(record).low


def test_many_candidates_may_cost_a_verdict():
    record = claim(1.09, 1.11, 1.10, 1.12, 1.08, noise=1e-6)
    assert overall(record).verdict is Verdict.FASTER
    assert overall(record, candidates_tested=50).verdict is Verdict.AMBIGUOUS


@pytest.mark.parametrize("sittings", [1, 4])
def test_a_claim_needs_five_sittings_and_says_what_to_do(sittings):
    record = claim(*[1.2] * sittings)
    with pytest.raises(ValueError, match="at least 5 sittings") as caught:
        decide(record, BASE, basis="claim")
    assert f"record {record.record_id} has {sittings}" in str(caught.value)
    assert "plan.sittings=5, or decide with basis='feedback'" in str(caught.value)


def test_an_unknown_contender_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"against 'torch compile'; it has pairs against \['torch"):
        decide(claim(*[1.2] * 5), "torch compile", basis="claim")


def test_a_workload_without_pairs_is_named():
    workloads = (make_workload(), make_workload(name="wide"))
    with pytest.raises(ValueError, match=r"sitting 0 .* no pairs of workload 'wide'"):
        decide(claim(*[1.2] * 5, workloads=workloads), BASE, basis="claim")


def test_hidden_workloads_alone_decide_nothing():
    workloads = (make_workload(visibility="hidden"),)
    with pytest.raises(ValueError, match="has no public workload; add one to the target"):
        decide(claim(*[1.2] * 5, workloads=workloads), BASE, basis="claim")


def test_no_candidate_tested_is_a_mistake():
    with pytest.raises(ValueError, match="candidates_tested is 0"):
        decide(claim(*[1.2] * 5), BASE, basis="claim", candidates_tested=0)


# Several workloads -------------------------------------------------------------------------------


def test_the_whole_is_the_weighted_geometric_mean():
    decision = decide(mixed(), BASE, basis="claim")
    assert decision.overall.speedup == pytest.approx(1.2**0.75 * 0.9**0.25, rel=2e-3)
    assert decision.overall.against_us == pytest.approx(100**0.75 * 10_000**0.25, rel=2e-3)


def test_each_workload_has_a_verdict_of_its_own():
    decision = decide(mixed(), BASE, basis="claim")
    assert {name: c.verdict for name, c in decision.workloads.items()} == {
        "a": Verdict.FASTER,
        "bb": Verdict.SLOWER,
    }
    assert decision.workloads["bb"].against_us == pytest.approx(10_000, rel=0.01)


def test_weights_are_shares():
    scaled = mixed(weights=(30.0, 10.0))
    assert overall(scaled).speedup == pytest.approx(overall(mixed()).speedup)


def test_hidden_workloads_do_not_count_and_are_not_shown():
    decision = decide(mixed(hidden=True), BASE, basis="claim")
    assert set(decision.workloads) == {"a", "bb"}
    assert decision.overall.speedup == pytest.approx(overall(mixed()).speedup)


def test_other_contenders_in_the_record_do_not_disturb():
    other = series_of(9.0).model_copy(update={"against": "other"})
    extra = tuple(
        s.model_copy(update={"series": (*s.series, other)}) for s in claim(*[1.2] * 5).sittings
    )
    record = claim(*[1.2] * 5).model_copy(update={"sittings": extra})
    assert overall(record) == overall(claim(*[1.2] * 5))


# Clocks and pressure -----------------------------------------------------------------------------


def test_one_thread_is_ranked_by_processor_time():
    decision = decide(two_clocks(wall=1.02, cpu=1.2, pressure=5.0), BASE, basis="claim")
    assert (decision.clock, decision.margin) == ("cpu", 0.03)
    assert decision.overall.verdict is Verdict.FASTER
    assert decision.overall.speedup == pytest.approx(1.2, rel=0.01)


@pytest.mark.parametrize(("wall", "cpu"), [(0.9, 1.2), (1.1, 0.8)])
def test_the_wall_can_take_a_verdict_back_and_never_give_one(wall, cpu):
    decision = decide(two_clocks(wall=wall, cpu=cpu, pressure=0.0), BASE, basis="claim")
    assert decision.overall.verdict is Verdict.AMBIGUOUS
    same = decide(two_clocks(wall=1.5, cpu=1.0, pressure=0.0), BASE, basis="claim")
    assert same.overall.verdict is Verdict.SAME


def test_a_busy_machine_asks_for_a_wider_margin():
    decision = decide(two_clocks(wall=1.1, cpu=1.2, pressure=5.1), BASE, basis="claim")
    assert (decision.clock, decision.margin) == ("cpu", 0.05)
    assert decision.overall.verdict is Verdict.FASTER
    assert decision.noise == ("others used up to 5 % of the processors (quiet: 5 %)",)


@pytest.mark.parametrize(
    ("sittings", "busy", "margin"),
    [(1, 1, 0.05), (4, 1, 0.05), (5, 1, 0.03), (5, 2, 0.05), (13, 2, 0.03), (13, 3, 0.05)],
)
def test_one_busy_sitting_in_five_does_not_widen_the_margin(sittings, busy, margin):
    record = claim(*[1.2] * sittings)
    stirred = [s.model_copy(update={"pressure_percent": 60.0}) for s in record.sittings[:busy]]
    mixed = record.model_copy(update={"sittings": (*stirred, *record.sittings[busy:])})
    if sittings < 5:
        decision = decide(mixed, BASE, basis="feedback")
        margin *= 2
    else:
        decision = decide(mixed, BASE, basis="claim")
    assert decision.margin == margin
    assert decision.clock == "cpu"


def test_one_busy_sitting_is_enough_for_several_threads_not_to_be_ranked():
    record = two_clocks(wall=1.5, cpu=1.5, pressure=0, threads=2)
    last = record.sittings[-1].model_copy(update={"pressure_percent": 60.0})
    busy = record.model_copy(update={"sittings": (*record.sittings[:-1], last)})
    assert overall(busy).verdict is Verdict.AMBIGUOUS


def test_four_percent_is_faster_when_quiet_and_not_when_busy():
    quiet = claim(*[1.04] * 5, noise=1e-5)
    busy = claim(*[1.04] * 5, noise=1e-5, pressure=50)
    assert overall(quiet).verdict is Verdict.FASTER
    assert overall(busy).verdict is Verdict.SAME


def test_several_threads_on_a_busy_machine_are_not_ranked():
    decision = decide(two_clocks(wall=1.5, cpu=1.5, pressure=40, threads=2), BASE, basis="claim")
    assert decision.overall.verdict is Verdict.AMBIGUOUS
    assert {c.verdict for c in decision.workloads.values()} == {Verdict.AMBIGUOUS}
    assert decision.overall.speedup == pytest.approx(1.5, rel=0.01)
    assert "2 threads are not ranked on a busy machine; free it" in decision.noise[0]
    assert decision.clock == "wall"


def test_several_threads_on_a_quiet_machine_are_ranked_by_the_wall():
    record = two_clocks(wall=1.5, cpu=0.8, pressure=1, threads=2)
    assert overall(record).verdict is Verdict.FASTER


@pytest.mark.parametrize("cpu_times", [(), (0.0,) * 40])
def test_without_processor_times_the_wall_ranks_and_says_so(cpu_times):
    record = claim(*[1.2] * 5, pressure=30)
    sittings = tuple(
        s.model_copy(
            update={
                "series": tuple(
                    x.model_copy(update={"candidate_cpu_us": cpu_times}) for x in s.series
                )
            }
        )
        for s in record.sittings
    )
    decision = decide(record.model_copy(update={"sittings": sittings}), BASE, basis="claim")
    assert decision.clock == "wall"
    assert "no processor times were recorded, wall time ranks" in decision.noise[0]


@pytest.mark.parametrize(("centre", "margin"), [(200.0, 0.01), (20.0, 0.02), (2.0, 0.03)])
def test_on_a_gpu_the_margin_follows_the_duration_and_pressure_does_not_matter(centre, margin):
    record = record_of(
        *(sitting_of(i, series_of(1.2, centre=centre, seed=i), pressure=90) for i in range(5)),
        arch="sm_90",
    )
    decision = decide(record, BASE, basis="claim")
    assert (decision.margin, decision.clock, decision.noise) == (margin, "wall", ())


# Feedback ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.2, Verdict.FASTER),
        (0.8, Verdict.SLOWER),
        (1.0, Verdict.SAME),
        (1.04, Verdict.SAME),
        (1.06, Verdict.AMBIGUOUS),
    ],
)
def test_one_sitting_gives_feedback_with_the_margin_doubled(ratio, verdict):
    decision = decide(claim(ratio, noise=0.01), BASE, basis="feedback")
    assert decision.overall.verdict is verdict
    assert decision.margin == 0.06
    assert decision.sittings == 1
    assert decision.basis == "feedback"


def test_feedback_is_repeatable_and_wider_with_noise():
    calm, wild = claim(1.2, noise=0.01), claim(1.2, noise=0.1)
    assert decide(calm, BASE, basis="feedback") == decide(calm, BASE, basis="feedback")
    narrow, wide = overall(calm, "feedback"), overall(wild, "feedback")
    assert narrow.high / narrow.low < wide.high / wide.low
    assert narrow.low <= narrow.speedup <= narrow.high


def test_feedback_from_several_sittings_averages_them():
    comparison = overall(claim(1.1, 1.3, noise=0.002), "feedback")
    assert comparison.speedup == pytest.approx(math.sqrt(1.1 * 1.3), rel=2e-3)


def test_feedback_over_several_workloads_is_weighted():
    decision = decide(mixed(sittings=1), BASE, basis="feedback")
    assert decision.overall.speedup == pytest.approx(1.2**0.75 * 0.9**0.25, rel=3e-3)
    assert decision.workloads["a"].verdict is Verdict.FASTER
