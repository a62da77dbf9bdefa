import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.occupancy import occupancy

KERNELS = {
    "threads": st.integers(min_value=1, max_value=1024),
    "registers": st.integers(min_value=0, max_value=255),
    "shared_bytes": st.integers(min_value=0, max_value=232_448),
}
ARCHS = st.sampled_from(["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_unknown"])


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "blocks", "fraction", "limiters"),
    [
        # The first four are what ncu 2025.3 said of kernels on an H200.
        (256, 16, 0, 8, 1.0, ("warps",)),
        (256, 32, 1024, 8, 1.0, ("warps", "registers")),
        (64, 16, 194_560, 1, 0.03125, ("shared_mem",)),
        (32, 16, 0, 32, 0.5, ("blocks",)),
        (128, 48, 0, 10, 0.625, ("registers",)),
        (1024, 64, 0, 1, 0.5, ("registers",)),
        (256, 0, 0, 8, 1.0, ("warps",)),
        (33, 16, 0, 32, 1.0, ("warps", "blocks")),
        (256, 255, 0, 1, 0.125, ("registers",)),
    ],
)
def test_hopper_holds_what_its_limits_allow(threads, registers, shared, blocks, fraction, limiters):
    found = occupancy("sm_90a", threads=threads, registers=registers, shared_bytes=shared)
    assert (found.blocks, found.fraction) == (blocks, fraction)
    assert found.limiters == limiters


def test_ampere_has_less_shared_memory():
    hopper = occupancy("sm_90a", threads=128, registers=32, shared_bytes=80_000)
    ampere = occupancy("sm_80", threads=128, registers=32, shared_bytes=100_000)
    assert hopper.blocks == 2
    assert ampere.blocks == 1


def test_kernel_that_fits_nowhere_has_no_blocks():
    found = occupancy("sm_86", threads=256, registers=32, shared_bytes=200_000)
    assert (found.blocks, found.fraction, found.limiters) == (0, 0.0, ("shared_mem",))


@given(arch=ARCHS, **KERNELS)
def test_fraction_is_a_fraction_and_something_limits(arch, threads, registers, shared_bytes):
    found = occupancy(arch, threads=threads, registers=registers, shared_bytes=shared_bytes)
    assert 0 <= found.fraction <= 1
    assert found.limiters
    assert set(found.limiters) <= {"registers", "shared_mem", "warps", "blocks"}


@given(arch=ARCHS, more=st.integers(min_value=0, max_value=64), **KERNELS)
def test_asking_for_more_never_holds_more(arch, more, threads, registers, shared_bytes):
    less = occupancy(arch, threads=threads, registers=registers, shared_bytes=shared_bytes)
    asked = {"threads": threads, "registers": registers, "shared_bytes": shared_bytes}
    greedy = {**asked, "shared_bytes": shared_bytes + 64 * more}
    assert occupancy(arch, **greedy).blocks <= less.blocks
    if registers:
        assert occupancy(arch, **{**asked, "registers": registers + more}).blocks <= less.blocks
