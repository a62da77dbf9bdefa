"""The statistics a decision needs: medians, bootstrap, Student's t, modes. Pure and repeatable.

Random numbers are seeded from the data themselves, in a way that does not see their sign: the
interval of the negated values is the negated interval, and swapping two sides mirrors a verdict.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Values = Sequence[float] | Numbers

_BLOCK: Final = 5
"""Consecutive pairs resampled together: disturbances last longer than one pair."""
_MODE_SHARE: Final = 0.15
_MODE_DISTANCE: Final = 0.10
_MODE_SEPARATION: Final = 4.0
"""In units of the clusters' spreads. Halves of one normal or uniform cluster reach at most 3."""
_LEAST_FOR_MODES: Final = 40
_MAD_TO_SIGMA: Final = 1.4826
_LARGEST_BATCH: Final = 1 << 21
_TINY: Final = 1e-300
_CONVERGED: Final = 1e-15


def median(values: Values) -> float:
    """Return the median; of an even number of values the mean of the middle two."""
    return float(np.median(np.asarray(values, dtype=np.float64)))


def quantile(values: Values, share: float) -> float:
    """Return the value below which a share of the values lies, interpolated linearly."""
    return float(np.quantile(np.asarray(values, dtype=np.float64), share))


def bootstrap_medians(values: Values, *, resamples: int, block: int = _BLOCK) -> Numbers:
    """Return medians of resamples made of blocks of consecutive values, the series as a circle.

    Args:
        values: in the order of measurement, at least one.
        resamples: medians to return.
        block: values a block.
    """
    series = np.asarray(values, dtype=np.float64)
    size = series.size
    block = min(block, size)
    blocks = -(-size // block)
    generator = np.random.Generator(np.random.PCG64(_seed(series)))
    medians = np.empty(resamples)
    batch = max(1, _LARGEST_BATCH // size)
    for start in range(0, resamples, batch):
        count = min(batch, resamples - start)
        first = generator.integers(0, size, (count, blocks, 1))
        places = ((first + np.arange(block)) % size).reshape(count, -1)[:, :size]
        medians[start : start + count] = np.median(series[places], axis=1)
    return medians


def median_interval(
    values: Values, *, confidence: float, resamples: int = 10_000
) -> tuple[float, float]:
    """Return the two-sided bootstrap interval of the median at a confidence (0 to 1)."""
    medians = bootstrap_medians(values, resamples=resamples)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(medians, [tail, 1.0 - tail])
    return float(low), float(high)


def normal_quantile(share: float) -> float:
    """Return the value that a standard normal stays below with probability `share`."""
    return NormalDist().inv_cdf(share)


@lru_cache(maxsize=512)
def student_quantile(share: float, freedom: int) -> float:
    """Return the value that Student's t with `freedom` degrees stays below with that probability.

    Accurate to about 1e-12 relative for shares from 1e-12 up to 1 - 1e-12.

    Raises:
        ValueError: a share outside (0, 1) or fewer than one degree of freedom.
    """
    if not 0.0 < share < 1.0 or freedom < 1:
        msg = f"no Student quantile for share {share} with {freedom} degrees of freedom"
        raise ValueError(msg)
    if share == 0.5:  # noqa: PLR2004 - the exact centre of a symmetric law
        return 0.0
    tail = min(share, 1.0 - share)
    low, high = -40.0, 400.0  # powers of two that enclose every quantile a float can hold
    for _ in range(120):
        middle = (low + high) / 2.0
        low, high = (
            (middle, high) if _upper_tail(math.exp2(middle), freedom) > tail else (low, middle)
        )
    value = math.exp2((low + high) / 2.0)
    return value if share > tail else -value


def t_interval(values: Values, *, level: float) -> tuple[float, float, float]:
    """Return the mean and its interval, each end one-sided at `level` by Student's t.

    Raises:
        ValueError: fewer than two values.
    """
    series = np.asarray(values, dtype=np.float64)
    if series.size < 2:  # noqa: PLR2004 - a spread needs two
        msg = f"a t interval needs at least two values, not {series.size}"
        raise ValueError(msg)
    mean = float(series.mean())
    error = float(series.std(ddof=1)) / math.sqrt(series.size)
    half = student_quantile(1.0 - level, series.size - 1) * error
    return mean, mean - half, mean + half


def slower_mode(times: Values) -> NDArray[np.bool_] | None:
    """Return which values belong to the slower of two clusters, or None for a single cluster.

    Two clusters: medians more than 10 % apart, each with more than 15 % of the values, and a
    distance between them that is large against the spread inside them. Smaller groups at the ends
    are outliers and belong to no cluster; slow ones count as slow.

    Source: MEASUREMENT B9.
    """
    logs = np.log(np.asarray(times, dtype=np.float64))
    if logs.size < _LEAST_FOR_MODES:
        return None
    ordered = np.sort(logs)
    least = _MODE_SHARE * logs.size
    while ordered.size > 2 * least:
        split = _best_split(ordered)
        below, above = ordered[:split], ordered[split:]
        if below.size <= least:
            ordered = above
        elif above.size <= least:
            ordered = below
        else:
            return np.asarray(logs >= above[0]) if _are_apart(below, above) else None
    return None


def _are_apart(below: Numbers, above: Numbers) -> bool:
    distance = float(np.median(above) - np.median(below))
    spread = max(_spread(below), _spread(above))
    return distance > math.log1p(_MODE_DISTANCE) and distance > _MODE_SEPARATION * spread


def _best_split(ordered: Numbers) -> int:
    """Return the first index of the upper cluster, by least squares within both clusters."""
    size = ordered.size
    counts = np.arange(1, size)
    sums = np.cumsum(ordered - ordered.mean())[:-1]
    # Least squares within the clusters is the greatest distance between them, weighted.
    return int(np.argmax(sums**2 / counts + sums**2 / (size - counts))) + 1


def _spread(cluster: Numbers) -> float:
    return _MAD_TO_SIGMA * float(np.median(np.abs(cluster - np.median(cluster))))


def _seed(series: Numbers) -> int:
    """Return a seed that depends on the order of the values and not on scale, shift or sign."""
    ranks = np.unique(series, return_inverse=True)[1].astype(np.int64)
    mirrored = ranks.max() - ranks
    digest = hashlib.sha256(min(ranks.tobytes(), mirrored.tobytes())).digest()
    return int.from_bytes(digest[:8])


def _upper_tail(value: float, freedom: int) -> float:
    """Return the probability that Student's t exceeds a positive value."""
    ratio = value / math.sqrt(freedom)
    squared = ratio * ratio
    return 0.5 * _incomplete_beta(1.0 / (1.0 + squared), squared / (1.0 + squared), freedom / 2.0)


def _incomplete_beta(part: float, rest: float, first: float) -> float:
    """Return the regularised incomplete beta function of `part`, parameters `first` and 1/2.

    `rest` is 1 - part, given apart because it is known without cancellation.
    """
    second = 0.5
    if part <= 0.0 or rest <= 0.0:
        return float(rest <= 0.0)
    log_front = (
        math.lgamma(first + second)
        - math.lgamma(first)
        - math.lgamma(second)
        + first * math.log(part)
        + second * math.log(rest)
    )
    front = math.exp(log_front)
    if part < (first + 1.0) / (first + second + 2.0):
        return front * _beta_fraction(part, first, second) / first
    return 1.0 - front * _beta_fraction(rest, second, first) / second


def _beta_fraction(part: float, first: float, second: float) -> float:
    """Return the continued fraction of the incomplete beta function, by Lentz's method."""
    upper = 1.0
    lower = 1.0 / _nonzero(1.0 - (first + second) * part / (first + 1.0))
    result = lower
    for step in range(1, 10_000):
        twice = first + 2 * step
        even = step * (second - step) * part / ((twice - 1.0) * twice)
        odd = -(first + step) * (first + second + step) * part / (twice * (twice + 1.0))
        change = 1.0
        for term in (even, odd):
            lower = 1.0 / _nonzero(1.0 + term * lower)
            upper = _nonzero(1.0 + term / upper)
            change = lower * upper
            result *= change
        if abs(change - 1.0) < _CONVERGED:
            break
    return result


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
