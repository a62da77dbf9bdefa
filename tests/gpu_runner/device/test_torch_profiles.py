"""The device's profiles under their laws, and what holds of slots and streams."""

import numpy as np
import pytest
import torch

from gpu_runner.device.torch_elements import as_float64, torch_dtype
from gpu_runner.device.torch_profiles import Draw, fill_floats, fill_integers, fill_parameters
from gpu_runner.oracle.secret import Secret
from gpu_runner.problem import DType, ProfileName
from tests.gpu_runner.oracle.drawn import KEY
from tests.gpu_runner.oracle.laws_profiles import SHAPE, ProfileLaws


def draw_of(*words: int | str, dtype: DType = DType.FLOAT32) -> Draw:
    return Draw(Secret(KEY, "profiles"), "cpu", dtype, *words)


class TestDeviceProfiles(ProfileLaws):
    slots = 2

    def rows_of(self, profile, *, call=0, dtype=DType.FLOAT32, shape=SHAPE, **flags):
        rows = torch.full((self.slots, *shape), torch.nan, dtype=torch_dtype(dtype))
        draw = draw_of(profile.value, call, dtype=dtype)
        for name, value in flags.items():
            setattr(draw, name, value)
        fill_floats(rows, profile, draw)
        return as_float64(rows, dtype).numpy()

    def integers_of(self, profile, bounds=(-128, 127), *, call=0, shape=SHAPE, dtype=DType.INT8):
        rows = torch.full((self.slots, *shape), 99, dtype=torch_dtype(dtype))
        fill_integers(rows, bounds, profile, draw_of("integers", profile.value, call))
        return rows.numpy()

    def parameters_of(self, low, high, dtype):
        rows = torch.empty((self.slots, *SHAPE), dtype=torch_dtype(dtype))
        fill_parameters(rows, low, high, draw_of("parameter"))
        return as_float64(rows, dtype).numpy()


@pytest.mark.parametrize("profile", list(ProfileName))
@pytest.mark.parametrize("slots", [1, 4])
def test_slots_differ(profile, slots):
    rows = torch.empty(slots, 16, 32)
    fill_floats(rows, profile, draw_of(profile.value))
    assert len({slot.numpy().tobytes() for slot in rows}) == slots


@pytest.mark.parametrize("profile", list(ProfileName))
def test_only_the_slots_of_a_slab_are_written(profile):
    slab = torch.full((3, 100), 77.0)
    rows = slab.as_strided((3, 8, 10), (100, 10, 1))
    fill_floats(rows, profile, draw_of("slab"))
    assert (slab[:, 80:] == 77.0).all()
    assert (slab[:, :80] != 77.0).all()


def test_a_constant_whole_number_is_each_slots_own():
    slots = torch.full((16, 4, 4), 99, dtype=torch.int8)
    fill_integers(slots, (-128, 127), ProfileName.CONSTANT, draw_of("integers"))
    assert {np.unique(slot).size for slot in slots} == {1}
    assert len({int(slot[0, 0]) for slot in slots}) > 8


def test_streams_of_other_words_or_keys_are_apart():
    first = draw_of("a", 1).uniform(8)
    assert torch.equal(first, draw_of("a", 1).uniform(8))
    assert not torch.equal(first, draw_of("a", 2).uniform(8))
    assert not torch.equal(first, draw_of("b", 1).uniform(8))
    other = Draw(Secret(bytes(16), "profiles"), "cpu", DType.FLOAT32, "a", 1)
    assert not torch.equal(first, other.uniform(8))


def test_the_host_and_the_device_do_not_share_a_stream():
    draw = draw_of("both")
    assert not np.allclose(draw.uniform(8).numpy(), draw.host.random(8))
