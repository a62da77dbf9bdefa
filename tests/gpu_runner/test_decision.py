import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.decision import decide, enough_pairs, needs_more
from gpu_runner.records import BenchRecord, Comparison, Series, Sitting, TimingPlan, Verdict
from tests.builders import make_environment, make_workload

BASE = "torch eager"
DIGEST = "0" * 64
MIRROR = {
    Verdict.FASTER: Verdict.SLOWER,
    Verdict.SLOWER: Verdict.FASTER,
    Verdict.SAME: Verdict.SAME,
    Verdict.AMBIGUOUS: Verdict.AMBIGUOUS,
}


def times(generator, centre: float, pairs: int, noise: float) -> tuple[float, ...]:
    return tuple(centre * np.exp(generator.normal(0, noise, pairs)))


def series_of(
    ratio: float,
    *,
    workload: str = "small",
    pairs: int = 40,
    noise: float = 0.01,
    seed: int = 0,
    centre: float = 100.0,
    cpu_ratio: float | None = None,
) -> Series:
    """Pairs in which the candidate is `ratio` times as fast by the wall, `cpu_ratio` by the cpu."""
    generator = np.random.default_rng([seed, int(ratio * 1e6), len(workload)])
    cpu = ratio if cpu_ratio is None else cpu_ratio
    return Series(
        workload=workload,
        against=BASE,
        slots=1,
        candidate_us=times(generator, centre / ratio, pairs, noise),
        against_us=times(generator, centre, pairs, noise),
        candidate_cpu_us=times(generator, centre / cpu, pairs, noise),
        against_cpu_us=times(generator, centre, pairs, noise),
    )


def sitting_of(index: int, *series: Series, pressure: float = 0.0) -> Sitting:
    return Sitting(
        index=index,
        started_at="2025-01-01T00:00:00Z",
        key_digest=DIGEST,
        pressure_percent=pressure,
        verified_outputs=80,
        series=series,
    )


def record_of(
    *sittings: Sitting, workloads=None, threads: int = 1, arch="x86_64", **plan
) -> BenchRecord:
    return BenchRecord(
        problem_digest=DIGEST,
        candidate_digest=DIGEST,
        against={BASE: DIGEST},
        workloads=workloads or (make_workload(),),
        plan=TimingPlan(threads=threads, **plan),
        environment=make_environment(arch=arch),
        sittings=sittings,
    )


def claim(*ratios: float, pressure: float = 0.0, noise: float = 0.003, **changes) -> BenchRecord:
    """One sitting for each ratio; noise small enough that a sitting's value is its ratio."""
    sittings = (
        sitting_of(i, series_of(r, seed=i, noise=noise), pressure=pressure)
        for i, r in enumerate(ratios)
    )
    return record_of(*sittings, **changes)


def swapped(record: BenchRecord) -> BenchRecord:
    def turn(series: Series) -> Series:
        return series.model_copy(
            update={
                "candidate_us": series.against_us,
                "against_us": series.candidate_us,
                "candidate_cpu_us": series.against_cpu_us,
                "against_cpu_us": series.candidate_cpu_us,
            }
        )

    sittings = tuple(
        s.model_copy(update={"series": tuple(turn(x) for x in s.series)}) for s in record.sittings
    )
    return record.model_copy(update={"sittings": sittings})


def overall(record: BenchRecord, basis="claim", **more) -> Comparison:
    return decide(record, BASE, basis=basis, **more).overall


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


def test_one_odd_sitting_is_forgiven_and_two_are_not():
    assert overall(claim(1.20, 1.21, 1.02, 1.20, 1.19, 1.20, 1.20)).verdict is Verdict.FASTER
    two = overall(claim(1.20, 1.21, 1.02, 1.20, 1.02, 1.20, 1.19, 1.2, 1.2, 1.2, 1.2))
    assert two.verdict is Verdict.AMBIGUOUS


def test_the_low_end_must_exceed_the_margin_and_not_one():
    assert overall(claim(1.025, 1.025, 1.026, 1.025, 1.025)).verdict is Verdict.SAME
    assert overall(claim(1.036, 1.036, 1.036, 1.036, 1.036, noise=1e-6)).verdict is Verdict.FASTER


def test_a_decision_says_what_it_rests_on():
    record = claim(1.2, 1.2, 1.2, 1.2, 1.2)
    decision = decide(record, BASE, basis="claim")
    assert decision.against == BASE
    assert decision.record_id == record.record_id
    assert decision.sittings == 5
    assert decision.clock == "wall"
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


