"""The distributions of contents, one function each (MEASUREMENT C4).

A profile fills rows in place: shape [rows, length], float32 or float64. Exactness in the stored
type is the caller's concern. Pure; all randomness comes from the Draw.
"""

from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpu_runner.oracle import profile_rules as rules
from gpu_runner.oracle.elements import Numbers, Raw, smallest_subnormal
from gpu_runner.oracle.secret import Floats, Pool, Secret
from gpu_runner.problem import DType, ProfileName


class Draw:
    """The stream of one tensor in one call."""

    def __init__(self, secret: Secret, pool: Pool, dtype: DType, *words: int | str) -> None:
        """Name the stream; words are the call and the tensor."""
        self.dtype = dtype
        self.is_chosen = True
        """Whether this tensor is the one that profiles with a single flaw put it into."""
        self.row_kinds: tuple[ProfileName, ...] = ()
        """What an extreme row may be, within the problem's contract."""
        self._secret = secret
        self._pool = pool
        self._words = words
        self._uses = 0

    @cached_property
    def generator(self) -> np.random.Generator:
        """A generator of the stream, for what the pool does not serve."""
        return self._secret.generator("generator", *self._words)

    def normal(self, rows: Floats) -> None:
        """Fill with standard normals; each use within the stream is fresh."""
        self._uses += 1
        self._pool.normal(rows.reshape(-1), *self._words, self._uses)

    def uniform(self, rows: Floats, low: float, high: float) -> None:
        """Fill with uniform numbers in [low, high); each use within the stream is fresh."""
        self._uses += 1
        self._pool.uniform(rows.reshape(-1), low, high, *self._words, self._uses)

    def signs(self, shape: tuple[int, ...]) -> Numbers:
        """Return random +1 and -1."""
        return np.asarray(self.generator.integers(0, 2, shape) * 2.0 - 1.0, dtype=np.float64)

    def magnitude(self) -> float:
        """Return one number in [0.5, 3) of random sign."""
        return float(self.generator.uniform(*rules.MAGNITUDES) * self.signs((1,))[0])


_PROFILES: Final = rules.Profiles[Floats, Draw]()


def fill_floats(rows: Floats, profile: ProfileName, draw: Draw) -> None:
    """Fill rows of an activation with a profile."""
    _PROFILES.fill(rows, profile, draw)


def fill_parameters(rows: Floats, low: float, high: float, draw: Draw) -> None:
    """Fill with uniform numbers of a range."""
    draw.uniform(rows, low, high)


def fill_integers(
    rows: Raw, bounds: tuple[int, int], profile: ProfileName, generator: np.random.Generator
) -> None:
    """Fill rows of integers or bools, within inclusive bounds."""
    low, high = bounds
    zero = rules.nearest_to_zero(bounds)
    is_kept: NDArray[np.bool_]
    match profile:
        case ProfileName.ZEROS:
            rows[...] = zero
        case ProfileName.CONSTANT:
            rows[...] = int(generator.integers(low, high, endpoint=True))
        case ProfileName.LARGE:
            rows[...] = np.where(generator.integers(0, 2, rows.shape) == 0, low, high)
        case ProfileName.ALTERNATING:
            rows[:, 0::2] = low
            rows[:, 1::2] = high
        case ProfileName.SPARSE | ProfileName.ONE_HOT:
            is_kept = generator.random(rows.shape) < rules.SPARSE_FRACTION
            if profile is ProfileName.ONE_HOT:
                is_kept = np.arange(rows.shape[1]) == _columns(rows, generator)[:, None]
            rows[...] = np.where(is_kept, _integers(rows, bounds, generator), zero)
        case ProfileName.SORTED:
            rows[...] = np.sort(_integers(rows, bounds, generator), axis=-1)
        case _:
            rows[...] = _integers(rows, bounds, generator)


def _integers(rows: Raw, bounds: tuple[int, int], generator: np.random.Generator) -> Raw:
    drawn: Raw = generator.integers(*bounds, rows.shape, dtype=rows.dtype, endpoint=True)
    return drawn


def _columns(rows: Floats, generator: np.random.Generator) -> Raw:
    return np.asarray(generator.integers(0, rows.shape[1], rows.shape[0]))


@_PROFILES.of(ProfileName.NORMAL)
def _normal(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)


