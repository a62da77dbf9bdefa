import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gpu_runner.statistics import (
    bootstrap_medians,
    median,
    median_interval,
    normal_quantile,
    quantile,
    slower_mode,
    student_quantile,
    t_interval,
)

SERIES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=60)


def noisy(size: int, *, seed: int = 1, sigma: float = 0.02) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, sigma, size)


def two_modes(
    *, slow: float, share: float, size: int = 100, sigma: float = 0.01, seed: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Times around 100 and 100 * slow, with the mask of the slow ones."""
    generator = np.random.default_rng(seed)
    is_slow = np.zeros(size, bool)
    is_slow[generator.choice(size, round(share * size), replace=False)] = True
    centre = np.where(is_slow, 100.0 * slow, 100.0)
    return centre * np.exp(generator.normal(0, sigma, size)), is_slow


# Medians and quantiles ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "middle"),
    [([3.0], 3.0), ([1.0, 2.0], 1.5), ([9.0, 1.0, 5.0], 5.0), ([4.0, 1.0, 3.0, 2.0], 2.5)],
)
def test_the_median_is_the_middle_or_the_mean_of_two(values, middle):
    assert median(values) == middle
    assert median(tuple(values)) == middle


def test_quantiles_are_interpolated():
    values = [10.0, 20.0, 30.0, 40.0, 50.0]
    assert quantile(values, 0.0) == 10.0
    assert quantile(values, 0.5) == 30.0
    assert quantile(values, 0.9) == pytest.approx(46.0)
    assert quantile(values, 1.0) == 50.0


@given(values=SERIES, shift=st.floats(-100, 100), scale=st.floats(0.1, 10))
def test_median_and_quantiles_follow_shift_and_scale(values, shift, scale):
    moved = [v * scale + shift for v in values]
    assert median(moved) == pytest.approx(median(values) * scale + shift, abs=1e-6)
    assert quantile(moved, 0.9) == pytest.approx(quantile(values, 0.9) * scale + shift, abs=1e-6)


# Bootstrap ---------------------------------------------------------------------------------------


def test_the_bootstrap_repeats_itself():
    series = noisy(60)
    np.testing.assert_array_equal(
        bootstrap_medians(series, resamples=500), bootstrap_medians(series, resamples=500)
    )


def test_resampled_medians_come_from_the_data():
    series = noisy(41)
    medians = bootstrap_medians(series, resamples=300)
    assert medians.shape == (300,)
    assert set(medians) <= set(series)


@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.floats(-1e3, 1e3, width=16), min_size=1, max_size=50))
def test_negated_values_have_the_negated_interval(values):
    low, high = median_interval(values, confidence=0.99, resamples=400)
    mirrored = median_interval([-v for v in values], confidence=0.99, resamples=400)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(
    values=st.lists(st.integers(-1000, 1000), min_size=2, max_size=50),
    shift=st.integers(-1000, 1000),
    scale=st.integers(1, 50),
)
def test_the_interval_follows_shift_and_scale(values, shift, scale):
    series = [float(v) for v in values]
    moved = [v * scale + shift for v in series]
    low, high = median_interval(series, confidence=0.95, resamples=300)
    expected = (low * scale + shift, high * scale + shift)
    assert median_interval(moved, confidence=0.95, resamples=300) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
def test_the_interval_lies_within_the_data_around_resampled_medians(values):
    low, high = median_interval(values, confidence=0.99, resamples=300)
    assert min(values) <= low <= high <= max(values)


def test_a_constant_series_has_an_interval_of_one_point():
    assert median_interval([2.5] * 30, confidence=0.99) == (2.5, 2.5)


def test_a_single_value_is_its_own_interval():
    assert median_interval([7.0], confidence=0.99) == (7.0, 7.0)


def test_more_confidence_is_wider_and_more_pairs_are_narrower():
    def width(size: int, confidence: float) -> float:
        low, high = median_interval(noisy(size), confidence=confidence)
        return high - low

    assert width(60, 0.9) < width(60, 0.99)
    assert width(400, 0.99) < width(40, 0.99) / 2


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        low, high = median_interval(noisy(60, seed=seed), confidence=0.95, resamples=400)
        hits += low <= 0.0 <= high
    assert 178 <= hits <= 199


def test_blocks_keep_slow_disturbances_together():
    """Pairs that drift in runs of five say less than as many free ones: the interval is wider."""
    generator = np.random.default_rng(8)
    drifting = np.repeat(generator.normal(0, 0.02, 24), 5)
    apart = generator.permutation(drifting)

    def width(series: np.ndarray, block: int) -> float:
        medians = bootstrap_medians(series, resamples=2000, block=block)
        return float(np.quantile(medians, 0.995) - np.quantile(medians, 0.005))

    assert width(drifting, 5) > 1.4 * width(drifting, 1)
    assert width(apart, 5) < 1.4 * width(apart, 1)


def test_a_block_longer_than_the_series_is_the_series():
    medians = bootstrap_medians([1.0, 2.0, 9.0], resamples=50, block=10)
    assert set(medians) == {2.0}


def test_large_series_are_resampled_in_batches():
    series = noisy(5000)
    medians = bootstrap_medians(series, resamples=1000)
    assert medians.shape == (1000,)
    assert np.abs(medians).max() < 0.002


# Quantiles of laws -------------------------------------------------------------------------------

PUBLISHED = [
    # Share, degrees of freedom, quantile: a printed table of Student's t.
    (0.90, 1, 3.077684),
    (0.95, 1, 6.313752),
    (0.975, 1, 12.70620),
    (0.99, 1, 31.82052),
    (0.995, 1, 63.65674),
    (0.9995, 1, 636.6192),
    (0.90, 2, 1.885618),
    (0.975, 2, 4.302653),
    (0.995, 2, 9.924843),
    (0.999, 2, 22.32712),
    (0.95, 3, 2.353363),
    (0.995, 3, 5.840909),
    (0.9995, 3, 12.92398),
    (0.975, 4, 2.776445),
    (0.995, 4, 4.604095),
    (0.9995, 4, 8.610302),
    (0.995, 5, 4.032143),
    (0.9995, 5, 6.868827),
    (0.995, 6, 3.707428),
    (0.995, 7, 3.499483),
    (0.995, 8, 3.355387),
    (0.995, 9, 3.249836),
    (0.90, 10, 1.372184),
    (0.995, 10, 3.169273),
    (0.995, 15, 2.946713),
    (0.995, 20, 2.845340),
    (0.95, 30, 1.697261),
    (0.995, 30, 2.749996),
    (0.975, 60, 2.000298),
    (0.99, 120, 2.357825),
    (0.975, 1000, 1.962339),
]


@pytest.mark.parametrize(("share", "freedom", "value"), PUBLISHED)
def test_student_quantiles_are_the_published_ones(share, freedom, value):
    assert student_quantile(share, freedom) == pytest.approx(value, rel=1e-6)


@given(share=st.floats(1e-9, 1 - 1e-9))
def test_one_degree_of_freedom_is_cauchys_law(share):
    assume(abs(share - 0.5) > 1e-6)
    tail = min(share, 1 - share)
    exact = math.copysign(1 / math.tan(math.pi * tail), share - 0.5)
    assert student_quantile(share, 1) == pytest.approx(exact, rel=1e-9)


@given(share=st.floats(1e-9, 1 - 1e-9))
def test_two_degrees_of_freedom_have_a_closed_form(share):
    assume(abs(share - 0.5) > 1e-6)
    exact = (2 * share - 1) / math.sqrt(2 * share * (1 - share))
    assert student_quantile(share, 2) == pytest.approx(exact, rel=1e-7)


@given(share=st.floats(0.001, 0.499), freedom=st.integers(1, 200))
def test_student_quantiles_are_symmetric_and_beyond_the_normal(share, freedom):
    value = student_quantile(share, freedom)
    assert value == pytest.approx(-student_quantile(1 - share, freedom), rel=1e-9)
    assert value < normal_quantile(share)


@given(freedom=st.integers(1, 60), share=st.floats(0.6, 0.999))
def test_student_quantiles_rise_with_the_share_and_fall_with_freedom(freedom, share):
    assert student_quantile(share, freedom) < student_quantile(share + 0.0005, freedom)
    assert student_quantile(share, freedom) > student_quantile(share, freedom + 1)


def test_many_degrees_of_freedom_are_nearly_normal():
    assert student_quantile(0.995, 10**6) == pytest.approx(normal_quantile(0.995), rel=1e-5)


def test_the_middle_of_student_is_zero():
    assert student_quantile(0.5, 7) == 0.0


@pytest.mark.parametrize(
    ("share", "freedom"), [(0.0, 3), (1.0, 3), (-0.1, 3), (1.1, 3), (0.9, 0), (0.9, -1)]
)
def test_senseless_student_quantiles_are_refused(share, freedom):
    with pytest.raises(ValueError, match="no Student quantile"):
        student_quantile(share, freedom)


@pytest.mark.parametrize(
    ("share", "value"),
    [(0.5, 0.0), (0.975, 1.959964), (0.995, 2.575829), (0.0005, -3.290527), (0.84134475, 1.0)],
)
def test_normal_quantiles_are_the_published_ones(share, value):
    assert normal_quantile(share) == pytest.approx(value, abs=1e-6)


@given(share=st.floats(1e-6, 1 - 1e-6))
def test_the_normal_quantile_inverts_the_law(share):
    assert NormalDist().cdf(normal_quantile(share)) == pytest.approx(share, rel=1e-9)


# Student's interval ------------------------------------------------------------------------------


def test_the_t_interval_of_a_textbook_sample():
    values = [9.0, 10.0, 11.0, 12.0, 13.0]
    mean, low, high = t_interval(values, level=0.005)
    half = 4.604095 * math.sqrt(2.5) / math.sqrt(5)
    assert mean == 11.0
    assert low == pytest.approx(11 - half, rel=1e-6)
    assert high == pytest.approx(11 + half, rel=1e-6)


def test_equal_values_have_no_width():
    assert t_interval([0.1, 0.1, 0.1], level=0.005) == pytest.approx((0.1, 0.1, 0.1))


@given(values=st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_the_t_interval_mirrors(values):
    mean, low, high = t_interval(values, level=0.01)
    mirrored = t_interval([-v for v in values], level=0.01)
    assert mirrored == pytest.approx((-mean, -high, -low), abs=1e-9)
    assert low <= mean <= high


def test_one_value_has_no_t_interval():
    with pytest.raises(ValueError, match="at least two values, not 1"):
        t_interval([1.0], level=0.005)


def test_the_t_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(11)
    hits = sum(
        low <= 0 <= high
        for _, low, high in (t_interval(generator.normal(0, 1, 5), level=0.05) for _ in range(400))
    )
    assert 335 <= hits <= 385


# Modes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.3, 0.5, 0.7, 0.8])
@pytest.mark.parametrize("slow", [1.15, 1.3, 2.0])
def test_the_slower_of_two_modes_is_found(share, slow):
    times, is_slow = two_modes(slow=slow, share=share)
    found = slower_mode(times)
    assert found is not None
    np.testing.assert_array_equal(found, is_slow)


@pytest.mark.parametrize(
    ("slow", "share"),
    [(1.05, 0.5), (1.08, 0.3), (1.3, 0.1), (1.3, 0.05), (2.0, 0.9), (1.0, 0.5)],
)
def test_near_or_small_clusters_are_no_modes(slow, share):
    times, _ = two_modes(slow=slow, share=share)
    assert slower_mode(times) is None


@pytest.mark.parametrize("outliers", [1, 4, 10])
def test_outliers_do_not_hide_two_modes(outliers):
    times, is_slow = two_modes(slow=1.4, share=0.4)
    times[:outliers], is_slow[:outliers] = 5000.0, True
    np.testing.assert_array_equal(slower_mode(times), is_slow)


def test_few_times_have_no_modes():
    times, _ = two_modes(slow=2.0, share=0.5, size=30)
    assert slower_mode(times) is None


def test_equal_times_are_one_mode():
    assert slower_mode([5.0] * 60) is None


def test_two_exact_values_are_two_modes():
    found = slower_mode([1.0] * 30 + [2.0] * 30)
    assert found is not None
    assert found.tolist() == [False] * 30 + [True] * 30


@pytest.mark.parametrize(
    "law",
    [
        lambda g: np.exp(g.normal(0, 0.3, 60)),
        lambda g: 1 + g.exponential(0.3, 60),
        lambda g: g.uniform(1, 2, 60),
        lambda g: np.exp(0.1 * g.standard_t(3, 60)),
    ],
    ids=["lognormal", "exponential", "uniform", "heavy tails"],
)
def test_wide_single_clusters_are_hardly_ever_split(law):
    generator = np.random.default_rng(17)
    assert sum(slower_mode(law(generator)) is not None for _ in range(200)) <= 6


@settings(deadline=None)
@given(scale=st.floats(1e-3, 1e6))
def test_modes_do_not_depend_on_the_unit(scale):
    times, _ = two_modes(slow=1.3, share=0.4)
    np.testing.assert_array_equal(slower_mode(times), slower_mode(times * scale))


@given(seed=st.integers(0, 1000))
def test_modes_do_not_depend_on_the_order(seed):
    times, is_slow = two_modes(slow=1.4, share=0.4)
    order = np.random.default_rng(seed).permutation(times.size)
    np.testing.assert_array_equal(slower_mode(times[order]), is_slow[order])
