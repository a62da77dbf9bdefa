"""Numbers nobody outside the supervisor can foresee: keyed streams, and a pool that is fast.

Every stream is named by words and derived from the secret key by keyed BLAKE2b, so streams are
independent and any call can be drawn again without drawing those before it. Pure.

Why a pool: numpy's Philox gives a normal float32 in 10 ns; filling a slot may cost at most 2. A
pool of secret normals P and of secret words W is drawn once; a block of 32,768 elements is then

    (cos t * P[a + i] + sin t * P[b + i])  with sign and low mantissa bits flipped by W[c + i]

where the offsets a, b, c (up to 19 bits each) and the angle t are secret and fresh for every block
of every tensor of every call. What that gives:

- The sum of two independent normals under a rotation is normal, and a sign flip keeps it so.
- Two blocks agree in one element only by chance (about 2**-23): it would take equal sums under two
  different angles. Hence no row returns, at its old place or at another.
- Nothing learnt from earlier calls shortens a later one. P is never seen bare; addition and the
  flips by xor do not commute, so neither sums over P (prefix sums for a reduction) nor products
  with it (for a matrix product) carry over, and a table of f(P[j]) does not give f of a mixture.

Uniform contents mix three windows of W the same way, by addition modulo 2**32 and xor.
"""

import hashlib
import math
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
"""float32 or float64, C-contiguous."""

BLOCK: Final = 1 << 15
_LARGEST_POOL: Final = 1 << 19
_SMALLEST_POOL: Final = 1 << 16
_POOL_PER_ELEMENT: Final = 16
_LEAST_KEY_BYTES: Final = 16
_MOST_KEY_BYTES: Final = 64
_FLIPPED: Final = np.uint32(0x80000FFF)
"""Sign and the last 12 mantissa bits of a float32: at most 2**-11 of the value."""
_UNIT24: Final = 2.0**-24


class Secret:
    """A key, and the independent streams derived from it."""

    def __init__(self, key: bytes, context: str) -> None:
        """Bind a key to a context, so that two contexts under one key share nothing.

        Raises:
            ValueError: fewer than 16 or more than 64 bytes of key.
        """
        if not _LEAST_KEY_BYTES <= len(key) <= _MOST_KEY_BYTES:
            msg = f"a secret key has 16 to 64 bytes, not {len(key)}; use secrets.token_bytes(16)"
            raise ValueError(msg)
        self._state = hashlib.blake2b(context.encode(), key=key)

    def digest(self, *words: int | str) -> bytes:
        """Return 64 bytes that only these words under this key give."""
        state = self._state.copy()
        state.update(repr(words).encode())
        return state.digest()

    def generator(self, *words: int | str) -> np.random.Generator:
        """Return a counter-based generator for a stream of its own."""
        key = np.frombuffer(self.digest(*words), dtype=np.uint64, count=2)
        return np.random.Generator(np.random.Philox(key=key))


class Pool:
    """Fresh normal and uniform contents at little more than a copy's cost."""

    def __init__(self, secret: Secret, elements: int) -> None:
        """Size the pool for calls of about `elements`; nothing is drawn before it is needed."""
        wanted = 1 << max(elements * _POOL_PER_ELEMENT - 1, 1).bit_length()
        self._size = min(max(wanted, _SMALLEST_POOL), _LARGEST_POOL)
        self._secret = secret
        self._scratch = np.empty(BLOCK, dtype=np.float64)

    @cached_property
    def _normals(self) -> NDArray[np.float32]:
        generator = self._secret.generator("pool of normals")
        return generator.standard_normal(self._size + BLOCK, dtype=np.float32)

    @cached_property
    def _words(self) -> NDArray[np.uint32]:
        generator = self._secret.generator("pool of words")
        return generator.integers(0, 1 << 32, self._size + BLOCK, dtype=np.uint32)

    @cached_property
    def _flips(self) -> NDArray[np.uint32]:
        return self._words & _FLIPPED

    def normal(self, out: Floats, *words: int | str) -> None:
        """Fill a flat array with standard normals of the stream named by `words`."""
        for start in range(0, out.size, BLOCK):
            block = out[start : start + BLOCK]
            windows, angle = self._place(block.size, *words, start)
            scratch = self._scratch.view(out.dtype)[: block.size]
            scale = out.dtype.type
            np.multiply(self._normals[windows[0]], scale(math.cos(angle)), out=block)
            np.multiply(self._normals[windows[1]], scale(math.sin(angle)), out=scratch)
            np.add(block, scratch, out=block)
            self._flip(block, windows[2])

    def uniform(self, out: Floats, low: float, high: float, *words: int | str) -> None:
        """Fill a flat array with uniform numbers in [low, high) of the stream named by `words`.

        The grid has 2**24 steps; where `high` is not a multiple of a step it may be reached by
        rounding.
        """
        mixed = self._scratch.view(np.uint32)
        step = out.dtype.type((high - low) * _UNIT24)
        for start in range(0, out.size, BLOCK):
            block = out[start : start + BLOCK]
            (first, second, third), _ = self._place(block.size, *words, start)
            bits = mixed[: block.size]
            np.add(self._words[first], self._words[second], out=bits)
            np.bitwise_xor(bits, self._words[third], out=bits)
            np.right_shift(bits, 8, out=bits)
            block[...] = bits
            block *= step
            block += out.dtype.type(low)

    def _place(self, size: int, *words: int | str) -> tuple[tuple[slice, slice, slice], float]:
        """Return three windows at secret offsets, the first two distinct, and a secret angle."""
        drawn = np.frombuffer(self._secret.digest("place", *words), dtype=np.uint64, count=4)
        first = int(drawn[0]) % self._size
        second = (first + 1 + int(drawn[1]) % (self._size - 1)) % self._size
        third = int(drawn[2]) % self._size
        # Away from the axes, where one of the two windows would be seen almost bare.
        angle = math.pi * (0.125 + 0.25 * int(drawn[3]) / 2**64)
        windows = (
            slice(first, first + size),
            slice(second, second + size),
            slice(third, third + size),
        )
        return windows, angle

    def _flip(self, block: Floats, window: slice) -> None:
        flips = self._flips[window]
        if block.dtype == np.float32:
            bits = block.view(np.uint32)
            np.bitwise_xor(bits, flips, out=bits)
        else:
            wide = block.view(np.uint64)
            np.bitwise_xor(wide, flips.astype(np.uint64) << np.uint64(32), out=wide)
