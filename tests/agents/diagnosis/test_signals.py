import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.diagnosis.signals import REACHABLE_DRAM, facts_signals, signals, slowest
from gpu_runner.facts import Facts, InstructionMix, KernelFacts
from tests.agents.diagnosis.kernels import make_kernel
from tests.agents.playbook.test_diagnosis import make_roof

BARE = KernelFacts(workload="", kernel="k", source="counters")


def test_what_was_not_measured_has_no_signal():
    assert signals(BARE) == {}


def test_zero_is_a_signal():
    assert signals(BARE.model_copy(update={"dram_fraction": 0.0}))["dram_fraction"] == 0.0


def test_warps_that_wait_for_their_turn_need_nothing():
    stalls = {"not_selected": 0.9, "wait": 0.06, "barrier": 0.04}
    found = signals(make_kernel(stalls=stalls))
    assert found["stall_wait"] == pytest.approx(0.6)
    assert found["stall_sync"] == pytest.approx(0.4)
    assert "stall_not_selected" not in found
    assert "stall_memory" not in found


def test_reasons_that_mean_the_same_are_added():
    found = signals(make_kernel(stalls={"long_scoreboard": 0.5, "lg_throttle": 0.3, "wait": 0.2}))
    assert found["stall_memory"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("changes", "fp32", "integer", "half"),
    [
        ({}, 0.9, 0.1, 0.0),
        ({"float32_fraction": 0.88}, 0.9, 0.1, 0.0),
        ({"float32_fraction": 0.1}, 0.1, 0.9, 0.0),
        ({"float32_fraction": 0.0, "half_fraction": 0.85}, 0.0, 0.1, 0.9),
    ],
)
def test_one_pipe_is_told_apart_by_what_it_executed(changes, fp32, integer, half):
    found = signals(make_kernel(pipes={"fma": 0.9, "alu": 0.1}, **changes))
    assert (found["pipe_fp32"], found["pipe_int"], found["pipe_half"]) == (fp32, integer, half)


def test_the_busiest_unit_is_of_memory_or_work():
    found = signals(make_kernel(l2_fraction=0.7, pipes={"xu": 0.75}))
    assert (found["memory_busy"], found["work_busy"], found["busiest"]) == (0.7, 0.75, 0.75)


def test_dram_is_held_against_what_a_copy_reaches():
    found = signals(make_kernel(dram_fraction=0.46))
    assert found["dram_reached"] == pytest.approx(0.46 / REACHABLE_DRAM)


def test_a_grid_that_leaves_multiprocessors_idle_shows():
    assert signals(make_kernel(grid=(33, 1, 1)))["grid_fraction"] == 0.25
    assert signals(make_kernel(grid=(4096, 8, 1)))["grid_fraction"] == 1.0
    assert "grid_fraction" not in signals(make_kernel(grid=()))


def test_a_whole_profile_speaks_with_its_slowest_kernel():
    slow = make_kernel(kernel="slow", time_us=90.0, dram_fraction=0.7)
    facts = Facts(tier="gpu", kernels=(make_kernel(time_us=10.0), slow))
    assert slowest(facts) is slow
    found = facts_signals(facts)
    assert (found["time_us"], found["dram_fraction"]) == (100.0, 0.7)
    assert slowest(Facts(tier="gpu")) is None


def test_a_processors_profile_speaks_the_same_words():
    mix = InstructionMix(total=50, fma=10, spills=3, vector_bits={"256": 4, "512": 0})
    roofs = (make_roof(time_us=10.0, fraction_reached=0.5), make_roof(fraction_reached=0.8))
    found = facts_signals(Facts(tier="cpu", instructions=mix, roofline=roofs))
    assert found == {
        "time_us": 110.0,
        "fraction_reached": 0.5,
        "spills": 3.0,
        "vector_bits": 256.0,
        "fma_share": 0.2,
    }


def test_compilers_spills_are_spills_on_both():
    facts = Facts(tier="gpu", kernels=(make_kernel(spill_bytes=64),))
    assert facts_signals(facts)["spills"] == 64


@given(st.dictionaries(st.text(max_size=12), st.floats(0, 1e6), max_size=8))
def test_shares_of_the_waiting_sum_to_one(stalls):
    found = signals(make_kernel(stalls=stalls))
    shares = [found[f"stall_{name}"] for name in stalls if f"stall_{name}" in found]
    assert not shares or sum(shares) <= len(shares)