def mixed(*, weights=(3.0, 1.0), ratios=(1.2, 0.9), sittings: int = 5, hidden: bool = False):
    workloads = (
        make_workload(name="a", weight=weights[0]),
        make_workload(name="bb", weight=weights[1]),
        *([make_workload(name="ccc", visibility="hidden", weight=100)] if hidden else []),
    )
    return record_of(
        *(
            sitting_of(
                i,
                series_of(ratios[0], workload="a", seed=i, noise=0.002, centre=100),
                series_of(ratios[1], workload="bb", seed=i, noise=0.002, centre=10_000),
            )
            for i in range(sittings)
        ),
        workloads=workloads,
    )


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


def two_clocks(*, wall: float, cpu: float, pressure: float, **changes) -> BenchRecord:
    return record_of(
        *(
            sitting_of(i, series_of(wall, cpu_ratio=cpu, seed=i, noise=0.003), pressure=pressure)
            for i in range(5)
        ),
        **changes,
    )


def test_a_quiet_machine_ranks_by_the_wall():
    decision = decide(two_clocks(wall=1.2, cpu=0.8, pressure=5.0), BASE, basis="claim")
    assert (decision.clock, decision.margin) == ("wall", 0.03)
    assert decision.overall.verdict is Verdict.FASTER


def test_a_busy_machine_ranks_one_thread_by_processor_time_with_a_wider_margin():
    decision = decide(two_clocks(wall=0.7, cpu=1.2, pressure=5.1), BASE, basis="claim")
    assert (decision.clock, decision.margin) == ("cpu", 0.05)
    assert decision.overall.verdict is Verdict.FASTER
    assert decision.noise == ("processor pressure reached 5 % (quiet: 5 %)",)


def test_one_busy_sitting_makes_the_record_busy():
    record = claim(*[1.2] * 5)
    last = record.sittings[4].model_copy(update={"pressure_percent": 60.0})
    busy = record.model_copy(update={"sittings": (*record.sittings[:4], last)})
    assert decide(busy, BASE, basis="claim").clock == "cpu"


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


# Noise and modes ---------------------------------------------------------------------------------


def with_candidate_times(record: BenchRecord, change) -> BenchRecord:
    sittings = tuple(
        s.model_copy(
            update={
                "series": tuple(
                    x.model_copy(update={"candidate_us": change(np.array(x.candidate_us))})
                    for x in s.series
                )
            }
        )
        for s in record.sittings
    )
    return record.model_copy(update={"sittings": sittings})


def test_of_two_modes_of_the_candidate_the_slower_counts():
    record = claim(*[1.5] * 5, noise=0.005)
    moded = with_candidate_times(
        record, lambda t: tuple(np.where(np.arange(t.size) % 4 == 0, t * 2.0, t))
    )
    decision = decide(moded, BASE, basis="claim")
    assert decision.overall.verdict is Verdict.SLOWER
    assert decision.overall.speedup == pytest.approx(0.75, rel=0.01)
    assert "small, sitting 0: the candidate has two modes, the slower one counts" in decision.noise


def test_two_modes_on_both_sides_are_the_machines():
    record = claim(*[1.2] * 5, noise=0.005)

    def slow_half(values) -> tuple[float, ...]:
        array = np.array(values)
        return tuple(np.where(np.arange(array.size) % 2 == 0, array * 2.0, array))

    sittings = tuple(
        s.model_copy(
            update={
                "series": tuple(
                    x.model_copy(
                        update={
                            "candidate_us": slow_half(x.candidate_us),
                            "against_us": slow_half(x.against_us),
                        }
                    )
                    for x in s.series
                )
            }
        )
        for s in record.sittings
    )
    decision = decide(record.model_copy(update={"sittings": sittings}), BASE, basis="claim")
    assert decision.overall.verdict is Verdict.FASTER
    assert decision.overall.speedup == pytest.approx(1.2, rel=0.01)


def test_a_long_tail_of_the_candidate_is_mentioned():
    record = claim(*[1.2] * 5)
    tailed = with_candidate_times(
        record, lambda t: tuple(np.where(np.arange(t.size) % 8 == 0, t * 3.0, t))
    )
    noise = decide(tailed, BASE, basis="claim").noise
    assert "small, sitting 4: the candidate's 90th percentile is over 1.5 medians" in noise


# Laws --------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    ratios=st.lists(st.floats(0.7, 1.5), min_size=5, max_size=9),
    pressure=st.sampled_from([0.0, 50.0]),
    tested=st.integers(1, 5),
)
def test_swapping_the_sides_mirrors_a_claim(ratios, pressure, tested):
    record = claim(*ratios, pressure=pressure)
    one, other = (overall(r, candidates_tested=tested) for r in (record, swapped(record)))
    assert other.verdict is MIRROR[one.verdict]
    assert other.speedup == pytest.approx(1 / one.speedup)
    assert (other.low, other.high) == pytest.approx((1 / one.high, 1 / one.low))
    assert (other.candidate_us, other.against_us) == (one.against_us, one.candidate_us)


