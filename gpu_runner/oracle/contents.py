"""Contents of inputs: new for every call, unforeseeable, cheap; and near-duplicates of them.

A timed call never sees contents twice, so a result kept from an earlier call is a wrong result.
A near-duplicate differs from a known call in one element or one row, so that a partial key or a
partial refresh is wrong too. How freshness is had cheaply is argued in `secret.py`.

Source: EXPLOITS A2, MEASUREMENT B4 and C4.
"""

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from gpu_runner.oracle.elements import (
    Raw,
    as_float64,
    expect_raw,
    from_float64,
    largest_finite,
)
from gpu_runner.oracle.profile_rules import EXTREME_ROWS, default_bounds
from gpu_runner.oracle.profiles import Draw, fill_floats, fill_integers, fill_parameters
from gpu_runner.oracle.secret import Floats, Pool, Secret
from gpu_runner.problem import DType, InputRule, Problem, ProfileName, Tensor, Workload

_INSIDE = (0.618, 0.382, 0.271)
"""Places within a parameter's range, tried in turn, for values that came out as 0 or 1."""


class Contents:
    """Draws the inputs of one workload; equal arguments give equal contents."""

    def __init__(self, problem: Problem, workload: Workload, key: bytes) -> None:
        """Bind a workload to a secret key of at least 16 bytes.

        Raises:
            ValueError: the key is too short, or the workload has no sizes under the problem.
        """
        self._problem = problem
        self._workload = workload
        self._shapes = {t.name: problem.shape(t, workload) for t in problem.inputs}
        self._rules = {rule.input: rule for rule in problem.rules}
        self._secret = Secret(key, f"{problem.name}/{workload.name}")
        elements = sum(int(np.prod(shape)) for shape in self._shapes.values())
        self._pool = Pool(self._secret, elements)

    def fill(
        self,
        into: Mapping[str, Raw],
        *,
        call: int,
        profile: ProfileName | None = None,
    ) -> None:
        """Write the inputs of one call.

        Args:
            into: raw C-contiguous arrays by input name, all inputs.
            call: any number; contents of two calls are independent, whatever the profile.
            profile: distribution of activations; by default the workload's own.

        Raises:
            ValueError: an array is missing, not contiguous, or of a wrong shape or type.
        """
        profile = profile or self._workload.profile
        chosen = self._chosen_activation(call)
        for tensor in self._problem.inputs:
            rows = self._rows(into, tensor)
            if rows.size == 0:
                continue
            draw = Draw(self._secret, self._pool, tensor.dtype, profile.value, call, tensor.name)
            draw.is_chosen = tensor.name == chosen
            draw.row_kinds = self._row_kinds
            self._fill_one(rows, tensor, profile, draw)

    def perturb(self, source: Mapping[str, Raw], into: Mapping[str, Raw], *, call: int) -> None:
        """Write a near-duplicate of `source`: one element or one row of one activation differs.

        A changed element gets the opposite sign and a magnitude beyond the row's largest; a changed
        row is drawn anew at up to three times its spread, one element of it as above, so that no
        duplicate equals its source. Where the answer depends on its inputs at all it then moves by
        far more than a tolerance; admission verifies this for each task.

        Args:
            source: raw arrays of a call, not modified.
            into: raw arrays to write; may be the arrays of `source`.
            call: names the choice of place and value, independently of `fill`.

        Raises:
            ValueError: as `fill`.
        """
        for tensor in self._problem.inputs:
            self._rows(into, tensor)[...] = self._rows(source, tensor)
        generator = self._secret.generator("perturb", call)
        candidates = self._perturbable()
        if not candidates:
            return
        tensor = candidates[int(generator.integers(0, len(candidates)))]
        rows = self._rows(into, tensor)
        row = rows[int(generator.integers(0, rows.shape[0]))]
        is_element = row.size == 1 or generator.integers(0, 2) == 0
        at = int(generator.integers(0, row.size))
        where = slice(at, at + 1) if is_element else slice(None)
        if tensor.dtype.is_float:
            _perturb_floats(row, at, where, tensor.dtype, generator)
        else:
            _perturb_integers(row[where], self._bounds(tensor), generator)

    @cached_property
    def _row_kinds(self) -> tuple[ProfileName, ...]:
        return tuple(kind for kind in EXTREME_ROWS if kind in self._problem.profiles)

    @cached_property
    def _activations(self) -> tuple[Tensor, ...]:
        return tuple(
            tensor
            for tensor in self._problem.inputs
            if self._rules.get(tensor.name, InputRule(input=tensor.name)).role == "activation"
        )

    def _perturbable(self) -> tuple[Tensor, ...]:
        """Activations that have an element and more than one value; else any such input."""
        able = [t for t in self._problem.inputs if self._has_freedom(t)]
        preferred = tuple(t for t in able if t in self._activations)
        return preferred or tuple(able)

    def _has_freedom(self, tensor: Tensor) -> bool:
        if 0 in self._shapes[tensor.name]:
            return False
        low, high = (0, 1) if tensor.dtype.is_float else self._bounds(tensor)
        return low < high

    def _chosen_activation(self, call: int) -> str:
        floats = [t.name for t in self._activations if t.dtype.is_float]
        if not floats:
            return ""
        return floats[int.from_bytes(self._secret.digest("chosen", call)[:8]) % len(floats)]

    def _rows(self, arrays: Mapping[str, Raw], tensor: Tensor) -> Raw:
        """Return a view [rows, length] of a tensor's array, length being the last axis."""
        raw = arrays.get(tensor.name)
        if raw is None:
            msg = f"no array for the input {tensor.name!r}; given: {sorted(arrays)}"
            raise ValueError(msg)
        expect_raw(raw, tensor.dtype)
        shape = self._shapes[tensor.name]
        if raw.shape != shape or not raw.flags.c_contiguous:
            msg = (
                f"the array for {tensor.name!r} has the shape {raw.shape}, strides {raw.strides}; "
                f"give a C-contiguous array of shape {shape}"
            )
            raise ValueError(msg)
        length = shape[-1] if shape else 1
        return raw.reshape(raw.size // max(length, 1), length)

    def _bounds(self, tensor: Tensor) -> tuple[int, int]:
        low, high = default_bounds(tensor.dtype)
        rule = self._rules.get(tensor.name)
        if rule is None or tensor.dtype is DType.BOOL:
            return low, high
        return int(np.ceil(rule.low)), int(np.floor(rule.high))

    def _fill_one(self, rows: Raw, tensor: Tensor, profile: ProfileName, draw: Draw) -> None:
        is_parameter = tensor not in self._activations
        if not tensor.dtype.is_float:
            kind = ProfileName.NORMAL if is_parameter else profile
            fill_integers(rows, self._bounds(tensor), kind, draw.generator)
            return
        is_direct = tensor.dtype in {DType.FLOAT32, DType.FLOAT64}
        work = rows if is_direct else np.empty(rows.shape, dtype=np.float32)
        if is_parameter:
            rule = self._rules[tensor.name]
            fill_parameters(work, rule.low, rule.high, draw)
        else:
            fill_floats(work, profile, draw)
        if not is_direct:
            _round_into(rows, work, tensor.dtype)
        if is_parameter:
            _avoid_neutral(rows, tensor.dtype, self._rules[tensor.name])


def _round_into(rows: Raw, work: Floats, dtype: DType) -> None:
    if dtype is DType.FLOAT16:
        with np.errstate(over="ignore", under="ignore"):
            rows[...] = work
        return
    bits = work.view(np.uint32)
    bits += np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))
    rows[...] = bits >> 16


