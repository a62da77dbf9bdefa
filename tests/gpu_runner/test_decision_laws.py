import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.decision import decide, enough_pairs, needs_more
from gpu_runner.records import Series, Sitting, TimingPlan, Verdict
from tests.gpu_runner.measured import (
    BASE,
    MIRROR,
    claim,
    overall,
    record_of,
    series_of,
    sitting_of,
    swapped,
    times,
    with_candidate_times,
)

# Noise and modes ---------------------------------------------------------------------------------


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