@settings(deadline=None, max_examples=25)
@given(ratio=st.floats(0.7, 1.5), noise=st.floats(0.001, 0.03), seed=st.integers(0, 99))
def test_swapping_the_sides_mirrors_feedback(ratio, noise, seed):
    record = record_of(sitting_of(0, series_of(ratio, noise=noise, seed=seed)))
    one, other = overall(record, "feedback"), overall(swapped(record), "feedback")
    assert other.verdict is MIRROR[one.verdict]
    assert (other.low, other.high) == pytest.approx((1 / one.high, 1 / one.low))


@settings(deadline=None, max_examples=40)
@given(
    ratios=st.lists(st.floats(0.8, 1.3), min_size=5, max_size=8, unique=True),
    unit=st.floats(1e-3, 1e3),
    order=st.randoms(use_true_random=False),
)
def test_neither_units_nor_the_order_of_sittings_matter(ratios, unit, order):
    record = claim(*ratios)
    shuffled = list(record.sittings)
    order.shuffle(shuffled)
    moved = [
        s.model_copy(
            update={
                "series": tuple(
                    x.model_copy(
                        update={
                            "candidate_us": tuple(t * unit for t in x.candidate_us),
                            "against_us": tuple(t * unit for t in x.against_us),
                        }
                    )
                    for x in s.series
                )
            }
        )
        for s in shuffled
    ]
    one = overall(record)
    other = overall(record.model_copy(update={"sittings": tuple(moved)}))
    assert other.verdict is one.verdict
    assert other.speedup == pytest.approx(one.speedup)
    assert other.low == pytest.approx(one.low)


@settings(deadline=None, max_examples=40)
@given(ratios=st.lists(st.floats(0.8, 1.4), min_size=5, max_size=8), gain=st.floats(1.0, 1.5))
def test_a_faster_candidate_never_gets_a_worse_verdict(ratios, gain):
    rank = {Verdict.SLOWER: 0, Verdict.AMBIGUOUS: 1, Verdict.SAME: 1, Verdict.FASTER: 2}
    record = claim(*ratios)
    better = with_candidate_times(record, lambda t: tuple(t / gain))
    assert rank[overall(better).verdict] >= rank[overall(record).verdict]


@settings(deadline=None, max_examples=60)
@given(ratios=st.lists(st.floats(0.5, 2.0), min_size=5, max_size=9))
def test_a_verdict_says_what_its_interval_says(ratios):
    comparison = overall(claim(*ratios))
    assert comparison.low <= comparison.speedup <= comparison.high
    if comparison.verdict is Verdict.FASTER:
        assert comparison.low > 1.03
    if comparison.verdict is Verdict.SLOWER:
        assert comparison.high < 1 / 1.03
    if comparison.verdict is Verdict.SAME:
        assert 1 / 1.03 <= comparison.low <= comparison.high <= 1.03


# Adding sittings and pairs -----------------------------------------------------------------------


def test_sittings_are_added_up_to_the_plans_least():
    assert needs_more(claim(1.2, 1.2, 1.2, sittings=5, most_sittings=9), BASE)


def test_sittings_are_added_while_the_interval_is_wide():
    plan = {"sittings": 5, "most_sittings": 9, "width": 0.06}
    assert needs_more(claim(1.1, 1.2, 1.3, 1.2, 1.1, **plan), BASE)
    assert not needs_more(claim(1.2, 1.201, 1.2, 1.199, 1.2, **plan), BASE)


def test_the_most_sittings_end_it():
    assert not needs_more(claim(1.0, 1.5, 0.7, 1.3, 1.1, sittings=5, most_sittings=5), BASE)


def test_one_noisy_sitting_asks_for_another_where_the_plan_allows():
    plan = {"sittings": 1, "most_sittings": 3}
    assert needs_more(claim(1.2, noise=0.3, **plan), BASE)
    assert not needs_more(claim(1.2, noise=0.002, **plan), BASE)
    assert not needs_more(claim(1.2, noise=0.3, sittings=1, most_sittings=1), BASE)


@settings(deadline=None, max_examples=40)
@given(ratios=st.lists(st.floats(0.8, 1.3), min_size=5, max_size=8), gain=st.floats(0.5, 2.0))
def test_whether_to_go_on_does_not_depend_on_who_leads(ratios, gain):
    plan = {"sittings": 5, "most_sittings": 9}
    record = claim(*ratios, **plan)
    wanted = needs_more(record, BASE)
    assert needs_more(swapped(record), BASE) == wanted
    assert needs_more(with_candidate_times(record, lambda t: tuple(t * gain)), BASE) == wanted


