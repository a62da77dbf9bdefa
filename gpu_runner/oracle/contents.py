"""Contents of inputs: new for every call, unforeseeable, cheap; and near-duplicates of them.

A timed call never sees contents twice, so a result kept from an earlier call is a wrong result.
A near-duplicate differs from a known call in one element or one row, so that a partial key or a
partial refresh is wrong too. How freshness is had cheaply is argued in `secret.py`.

Source: EXPLOITS A2, MEASUREMENT B4 and C4.
"""

import math
from collections.abc import Mapping

import numpy as np

from gpu_runner.oracle.elements import (
    Raw,
    as_float64,
    expect_raw,
    from_float64,
    largest_finite,
)
from gpu_runner.oracle.inputs import Inputs, Place, rows_of, stand_ins
from gpu_runner.oracle.profiles import Draw, fill_floats, fill_integers, fill_parameters
from gpu_runner.oracle.secret import Floats, Pool
from gpu_runner.problem import DType, InputRule, Problem, ProfileName, Tensor, Workload


class Contents:
    """Draws the inputs of one workload; equal arguments give equal contents."""

    def __init__(self, problem: Problem, workload: Workload, key: bytes) -> None:
        """Bind a workload to a secret key of at least 16 bytes.

        Raises:
            ValueError: the key is too short, or the workload has no sizes under the problem.
        """
        self._inputs = Inputs(problem, workload, key)
        self._pool = Pool(self._inputs.secret, self._inputs.elements)

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
        inputs, profile = self._inputs, profile or self._inputs.profile
        flawed = inputs.flawed(call)
        for tensor in inputs.tensors:
            rows = self._rows(into, tensor)
            if rows.size == 0:
                continue
            draw = Draw(inputs.secret, self._pool, tensor.dtype, profile.value, call, tensor.name)
            draw.is_chosen = tensor.name == flawed
            draw.row_kinds = inputs.row_kinds
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
        for tensor in self._inputs.tensors:
            self._rows(into, tensor)[...] = self._rows(source, tensor)
        generator = self._inputs.secret.generator("perturb", call)
        place = self._inputs.place(generator)
        if place is None:
            return
        row = self._rows(into, place.tensor)[place.row]
        if place.tensor.dtype.is_float:
            _perturb_floats(row, place, generator)
        else:
            _perturb_integers(row[place.where], self._inputs.bounds(place.tensor), generator)

    def _rows(self, arrays: Mapping[str, Raw], tensor: Tensor) -> Raw:
        """Return a view [rows, length] of a tensor's array, length being the last axis."""
        raw = arrays.get(tensor.name)
        if raw is None:
            msg = f"no array for the input {tensor.name!r}; given: {sorted(arrays)}"
            raise ValueError(msg)
        expect_raw(raw, tensor.dtype)
        shape = self._inputs.shapes[tensor.name]
        if raw.shape != shape or not raw.flags.c_contiguous:
            msg = (
                f"the array for {tensor.name!r} has the shape {raw.shape}, strides {raw.strides}; "
                f"give a C-contiguous array of shape {shape}"
            )
            raise ValueError(msg)
        return raw.reshape(rows_of(shape))

    def _fill_one(self, rows: Raw, tensor: Tensor, profile: ProfileName, draw: Draw) -> None:
        inputs = self._inputs
        if not tensor.dtype.is_float:
            kind = inputs.integer_profile(tensor, profile)
            fill_integers(rows, inputs.bounds(tensor), kind, draw.generator)
            return
        is_direct = tensor.dtype in {DType.FLOAT32, DType.FLOAT64}
        work = rows if is_direct else np.empty(rows.shape, dtype=np.float32)
        if inputs.is_parameter(tensor):
            fill_parameters(work, inputs.rule(tensor).low, inputs.rule(tensor).high, draw)
        else:
            fill_floats(work, profile, draw)
        if not is_direct:
            _round_into(rows, work, tensor.dtype)
        if inputs.is_parameter(tensor):
            _avoid_neutral(rows, tensor.dtype, inputs.rule(tensor))


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
        others = from_float64(np.array(stand_ins(rule)), dtype)
        fit = others[(others != zero) & (others != minus_zero) & (others != one)]
        if fit.size:
            rows[is_neutral] = fit[0]


def _perturb_floats(row: Raw, place: Place, generator: np.random.Generator) -> None:
    """Draw a part of a row anew; its element `at` gets the other sign and passes the row's peak."""
    at, where, dtype = place.at, place.where, place.tensor.dtype
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
