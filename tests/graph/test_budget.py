"""What may still be spent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.records import TimingPlan
from graph.budget import (
    CLOSING_S,
    LEAST_JOB_S,
    MOST_VARIANTS,
    SLACK,
    Dearest,
    Pace,
    Spent,
    bench_s,
    closing,
    exhausted,
    final_s,
    fit_plan,
    job_reserve,
    job_timeout,
    left,
    overlap_fits,
    reserve,
    warnings,
)
from graph.ledger import ExitReason
from graph.target import Budget


@pytest.mark.parametrize(
    ("limits", "spent", "reserve_s", "reason"),
    [
        ({"rounds": 3}, {"rounds": 2}, 0.0, None),
        ({"rounds": 3}, {"rounds": 3}, 0.0, ExitReason.BUDGET_ROUNDS),
        ({"rounds": 3}, {"rounds": 4}, 0.0, ExitReason.BUDGET_ROUNDS),
        ({"wall_s": 300.0}, {"wall_s": 100.0}, 60.0, None),
        ({"wall_s": 300.0}, {"wall_s": 239.0}, 60.0, ExitReason.BUDGET_WALL),
        ({"wall_s": 300.0}, {"wall_s": 400.0}, 60.0, ExitReason.BUDGET_WALL),
        ({"tokens": 1000}, {"tokens": 999}, 0.0, None),
        ({"tokens": 1000}, {"tokens": 1000}, 0.0, ExitReason.BUDGET_TOKENS),
        ({"usd": 2.0}, {"usd": 1.99}, 0.0, None),
        ({"usd": 2.0}, {"usd": 2.01}, 0.0, ExitReason.BUDGET_USD),
        ({"gpu_s": 5.0}, {"job_s": 1.0}, 0.0, None),
        ({"gpu_s": 5.0}, {"job_s": 4.5}, 0.0, ExitReason.BUDGET_GPU),
        ({}, {"wall_s": 1e9, "tokens": 10**9, "usd": 1e9, "job_s": 1e9}, 0.0, None),
    ],
)
def test_a_round_begins_only_within_every_limit(limits, spent, reserve_s, reason):
    assert exhausted(Budget(**limits), Spent(**spent), reserve_s, 0.0) is reason


def test_rounds_are_the_first_reason_when_several_limits_are_reached():
    spent = Spent(rounds=9, wall_s=999, tokens=999)
    limits = Budget(rounds=9, wall_s=1, tokens=1)
    assert exhausted(limits, spent, 0.0, 0.0) is ExitReason.BUDGET_ROUNDS


def test_a_round_that_could_not_reach_a_verdict_is_not_begun():
    limits = Budget(wall_s=100)
    spent = Spent(wall_s=50)
    assert exhausted(limits, spent, 30, 15) is None
    assert exhausted(limits, spent, 30, 25) is ExitReason.BUDGET_WALL


@pytest.mark.parametrize(
    ("sittings", "contenders", "expected"), [(1, 1, 4.0), (5, 1, 20.0), (5, 2, 30.0)]
)
def test_a_bench_is_estimated_from_the_sides_and_sittings_before_it(sittings, contenders, expected):
    assert bench_s(Pace(side_s=2.0), sittings, contenders) == expected
    assert bench_s(Pace(), sittings, contenders) == 0.0


@pytest.mark.parametrize(("baselines", "expected"), [(1, 20.0), (2, 52.0), (3, 84.0)])
def test_the_final_claims_are_one_bench_a_baseline_longer_for_those_that_compile(
    baselines, expected
):
    assert final_s(Pace(side_s=2.0), 5, baselines) == expected
    assert final_s(Pace(), 5, baselines) == 0.0


def test_without_a_promotion_the_reserve_provides_for_the_first_one():
    assert reserve(Budget(), 0, 40.0, 30.0) == pytest.approx(CLOSING_S + SLACK * 40)


def test_one_variant_needs_no_map():
    assert reserve(Budget(), 1, 40.0, 30.0) == reserve(Budget(), 0, 40.0, 30.0)


def test_each_mapped_variant_needs_a_bench_beside_the_final_claim():
    assert reserve(Budget(), 2, 40.0, 30.0) == pytest.approx(CLOSING_S + SLACK * (40 + 2 * 30))


def test_only_the_variants_that_are_mapped_are_provided_for():
    most = reserve(Budget(), MOST_VARIANTS, 40.0, 30.0)
    assert reserve(Budget(), MOST_VARIANTS + 5, 40.0, 30.0) == most


def test_closing_a_short_run_takes_a_tenth_of_it():
    assert closing(Budget()) == closing(Budget(wall_s=3600)) == CLOSING_S
    assert closing(Budget(wall_s=20)) == 2.0


def test_the_reserve_never_takes_more_than_half_of_the_wall_budget():
    assert reserve(Budget(wall_s=60), 3, 500.0, 500.0) == 30.0


@pytest.mark.parametrize(
    ("wanted", "limits", "spent", "keep", "expected"),
    [
        (120.0, {}, {}, 50.0, 120.0),
        (120.0, {"wall_s": 300.0}, {"wall_s": 100.0}, 50.0, 120.0),
        (120.0, {"wall_s": 300.0}, {"wall_s": 200.0}, 50.0, 50.0),
        (120.0, {"wall_s": 300.0}, {"wall_s": 249.0}, 50.0, None),
        (120.0, {"gpu_s": 60.0}, {"job_s": 20.0}, 50.0, 40.0),
        (120.0, {"gpu_s": 60.0}, {"job_s": 59.0}, 50.0, None),
        (1.0, {}, {}, 0.0, None),
    ],
)
def test_a_jobs_timeout_is_cut_to_what_is_left(wanted, limits, spent, keep, expected):
    assert job_timeout(wanted, Budget(**limits), Spent(**spent), keep) == expected


@given(
    wanted=st.floats(2, 1000),
    wall=st.floats(1, 10_000),
    spent=st.floats(0, 20_000),
    keep=st.floats(0, 1000),
)
def test_no_job_is_started_that_the_wall_clock_cannot_hold(wanted, wall, spent, keep):
    allowed = job_timeout(wanted, Budget(wall_s=wall), Spent(wall_s=spent), keep)
    if allowed is not None:
        assert LEAST_JOB_S <= allowed <= wanted
        assert spent + allowed + keep <= wall + 1e-6


PLAN = TimingPlan(sittings=5, most_sittings=8, most_s=3.0, candidate_s=0.25, warmup_s=0.2)


def test_a_timing_plan_with_time_to_spare_is_left_alone():
    assert fit_plan(PLAN, 1000, 2, sitting_s=10) == PLAN


def test_a_timing_plan_short_of_time_loses_time_not_sittings():
    fitted = fit_plan(PLAN, 10.0, 2)
    assert fitted.sittings == 5
    assert fitted.most_sittings == 5
    assert fitted.most_s == pytest.approx(0.6)
    assert fitted.candidate_s == pytest.approx(0.15)
    assert fitted.warmup_s == pytest.approx(0.15)
    assert fitted.pairs == PLAN.pairs


@pytest.mark.parametrize(("seconds", "most"), [(1000, 8), (140, 7), (125, 6), (100, 5), (60, 5)])
def test_extra_sittings_are_made_only_where_half_of_the_time_left_holds_them(seconds, most):
    assert fit_plan(PLAN, seconds, 2, sitting_s=10).most_sittings == most


@given(
    seconds=st.floats(0.1, 1000),
    series=st.integers(0, 40),
    sittings=st.integers(1, 8),
    sitting_s=st.floats(0, 50),
)
def test_a_fitted_plan_never_measures_more_than_before(seconds, series, sittings, sitting_s):
    plan = TimingPlan(sittings=sittings, most_sittings=8)
    fitted = fit_plan(plan, seconds, series, sitting_s)
    assert fitted.sittings == sittings
    assert 0 < fitted.most_s <= plan.most_s
    assert sittings <= fitted.most_sittings <= plan.most_sittings


def test_what_is_left_is_never_negative_and_unlimited_stays_none():
    limits = Budget(rounds=5, wall_s=10, usd=1)
    assert left(limits, Spent(rounds=7, wall_s=4, usd=3, tokens=99)).model_dump() == {
        "rounds": 0,
        "wall_s": 6.0,
        "job_s": None,
        "tokens": None,
        "usd": 0.0,
    }


# -- several calls at once, and what is kept for later ones --------------------------------------


@pytest.mark.parametrize(
    ("limits", "spent", "dearest", "calls", "fits"),
    [
        ({}, {}, {}, 9, True),
        ({"tokens": 100}, {"tokens": 40}, {"tokens": 30}, 2, True),
        ({"tokens": 100}, {"tokens": 41}, {"tokens": 30}, 2, False),
        ({"tokens": 100}, {}, {}, 2, False),
        ({"usd": 1.0}, {"usd": 0.5}, {"usd": 0.25}, 2, True),
        ({"usd": 1.0}, {"usd": 0.5}, {"usd": 0.26}, 2, False),
        ({"gpu_s": 60}, {"job_s": 30}, {"job_s": 10}, 3, True),
        ({"gpu_s": 60}, {"job_s": 31}, {"job_s": 10}, 3, False),
        ({"tokens": 100, "usd": 1.0}, {}, {"tokens": 1, "usd": 0.9}, 2, False),
    ],
)
def test_calls_overlap_where_what_is_left_holds_all_of_them(limits, spent, dearest, calls, fits):
    found = overlap_fits(Budget(**limits), Spent(**spent), Dearest(**dearest), calls)
    assert found is fits


def test_what_a_review_and_the_end_need_is_kept():
    keep = Dearest(tokens=100, usd=0.5, job_s=20.0)
    tokens, usd, gpu = Budget(tokens=1000), Budget(usd=2), Budget(gpu_s=60)
    assert exhausted(tokens, Spent(tokens=899), 0, 0, keep) is None
    assert exhausted(tokens, Spent(tokens=900), 0, 0, keep) is ExitReason.BUDGET_TOKENS
    assert exhausted(usd, Spent(usd=1.49), 0, 0, keep) is None
    assert exhausted(usd, Spent(usd=1.5), 0, 0, keep) is ExitReason.BUDGET_USD
    assert exhausted(gpu, Spent(job_s=37), 0, 0, keep) is None
    assert exhausted(gpu, Spent(job_s=39), 0, 0, keep) is ExitReason.BUDGET_GPU


def test_job_seconds_kept_for_the_end_are_never_more_than_half_of_them():
    assert job_reserve(Budget(), 100.0) == 0.0
    assert job_reserve(Budget(gpu_s=600), CLOSING_S + 50.0) == 50.0
    assert job_reserve(Budget(gpu_s=60), CLOSING_S + 50.0) == 30.0
    assert job_reserve(Budget(gpu_s=60), 0.0) == 0.0


def test_a_job_leaves_the_seconds_that_are_kept():
    limits = Budget(gpu_s=60)
    assert job_timeout(120.0, limits, Spent(job_s=20), 0.0, 15.0) == 25.0
    assert job_timeout(120.0, limits, Spent(job_s=44), 0.0, 15.0) is None


@given(st.floats(0, 2), st.floats(0, 2))
def test_a_budget_warns_from_four_fifths_to_its_end(used, limit):
    found = warnings(Budget(rounds=1, usd=limit or 1.0), Spent(usd=used))
    whole = limit or 1.0
    assert ("usd" in found) is (0.8 * whole <= used < whole)
    assert set(found) <= {"usd"}
