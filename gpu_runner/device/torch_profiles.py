"""The distributions of contents on a device, one function each; meanings as in `oracle/profiles`.

A profile fills rows in place: shape [slots, rows, length] in the stored type, the first stride
arbitrary. A handful of kernels each, and nothing waits for the device.
"""

from functools import cached_property
from typing import Final

import numpy as np
import torch
from torch import Tensor

from gpu_runner.device.torch_elements import bits_of
from gpu_runner.oracle import profile_rules as rules
from gpu_runner.oracle.secret import Secret
from gpu_runner.problem import DType, ProfileName


class Draw:
    """The stream of one tensor in one call: a generator on the device and one on the host."""

    def __init__(self, secret: Secret, device: str, dtype: DType, *words: int | str) -> None:
        """Name the stream; words are the call, the tensor and the profile."""
        self.dtype = dtype
        self.is_chosen = True
        """Whether this tensor is the one that profiles with a single flaw put it into."""
        self.row_kinds: tuple[ProfileName, ...] = ()
        """What an extreme row may be, within the problem's contract."""
        self._secret = secret
        self._words = words
        seed = int.from_bytes(secret.digest("device", *words)[:8])
        self.generator = torch.Generator(device).manual_seed(seed)
        self._device = device

    @cached_property
    def host(self) -> np.random.Generator:
        """A generator for the few choices that kernels are chosen by."""
        return self._secret.generator("host", *self._words)

    def uniform(self, *shape: int) -> Tensor:
        """Return float32 numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self._device)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return int64 numbers in [low, high]."""
        return torch.randint(low, high + 1, shape, generator=self.generator, device=self._device)

    def columns(self, rows: Tensor) -> Tensor:
        """Return one column index for each row: [slots, rows, 1]."""
        return self.integers(0, rows.shape[2] - 1, rows.shape[0], rows.shape[1], 1)

    def coins(self, *shape: int) -> Tensor:
        """Return fair booleans."""
        return self.uniform(*shape) < 0.5  # noqa: PLR2004 - the middle of the unit interval


_PROFILES: Final = rules.Profiles[Tensor, Draw]()


def fill_floats(rows: Tensor, profile: ProfileName, draw: Draw) -> None:
    """Fill rows of an activation with a profile."""
    _PROFILES.fill(rows, profile, draw)


def fill_parameters(rows: Tensor, low: float, high: float, draw: Draw) -> None:
    """Fill with uniform numbers of a range."""
    rows.uniform_(low, high, generator=draw.generator)


def fill_integers(rows: Tensor, bounds: tuple[int, int], profile: ProfileName, draw: Draw) -> None:
    """Fill rows of integers or bools, within inclusive bounds."""
    low, high = bounds
    zero = rules.nearest_to_zero(bounds)
    match profile:
        case ProfileName.ZEROS:
            rows.fill_(zero)
        case ProfileName.CONSTANT:
            rows.copy_(draw.integers(low, high, rows.shape[0], 1, 1).expand_as(rows))
        case ProfileName.LARGE:
            rows.copy_(torch.where(draw.coins(*rows.shape), low, high))
        case ProfileName.ALTERNATING:
            rows[..., 0::2].fill_(low)
            rows[..., 1::2].fill_(high)
        case ProfileName.SPARSE:
            rows.random_(low, high + 1, generator=draw.generator)
            rows.masked_fill_(draw.uniform(*rows.shape) >= rules.SPARSE_FRACTION, zero)
        case ProfileName.ONE_HOT:
            rows.fill_(zero)
            hot = draw.integers(low, high, rows.shape[0], rows.shape[1], 1)
            rows.scatter_(2, draw.columns(rows), hot.to(rows.dtype))
        case ProfileName.SORTED:
            rows.random_(low, high + 1, generator=draw.generator)
            rows.copy_(rows.sort(dim=-1).values)
        case _:
            rows.random_(low, high + 1, generator=draw.generator)


@_PROFILES.of(ProfileName.NORMAL)
def _normal(rows: Tensor, draw: Draw) -> None:
    rows.normal_(generator=draw.generator)


@_PROFILES.of(ProfileName.UNIFORM)
def _uniform(rows: Tensor, draw: Draw) -> None:
    rows.uniform_(generator=draw.generator)


@_PROFILES.of(ProfileName.OFFSET)
def _offset(rows: Tensor, draw: Draw) -> None:
    work = _work(rows).normal_(generator=draw.generator)
    rows.copy_(work.add_(rules.OFFSET))


@_PROFILES.of(ProfileName.LOG_UNIFORM)
def _log_uniform(rows: Tensor, draw: Draw) -> None:
    low, high = rules.exponents(draw.dtype)
    work = _work(rows).uniform_(low, high, generator=draw.generator).exp2_()
    rows.copy_(torch.where(draw.coins(*rows.shape), work, -work))


@_PROFILES.of(ProfileName.LARGE)
def _large(rows: Tensor, draw: Draw) -> None:
    rows.uniform_(-rules.LARGE, rules.LARGE, generator=draw.generator)


@_PROFILES.of(ProfileName.DENORMAL)
def _denormal(rows: Tensor, draw: Draw) -> None:
    """Write bit patterns: a product might be flushed to zero on its way."""
    bits = bits_of(rows)
    bits.random_(1, 1 << rules.SUBNORMAL_BITS[draw.dtype], generator=draw.generator)
    bits.bitwise_or_(_signs(rows, draw))


