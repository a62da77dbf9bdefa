import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.oracle.secret import BLOCK, Pool, Secret

KEY = bytes(range(16))


def normals(size: int, *words: int | str, key: bytes = KEY, dtype=np.float32) -> np.ndarray:
    out = np.empty(size, dtype=dtype)
    Pool(Secret(key, "test"), size).normal(out, *words)
    return out


def uniforms(size: int, low: float, high: float, *words: int | str) -> np.ndarray:
    out = np.empty(size, dtype=np.float32)
    Pool(Secret(KEY, "test"), size).uniform(out, low, high, *words)
    return out


def normal_distance(values: np.ndarray) -> float:
    """Kolmogorov's distance from the standard normal, in units that do not grow with the size."""
    ordered = np.sort(values.astype(np.float64))
    law = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in ordered])
    steps = np.arange(1, ordered.size + 1) / ordered.size
    return float(np.abs(law - steps).max() * math.sqrt(ordered.size))


@pytest.mark.parametrize("length", [0, 8, 15, 65])
def test_a_key_of_a_wrong_length_is_refused_with_the_remedy(length):
    with pytest.raises(ValueError, match=r"not \d+; use secrets.token_bytes"):
        Secret(bytes(length), "test")


@pytest.mark.parametrize("length", [16, 32, 64])
def test_keys_of_common_lengths_are_taken(length):
    assert len(Secret(bytes(length), "test").digest("a")) == 64


def test_a_stream_is_repeatable_and_named_by_all_its_words():
    secret = Secret(KEY, "test")
    assert secret.digest("a", 1) == Secret(KEY, "test").digest("a", 1)
    others = [
        secret.digest("a", 2),
        secret.digest("b", 1),
        secret.digest("a"),
        secret.digest("a", "1"),
        secret.digest(1, "a"),
        Secret(KEY, "other").digest("a", 1),
        Secret(bytes(16), "test").digest("a", 1),
    ]
    assert len({secret.digest("a", 1), *others}) == len(others) + 1


def test_words_cannot_be_joined_into_other_words():
    secret = Secret(KEY, "test")
    assert secret.digest("ab", "c") != secret.digest("a", "bc")
    assert secret.digest(1, 23) != secret.digest(12, 3)


def test_generators_of_different_words_are_unrelated():
    secret = Secret(KEY, "test")
    first = secret.generator("x", 1).standard_normal(4096)
    second = secret.generator("x", 2).standard_normal(4096)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.08
    np.testing.assert_array_equal(first, secret.generator("x", 1).standard_normal(4096))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normals_have_the_moments_of_a_normal(dtype):
    values = normals(1 << 18, "call", 3, dtype=dtype).astype(np.float64)
    assert values.dtype == np.float64
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert abs((values**3).mean()) < 0.05
    assert abs((values**4).mean() - 3) < 0.15
    assert 4.0 < np.abs(values).max() < 7.0


def test_normals_follow_the_normal_law():
    assert normal_distance(normals(20_000, "law")) < 1.95  # one in a thousand exceeds it


def test_signs_are_even_and_neighbours_unrelated():
    values = normals(1 << 17, "signs").astype(np.float64)
    assert abs((values > 0).mean() - 0.5) < 0.01
    for lag in (1, 2, 16, 128, 1024):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 0.02, lag


def test_two_calls_share_no_element_and_are_unrelated():
    pool = Pool(Secret(KEY, "test"), 4096)
    calls = np.empty((64, 4096), dtype=np.float32)
    for call, out in enumerate(calls):
        pool.normal(out, call)
    assert len({row.tobytes() for row in calls}) == 64
    correlations = np.corrcoef(calls.astype(np.float64)) - np.eye(64)
    assert np.abs(correlations).max() < 0.09
    equal = sum(int((calls[0] == other).sum()) for other in calls[1:])
    assert equal <= 2


def test_no_stretch_of_one_call_returns_in_another_at_any_offset():
    """Windows over one pool would do exactly that: equal runs of elements, shifted."""
    pool = Pool(Secret(KEY, "test"), 512)
    pieces: set[bytes] = set()
    for call in range(200):
        out = np.empty(512, dtype=np.float32)
        pool.normal(out, call)
        pieces.update(np.abs(out).tobytes()[i : i + 8] for i in range(0, 2048, 4))
    assert len(pieces) >= 200 * 512 * 0.999


def test_a_linear_shortcut_from_earlier_calls_fails():
    """Rows must not lie in the span of few earlier ones, or products could be kept."""
    pool = Pool(Secret(KEY, "test"), 256)
    rows = np.empty((128, 256), dtype=np.float32)
    for call, out in enumerate(rows):
        pool.normal(out, call)
    singular = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    assert singular[-1] > 0.2 * singular[0] / 5


def test_the_size_of_the_pool_is_no_limit():
    values = normals(3 * BLOCK + 17, "long")
    assert np.isfinite(values).all()
    blocks = [values[i * BLOCK : (i + 1) * BLOCK].tobytes() for i in range(3)]
    assert len(set(blocks)) == 3


@pytest.mark.parametrize("size", [0, 1, 2, 3, 31, BLOCK - 1, BLOCK, BLOCK + 1])
def test_odd_sizes_are_filled_completely(size):
    out = np.full(size + 2, np.nan, dtype=np.float32)
    Pool(Secret(KEY, "test"), size).normal(out[1:-1], "odd")
    assert np.isfinite(out[1:-1]).all()
    assert np.isnan(out[[0, -1]]).all()


def test_another_key_gives_other_numbers():
    assert not np.array_equal(normals(64, 1), normals(64, 1, key=bytes(16)))


def test_equal_words_give_equal_numbers_whatever_was_drawn_before():
    pool = Pool(Secret(KEY, "test"), 128)
    first, again = np.empty(128, np.float32), np.empty(128, np.float32)
    pool.normal(first, 7)
    pool.uniform(again, 0, 1, 3)
    pool.normal(again, 7)
    np.testing.assert_array_equal(first, again)


def test_uniforms_are_even_over_their_range():
    values = uniforms(1 << 18, -2.0, 6.0, "u").astype(np.float64)
    counts, _ = np.histogram(values, bins=64, range=(-2, 6))
    assert counts.sum() == values.size
    assert np.abs(counts / values.size * 64 - 1).max() < 0.1
    for lag in (1, 7, 1024):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 0.02


@settings(max_examples=30, deadline=None)
@given(
    low=st.floats(-1e4, 1e4),
    width=st.floats(1e-3, 1e4),
    word=st.integers(0, 10**6),
)
def test_uniforms_stay_within_their_range_up_to_rounding(low, width, word):
    values = uniforms(512, low, low + width, word).astype(np.float64)
    slack = 2.0**-23 * (abs(low) + width)
    assert values.min() >= low - slack
    assert values.max() <= low + width + slack


def test_uniform_calls_share_hardly_an_element():
    first, second = uniforms(4096, 0, 1, 1), uniforms(4096, 0, 1, 2)
    assert (first == second).sum() <= 2
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.08


def test_drawing_costs_no_memory_until_it_is_needed():
    pool = Pool(Secret(KEY, "test"), 1 << 24)
    assert "_normals" not in vars(pool)
    pool.uniform(np.empty(4, np.float32), 0, 1, 1)
    assert "_normals" not in vars(pool)