def _avoid_neutral(rows: Raw, dtype: DType, rule: InputRule) -> None:
    """Replace exact zeros and ones of a float parameter, which a kernel could leave out unseen."""
    zero, minus_zero, one = from_float64(np.array([0.0, -0.0, 1.0]), dtype)
    is_neutral = (rows == zero) | (rows == minus_zero) | (rows == one)
    if is_neutral.any():
        places = np.array([rule.low + (rule.high - rule.low) * share for share in _INSIDE])
        others = from_float64(places, dtype)
        fit = others[(others != zero) & (others != minus_zero) & (others != one)]
        if fit.size:
            rows[is_neutral] = fit[0]


def _perturb_floats(
    row: Raw, at: int, where: slice, dtype: DType, generator: np.random.Generator
) -> None:
    """Draw a part of a row anew; its element `at` gets the other sign and passes the row's peak."""
    values = as_float64(row, dtype)
    sizes = np.abs(values[np.isfinite(values)])
    peak, limit, old = float(sizes.max(initial=0.0)), largest_finite(dtype), float(values[at])
    if where.stop is None:
        # Squares of the shares of the peak, because those of the numbers themselves may overflow.
        spread = peak * float(np.sqrt(np.mean(np.square(sizes / peak)))) if peak > 0 else 1.0
        scale = min(max(spread, 1e-3) * generator.uniform(1.5, 3.0), limit)
        with np.errstate(over="ignore"):  # what leaves the type is clipped below
            values = generator.standard_normal(row.size) * scale
    sign = -math.copysign(1.0, old) if old < 0 or old > 0 else generator.choice([-1.0, 1.0])
    values[at] = sign * max(peak, 1.0) * generator.uniform(1.25, 2.0)
    row[where] = from_float64(np.clip(values[where], -limit, limit), dtype)


def _perturb_integers(part: Raw, bounds: tuple[int, int], generator: np.random.Generator) -> None:
    """Move every element by a quarter to three quarters of its range, wrapping around."""
    low, high = bounds
    span = high - low + 1
    shift = generator.integers(max(1, span // 4), max(1, 3 * span // 4), part.shape, endpoint=True)
    moved = (part.astype(np.int64) - low + shift) % span + low
    part[...] = moved.astype(part.dtype)