@_PROFILES.of(ProfileName.ZEROS)
def _zeros(rows: Tensor, draw: Draw) -> None:
    bits_of(rows).copy_(_signs(rows, draw))


@_PROFILES.of(ProfileName.CONSTANT)
def _constant(rows: Tensor, draw: Draw) -> None:
    rows.copy_(_magnitudes(draw, rows.shape[0], 1, 1).expand_as(rows))


@_PROFILES.of(ProfileName.ONE_HOT)
def _one_hot(rows: Tensor, draw: Draw) -> None:
    hot = _sizes(draw, rows.shape[0], rows.shape[1], 1)
    rows.zero_().scatter_(2, draw.columns(rows), hot.to(rows.dtype))


@_PROFILES.of(ProfileName.SORTED)
def _sorted(rows: Tensor, draw: Draw) -> None:
    rows.normal_(generator=draw.generator)
    rising = rows.sort(dim=-1).values
    is_falling = draw.coins(rows.shape[0], rows.shape[1], 1)
    rows.copy_(torch.where(is_falling, rising.flip(-1), rising))


@_PROFILES.of(ProfileName.SPARSE)
def _sparse(rows: Tensor, draw: Draw) -> None:
    rows.normal_(generator=draw.generator)
    rows.masked_fill_(draw.uniform(*rows.shape) >= rules.SPARSE_FRACTION, 0.0)


@_PROFILES.of(ProfileName.INTEGERS)
def _small_integers(rows: Tensor, draw: Draw) -> None:
    rows.copy_(draw.integers(*rules.SMALL_INTEGERS, *rows.shape))


@_PROFILES.of(ProfileName.ALTERNATING)
def _alternating(rows: Tensor, draw: Draw) -> None:
    """Signs alternate over few magnitudes, hence ties; the largest is in the last column."""
    rows.copy_(draw.integers(*rules.TIED_EIGHTHS, *rows.shape) / 8.0)
    rows[..., 1::2].neg_()
    rows[..., -1].uniform_(*rules.LAST_MAGNITUDES, generator=draw.generator)


@_PROFILES.of(ProfileName.NAN_ONE)
def _nan_one(rows: Tensor, draw: Draw) -> None:
    rows.normal_(generator=draw.generator)
    if draw.is_chosen:
        flat = rows.view(rows.shape[0], -1)
        flat.scatter_(1, draw.integers(0, flat.shape[1] - 1, rows.shape[0], 1), torch.nan)


@_PROFILES.of(ProfileName.INF_MASK)
def _inf_mask(rows: Tensor, draw: Draw) -> None:
    """Mask with -inf at random, one column of each row excepted."""
    rows.normal_(generator=draw.generator)
    if draw.is_chosen:
        is_masked = draw.uniform(*rows.shape) < rules.MASKED_FRACTION
        is_masked.scatter_(2, draw.columns(rows), value=False)
        rows.masked_fill_(is_masked, -torch.inf)


@_PROFILES.of(ProfileName.MIXED_ROWS)
def _mixed_rows(rows: Tensor, draw: Draw) -> None:
    """Put one extreme row in sixteen, at least one, at random places among normal ones.

    How many rows get which kind is one choice for all slots; the places are each slot's own.
    """
    rows.normal_(generator=draw.generator)
    slots, height, length = rows.shape
    count = rules.extreme_count(height)
    places = draw.uniform(slots, height).argsort(dim=1)[:, :count]
    slot = torch.arange(slots, device=rows.device)[:, None]
    if not draw.row_kinds:
        rows[slot, places] = rows[slot, places] * rules.PLAIN_EXTREME
        return
    kinds = len(draw.row_kinds)
    shares = draw.host.multinomial(count, np.full(kinds, 1.0 / kinds))
    start = 0
    for kind, share in zip(draw.row_kinds, shares.tolist(), strict=True):
        if share:
            # Each row is a slot of its own here: rows of a constant do not share it.
            block = torch.empty(slots * share, 1, length, dtype=rows.dtype, device=rows.device)
            _PROFILES.fill(block, kind, draw)
            part = places[:, start : start + share]
            rows[slot, part] = block.view(slots, share, length)
            start += share


def _work(rows: Tensor) -> Tensor:
    """Return scratch of the precision that a distribution is formed in before it is stored."""
    wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
    return torch.empty(rows.shape, dtype=wide, device=rows.device)


def _signs(rows: Tensor, draw: Draw) -> Tensor:
    """Return random sign bits, as integers of the elements' size."""
    sign = torch.iinfo(bits_of(rows[:0]).dtype).min
    return draw.coins(*rows.shape).to(bits_of(rows[:0]).dtype) * sign


def _sizes(draw: Draw, *shape: int) -> Tensor:
    """Return numbers in [0.5, 3)."""
    low, high = rules.MAGNITUDES
    return draw.uniform(*shape) * (high - low) + low


def _magnitudes(draw: Draw, *shape: int) -> Tensor:
    """Return numbers in [0.5, 3) of random sign."""
    numbers = _sizes(draw, *shape)
    return torch.where(draw.coins(*shape), numbers, -numbers)