def pairs_of(
    count: int, *, noise: float, ratio: float = 1.0, seed: int = 4
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    generator = np.random.default_rng(seed)
    return times(generator, 100 / ratio, count, noise), times(generator, 100, count, noise)


def test_pairs_are_added_up_to_the_plans_least():
    assert not enough_pairs(*pairs_of(39, noise=1e-4), TimingPlan(pairs=40))
    assert enough_pairs(*pairs_of(40, noise=1e-4), TimingPlan(pairs=40))


def test_pairs_are_added_while_the_interval_is_wide():
    plan = TimingPlan(width=0.06, most_pairs=400)
    assert not enough_pairs(*pairs_of(60, noise=0.2), plan)
    assert enough_pairs(*pairs_of(399, noise=0.05), plan)


def test_the_most_pairs_end_it():
    assert enough_pairs(*pairs_of(100, noise=0.8), TimingPlan(most_pairs=100))


def test_a_noisy_candidate_needs_twice_the_pairs():
    candidate, against = pairs_of(60, noise=1e-3)
    tailed = tuple(t * (3 if i % 8 == 0 else 1) for i, t in enumerate(candidate))
    plan = TimingPlan(pairs=40)
    assert enough_pairs(candidate, against, plan)
    assert not enough_pairs(tailed, against, plan)
    longer = tuple(np.tile(tailed, 2)), tuple(np.tile(against, 2))
    assert enough_pairs(*longer, plan)


def test_twice_the_pairs_is_never_more_than_the_most():
    candidate, against = pairs_of(50, noise=1e-3)
    tailed = tuple(t * (3 if i % 8 == 0 else 1) for i, t in enumerate(candidate))
    assert enough_pairs(tailed, against, TimingPlan(pairs=40, most_pairs=50))


@settings(deadline=None, max_examples=25)
@given(ratio=st.floats(0.5, 2), noise=st.floats(0.01, 0.12), seed=st.integers(0, 99))
def test_whether_pairs_suffice_does_not_depend_on_the_ratio(ratio, noise, seed):
    plan = TimingPlan()
    even, uneven = (pairs_of(60, noise=noise, seed=seed, ratio=r) for r in (1.0, ratio))
    assert enough_pairs(*even, plan) == enough_pairs(*uneven, plan)


# Simulated machines ------------------------------------------------------------------------------


def simulated(seed: int, truth: float, *, bias: float, pressure: float, flukes: float = 0.02):
    """Sittings with a heavy-tailed bias each, added by the rule; what shared cores look like."""
    generator = np.random.default_rng([seed, int(truth * 1000), int(bias * 1000)])
    sittings: list[Sitting] = []
    while True:
        shift = generator.standard_t(3) * bias / math.sqrt(3)
        if generator.random() < flukes:
            shift += generator.choice([-1, 1]) * generator.uniform(0.1, 0.8)
        sides = [
            centre * np.exp(generator.normal(0, 0.05, 40))
            + (generator.random(40) < 0.05) * generator.exponential(60, 40)
            for centre in (100 / truth * math.exp(-shift), 100)
        ]
        candidate, against = (tuple(side) for side in sides)
        series = Series(
            workload="small",
            against=BASE,
            slots=1,
            candidate_us=candidate,
            against_us=against,
            candidate_cpu_us=candidate,
            against_cpu_us=against,
        )
        sittings.append(sitting_of(len(sittings), series, pressure=pressure))
        record = record_of(*sittings, sittings=5, most_sittings=9)
        if not needs_more(record, BASE):
            return overall(record).verdict


@pytest.mark.parametrize("bias", [0.01, 0.02])
@pytest.mark.parametrize("pressure", [0.0, 40.0])
def test_identical_code_is_called_neither_faster_nor_slower(bias, pressure):
    verdicts = Counter(simulated(seed, 1.0, bias=bias, pressure=pressure) for seed in range(60))
    assert verdicts[Verdict.FASTER] + verdicts[Verdict.SLOWER] <= 1, verdicts


@pytest.mark.parametrize("bias", [0.01, 0.02])
@pytest.mark.parametrize("pressure", [0.0, 40.0])
def test_a_tenth_slower_is_found_nine_times_in_ten(bias, pressure):
    verdicts = Counter(simulated(seed, 1 / 1.1, bias=bias, pressure=pressure) for seed in range(30))
    assert verdicts[Verdict.SLOWER] >= 27, verdicts
    assert verdicts[Verdict.FASTER] == 0


@pytest.mark.parametrize("truth", [1.1, 1.2])
def test_a_true_gain_is_found_nine_times_in_ten(truth):
    verdicts = Counter(simulated(seed, truth, bias=0.02, pressure=0.0) for seed in range(30))
    assert verdicts[Verdict.FASTER] >= 27, verdicts
    assert verdicts[Verdict.SLOWER] == 0
