"""Contents of inputs, drawn on the device: new for every call, and unforeseeable.

What `oracle/contents` argues holds here too; the bits differ. Each tensor of each call has a
stream of its own, a counter-based generator seeded with 64 bits of keyed BLAKE2b. (On a CPU torch
seeds with 32 bits only: contents for tests.) Near-duplicates choose their place on the host, so
nothing waits for the device.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from gpu_runner.device.torch_elements import as_float64, expect_elements, from_numbers
from gpu_runner.device.torch_profiles import Draw, fill_floats, fill_integers, fill_parameters
from gpu_runner.oracle.elements import largest_finite
from gpu_runner.oracle.inputs import Inputs, rows_of, stand_ins
from gpu_runner.problem import DType, InputRule, Problem, ProfileName, Workload
from gpu_runner.problem import Tensor as Spec


class DeviceContents:
    """Draws the inputs of one workload; equal arguments give equal contents."""

    def __init__(self, problem: Problem, workload: Workload, key: bytes, device: str) -> None:
        """Bind a workload to a secret key of at least 16 bytes.

        Raises:
            ValueError: the key is too short, or the workload has no sizes under the problem.
        """
        self._inputs = Inputs(problem, workload, key)
        self._device = device

    def fill(
        self,
        into: Mapping[str, Tensor],
        *,
        call: int,
        slot: int | None = None,
        profile: ProfileName | None = None,
    ) -> None:
        """Write the inputs of one call.

        Args:
            into: contiguous tensors by input name, all inputs.
            call: any number; contents of two calls are independent, whatever the profile.
            slot: names one of several contents of one call.
            profile: distribution of activations; by default the workload's own.

        Raises:
            ValueError: a tensor is missing, not contiguous, or of a wrong shape or type.
        """
        words = ("call", call) if slot is None else ("slot", call, slot)
        parts = {t.name: self._checked(into, t)[None] for t in self._inputs.tensors}
        self._fill(parts, words, profile or self._inputs.profile)

    def fill_stacked(
        self, into: Mapping[str, Tensor], *, call: int, profile: ProfileName | None = None
    ) -> None:
        """Write the inputs of several slots at once, each slot's own.

        Args:
            into: tensors [slots, *shape] by input name, every slot contiguous.
            call: as `fill`, of which it is independent.
            profile: as `fill`.

        Raises:
            ValueError: as `fill`.
        """
        for tensor in self._inputs.tensors:
            if into[tensor.name].shape[0]:
                self._checked({tensor.name: into[tensor.name][0]}, tensor)
        self._fill(into, ("stacked", call), profile or self._inputs.profile)

    def perturb(
        self, source: Mapping[str, Tensor], into: Mapping[str, Tensor], *, call: int
    ) -> None:
        """Write a near-duplicate of `source`: one element or one row of one activation differs.

        A changed element gets the opposite sign and a magnitude beyond the row's largest; a changed
        row is drawn anew at up to three times its spread, one element of it as above, so that no
        duplicate equals its source.

        Args:
            source: tensors of a call, not modified.
            into: tensors to write; may be those of `source`.
            call: names the choice of place and value, independently of `fill`.

        Raises:
            ValueError: as `fill`.
        """
        for tensor in self._inputs.tensors:
            given, taken = self._checked(into, tensor), self._checked(source, tensor)
            if given.data_ptr() != taken.data_ptr():
                given.copy_(taken)
        host = self._inputs.secret.generator("perturb", call)
        place = self._inputs.place(host)
        if place is None:
            return
        tensor = place.tensor
        row = _rows(into[tensor.name][None])[0, place.row]
        draw = Draw(self._inputs.secret, self._device, tensor.dtype, "perturb", call)
        if tensor.dtype.is_float:
            new = _changed_floats(row, place.at, tensor.dtype, draw)
        else:
            new = _changed_integers(row, self._inputs.bounds(tensor), draw)
        row[place.where] = new[place.where]

    def _checked(self, tensors: Mapping[str, Tensor], tensor: Spec) -> Tensor:
        values = tensors.get(tensor.name)
        if values is None:
            msg = f"no tensor for the input {tensor.name!r}; given: {sorted(tensors)}"
            raise ValueError(msg)
        expect_elements(values, tensor.dtype)
        shape = self._inputs.shapes[tensor.name]
        if values.shape != shape or not values.is_contiguous():
            msg = (
                f"the tensor for {tensor.name!r} has the shape {tuple(values.shape)}, strides "
                f"{values.stride()}; give a contiguous tensor of shape {shape}"
            )
            raise ValueError(msg)
        return values

    def _fill(
        self, parts: Mapping[str, Tensor], words: tuple[int | str, ...], profile: ProfileName
    ) -> None:
        inputs = self._inputs
        flawed = inputs.flawed(*words)
        for tensor in inputs.tensors:
            part = parts[tensor.name]
            if part.numel() == 0:
                continue
            draw = Draw(
                inputs.secret, self._device, tensor.dtype, *words, tensor.name, profile.value
            )
            draw.is_chosen = tensor.name == flawed
            draw.row_kinds = inputs.row_kinds
            self._fill_one(_rows(part), tensor, profile, draw)

    def _fill_one(self, rows: Tensor, tensor: Spec, profile: ProfileName, draw: Draw) -> None:
        inputs = self._inputs
        if not tensor.dtype.is_float:
            kind = inputs.integer_profile(tensor, profile)
            fill_integers(rows, inputs.bounds(tensor), kind, draw)
        elif inputs.is_parameter(tensor):
            rule = inputs.rule(tensor)
            fill_parameters(rows, rule.low, rule.high, draw)
            _avoid_neutral(rows, rule)
        else:
            fill_floats(rows, profile, draw)


def _rows(stacked: Tensor) -> Tensor:
    """Return a view [slots, rows, length] of [slots, *shape], length being the last axis."""
    count, length = rows_of(tuple(stacked.shape[1:]))
    return stacked.as_strided(
        (stacked.shape[0], count, length), (stacked.stride(0), length, 1), stacked.storage_offset()
    )


def _avoid_neutral(rows: Tensor, rule: InputRule) -> None:
    """Replace exact zeros and ones of a float parameter, which a kernel could leave out unseen."""
    stored = torch.tensor(stand_ins(rule), dtype=rows.dtype).tolist()
    fit = [place for place in stored if place not in {0.0, 1.0}]
    if fit:
        rows.masked_fill_((rows == 0.0) | (rows == 1.0), fit[0])


def _changed_floats(row: Tensor, at: int, dtype: DType, draw: Draw) -> Tensor:
    """Return a row drawn anew; its element `at` has the other sign and passes the row's peak."""
    values = as_float64(row, dtype)
    is_finite = values.isfinite()
    sizes = torch.where(is_finite, values.abs(), 0.0)
    peak = sizes.amax()
    spread = (sizes.square().sum() / is_finite.sum().clamp(min=1)).sqrt()
    spread = torch.where(peak > 0, spread.clamp(min=1e-3), 1.0)
    new = torch.randn(row.shape, dtype=torch.float64, device=row.device, generator=draw.generator)
    new *= spread * draw.host.uniform(1.5, 3.0)
    old, toss = values[at], float(draw.host.choice([-1.0, 1.0]))
    sign = torch.where(old > 0, -1.0, torch.where(old < 0, 1.0, toss))
    new[at] = sign * peak.clamp(min=1.0) * draw.host.uniform(1.25, 2.0)
    limit = largest_finite(dtype)
    return from_numbers(new.clamp(-limit, limit), dtype)


def _changed_integers(row: Tensor, bounds: tuple[int, int], draw: Draw) -> Tensor:
    """Move every element by a quarter to three quarters of its range, wrapping around."""
    low, high = bounds
    span = high - low + 1
    shift = draw.integers(max(1, span // 4), max(1, 3 * span // 4), row.numel())
    return ((row.to(torch.int64) - low + shift) % span + low).to(row.dtype)