@_PROFILES.of(ProfileName.UNIFORM)
def _uniform(rows: Floats, draw: Draw) -> None:
    draw.uniform(rows, 0.0, 1.0)


@_PROFILES.of(ProfileName.OFFSET)
def _offset(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)
    rows += rows.dtype.type(rules.OFFSET)


@_PROFILES.of(ProfileName.LOG_UNIFORM)
def _log_uniform(rows: Floats, draw: Draw) -> None:
    low, high = rules.exponents(draw.dtype)
    draw.uniform(rows, low, high)
    np.exp2(rows, out=rows)
    rows *= draw.signs(rows.shape)


@_PROFILES.of(ProfileName.LARGE)
def _large(rows: Floats, draw: Draw) -> None:
    draw.uniform(rows, -rules.LARGE, rules.LARGE)


@_PROFILES.of(ProfileName.DENORMAL)
def _denormal(rows: Floats, draw: Draw) -> None:
    steps = draw.generator.integers(1, 1 << rules.SUBNORMAL_BITS[draw.dtype], rows.shape)
    rows[...] = steps * smallest_subnormal(draw.dtype) * draw.signs(rows.shape)


@_PROFILES.of(ProfileName.ZEROS)
def _zeros(rows: Floats, draw: Draw) -> None:
    rows[...] = np.copysign(0.0, draw.signs(rows.shape))


@_PROFILES.of(ProfileName.CONSTANT)
def _constant(rows: Floats, draw: Draw) -> None:
    rows[...] = draw.magnitude()


@_PROFILES.of(ProfileName.ONE_HOT)
def _one_hot(rows: Floats, draw: Draw) -> None:
    rows[...] = 0.0
    hot = draw.generator.uniform(*rules.MAGNITUDES, rows.shape[0])
    rows[np.arange(rows.shape[0]), _columns(rows, draw.generator)] = hot


@_PROFILES.of(ProfileName.SORTED)
def _sorted(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)
    rows.sort(axis=-1)
    is_falling = draw.generator.integers(0, 2, rows.shape[0]) == 1
    rows[is_falling] = rows[is_falling, ::-1]


@_PROFILES.of(ProfileName.SPARSE)
def _sparse(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)
    rows[draw.generator.random(rows.shape) >= rules.SPARSE_FRACTION] = 0.0


@_PROFILES.of(ProfileName.INTEGERS)
def _small_integers(rows: Floats, draw: Draw) -> None:
    rows[...] = draw.generator.integers(*rules.SMALL_INTEGERS, rows.shape, endpoint=True)


@_PROFILES.of(ProfileName.ALTERNATING)
def _alternating(rows: Floats, draw: Draw) -> None:
    """Signs alternate over few magnitudes, hence ties; the largest is in the last column."""
    rows[...] = draw.generator.integers(*rules.TIED_EIGHTHS, rows.shape, endpoint=True) / 8.0
    rows[:, 1::2] *= -1.0
    rows[:, -1] = draw.generator.uniform(*rules.LAST_MAGNITUDES, rows.shape[0])


@_PROFILES.of(ProfileName.NAN_ONE)
def _nan_one(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)
    if draw.is_chosen:
        rows.reshape(-1)[draw.generator.integers(0, rows.size)] = np.nan


@_PROFILES.of(ProfileName.INF_MASK)
def _inf_mask(rows: Floats, draw: Draw) -> None:
    """Mask with -inf at random, one column of each row excepted."""
    draw.normal(rows)
    if draw.is_chosen:
        is_masked = draw.generator.random(rows.shape) < rules.MASKED_FRACTION
        is_masked[np.arange(rows.shape[0]), _columns(rows, draw.generator)] = False
        rows[is_masked] = -np.inf


@_PROFILES.of(ProfileName.MIXED_ROWS)
def _mixed_rows(rows: Floats, draw: Draw) -> None:
    """Put one extreme row in sixteen, at least one, at random places among normal ones."""
    draw.normal(rows)
    height = rows.shape[0]
    for row in draw.generator.choice(height, rules.extreme_count(height), replace=False):
        one = rows[row : row + 1]
        if draw.row_kinds:
            kind = draw.row_kinds[draw.generator.integers(0, len(draw.row_kinds))]
            _PROFILES.fill(one, kind, draw)
        else:
            one *= one.dtype.type(rules.PLAIN_EXTREME)
