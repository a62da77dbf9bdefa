"""The distributions of contents, one function each (MEASUREMENT C4).

A profile fills rows in place: shape [rows, length], float32 or float64. Exactness in the stored
type is the caller's concern. Pure; all randomness comes from the Draw.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gpu_runner.oracle.elements import Numbers, Raw, integer_range, smallest_subnormal
from gpu_runner.oracle.secret import Floats, Pool, Secret
from gpu_runner.problem import DType, ProfileName

_OFFSET = 1e3
_LARGE = 1e4
_EXPONENTS: Final = (-20.0, 20.0)
_HALF_EXPONENTS: Final = (-20.0, 15.0)
"""float16 ends at 65,504."""
_SPARSE_FRACTION = 0.01
_MASKED_FRACTION = 0.3
_EXTREME_EVERY = 16
_SUBNORMAL_STEPS: Final = {
    DType.FLOAT64: 1 << 52,
    DType.FLOAT32: 1 << 23,
    DType.FLOAT16: 1 << 10,
    DType.BFLOAT16: 1 << 7,
}
_WIDE_INTEGERS: Final = (-(1 << 15), (1 << 15) - 1)


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
        return float(self.generator.uniform(0.5, 3.0) * self.signs((1,))[0])


def fill_floats(rows: Floats, profile: ProfileName, draw: Draw) -> None:
    """Fill rows of an activation with a profile."""
    _PROFILES[profile](rows, draw)


def fill_parameters(rows: Floats, low: float, high: float, draw: Draw) -> None:
    """Fill with uniform numbers of a range."""
    draw.uniform(rows, low, high)


def fill_integers(
    rows: Raw, bounds: tuple[int, int], profile: ProfileName, generator: np.random.Generator
) -> None:
    """Fill rows of integers or bools, within inclusive bounds."""
    low, high = bounds
    zero = min(max(0, low), high)
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
            is_kept = generator.random(rows.shape) < _SPARSE_FRACTION
            if profile is ProfileName.ONE_HOT:
                is_kept = np.arange(rows.shape[1]) == _columns(rows, generator)[:, None]
            rows[...] = np.where(is_kept, _integers(rows, bounds, generator), zero)
        case ProfileName.SORTED:
            rows[...] = np.sort(_integers(rows, bounds, generator), axis=-1)
        case _:
            rows[...] = _integers(rows, bounds, generator)


def default_bounds(dtype: DType) -> tuple[int, int]:
    """Return the range of integer contents that no rule gives: all of 8 bits, 16 of the wider."""
    low, high = integer_range(dtype)
    return max(low, _WIDE_INTEGERS[0]), min(high, max(_WIDE_INTEGERS[1], 0))


def _integers(rows: Raw, bounds: tuple[int, int], generator: np.random.Generator) -> Raw:
    drawn: Raw = generator.integers(*bounds, rows.shape, dtype=rows.dtype, endpoint=True)
    return drawn


def _columns(rows: Floats, generator: np.random.Generator) -> Raw:
    return np.asarray(generator.integers(0, rows.shape[1], rows.shape[0]))


def _normal(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)


def _uniform(rows: Floats, draw: Draw) -> None:
    draw.uniform(rows, 0.0, 1.0)


def _offset(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)
    rows += rows.dtype.type(_OFFSET)


def _log_uniform(rows: Floats, draw: Draw) -> None:
    low, high = _HALF_EXPONENTS if draw.dtype is DType.FLOAT16 else _EXPONENTS
    draw.uniform(rows, low, high)
    np.exp2(rows, out=rows)
    rows *= draw.signs(rows.shape)


def _large(rows: Floats, draw: Draw) -> None:
    draw.uniform(rows, -_LARGE, _LARGE)


def _denormal(rows: Floats, draw: Draw) -> None:
    steps = draw.generator.integers(1, _SUBNORMAL_STEPS[draw.dtype], rows.shape)
    rows[...] = steps * smallest_subnormal(draw.dtype) * draw.signs(rows.shape)


def _zeros(rows: Floats, draw: Draw) -> None:
    rows[...] = np.copysign(0.0, draw.signs(rows.shape))


def _constant(rows: Floats, draw: Draw) -> None:
    rows[...] = draw.magnitude()


def _one_hot(rows: Floats, draw: Draw) -> None:
    rows[...] = 0.0
    hot = draw.generator.uniform(0.5, 3.0, rows.shape[0])
    rows[np.arange(rows.shape[0]), _columns(rows, draw.generator)] = hot


def _sorted(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)
    rows.sort(axis=-1)
    is_falling = draw.generator.integers(0, 2, rows.shape[0]) == 1
    rows[is_falling] = rows[is_falling, ::-1]


def _sparse(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)
    rows[draw.generator.random(rows.shape) >= _SPARSE_FRACTION] = 0.0


def _small_integers(rows: Floats, draw: Draw) -> None:
    rows[...] = draw.generator.integers(-8, 8, rows.shape, endpoint=True)


def _alternating(rows: Floats, draw: Draw) -> None:
    """Signs alternate over few magnitudes, hence ties; the largest is in the last column."""
    rows[...] = draw.generator.integers(4, 12, rows.shape) / 8.0
    rows[:, 1::2] *= -1.0
    rows[:, -1] = draw.generator.uniform(2.0, 4.0, rows.shape[0])


def _nan_one(rows: Floats, draw: Draw) -> None:
    draw.normal(rows)
    if draw.is_chosen:
        rows.reshape(-1)[draw.generator.integers(0, rows.size)] = np.nan


def _inf_mask(rows: Floats, draw: Draw) -> None:
    """Mask with -inf at random, one column of each row excepted."""
    draw.normal(rows)
    if draw.is_chosen:
        is_masked = draw.generator.random(rows.shape) < _MASKED_FRACTION
        is_masked[np.arange(rows.shape[0]), _columns(rows, draw.generator)] = False
        rows[is_masked] = -np.inf


def _mixed_rows(rows: Floats, draw: Draw) -> None:
    """Put one extreme row in sixteen, at least one, at random places among normal ones."""
    draw.normal(rows)
    count = max(1, rows.shape[0] // _EXTREME_EVERY)
    for row in draw.generator.choice(rows.shape[0], count, replace=False):
        one = rows[row : row + 1]
        if draw.row_kinds:
            kind = draw.row_kinds[draw.generator.integers(0, len(draw.row_kinds))]
            _PROFILES[kind](one, draw)
        else:
            one *= one.dtype.type(64.0)


EXTREME_ROWS: Final = (
    ProfileName.OFFSET,
    ProfileName.LOG_UNIFORM,
    ProfileName.LARGE,
    ProfileName.DENORMAL,
    ProfileName.ZEROS,
    ProfileName.CONSTANT,
    ProfileName.ONE_HOT,
    ProfileName.ALTERNATING,
)
"""What a row among normal ones may be, where the problem's contract has it."""

_PROFILES: Final[dict[ProfileName, Callable[[Floats, Draw], None]]] = {
    ProfileName.NORMAL: _normal,
    ProfileName.UNIFORM: _uniform,
    ProfileName.OFFSET: _offset,
    ProfileName.LOG_UNIFORM: _log_uniform,
    ProfileName.MIXED_ROWS: _mixed_rows,
    ProfileName.LARGE: _large,
    ProfileName.DENORMAL: _denormal,
    ProfileName.ZEROS: _zeros,
    ProfileName.CONSTANT: _constant,
    ProfileName.ONE_HOT: _one_hot,
    ProfileName.SORTED: _sorted,
    ProfileName.SPARSE: _sparse,
    ProfileName.INTEGERS: _small_integers,
    ProfileName.ALTERNATING: _alternating,
    ProfileName.NAN_ONE: _nan_one,
    ProfileName.INF_MASK: _inf_mask,
}
