import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.device.ncu_csv import ProfiledLaunch, parse_raw
from gpu_runner.device.ncu_facts import kernel_facts
from gpu_runner.facts import KernelFacts
from tests.gpu_runner.device.tools import DATA

STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
OLD_STALL = "smsp__warp_issue_stalled_{}_per_warp_active.pct"
ELAPSED = "avg.pct_of_peak_sustained_elapsed"


def facts(**readings):
    named = {name.replace("__dot__", "."): value for name, value in readings.items()}
    return of(named)


def of(readings):
    launch = ProfiledLaunch(index=0, kernel="k(float *)", readings=readings)
    return kernel_facts(launch, workload="w")


def captured(name):
    lines = (DATA / "ncu" / f"{name}.csv").read_text().splitlines()
    return [kernel_facts(launch, workload="large") for launch in parse_raw(lines)]


def test_capture_gives_every_fact():
    (found,) = captured("one")
    assert found.kernel == "row_softmax"
    assert found.workload == "large"
    assert found.source == "counters"
    for name in ("dram", "l2", "l1", "sm", "tensor", "occupancy"):
        value = getattr(found, f"{name}_fraction")
        assert 0 <= value <= 1, name
    assert found.time_us == pytest.approx(39, rel=0.2)
    assert found.dram_bytes == pytest.approx(2 * 4 * 4096 * 4096, rel=0.2)
    assert (found.registers, found.shared_bytes) == (32, 1024)
    assert found.occupancy_bound == 1.0
    assert found.occupancy_limiters == ("registers", "warps")
    assert found.waves == pytest.approx(3.88)
    assert next(iter(found.stalls)) == "long_scoreboard"


def test_first_kernel_writes_almost_nothing():
    top, softmax = captured("two")
    assert top.dram_bytes is not None
    assert softmax.dram_bytes is not None
    assert top.dram_bytes < 0.7 * softmax.dram_bytes


def test_nothing_measured_leaves_none_everywhere():
    found = of({})
    empty = KernelFacts(workload="w", kernel="k", source="counters")
    assert found == empty


@pytest.mark.parametrize(
    ("metric", "field"),
    [
        (f"gpu__dram_throughput.{ELAPSED}", "dram_fraction"),
        (f"dram__throughput.{ELAPSED}", "dram_fraction"),
        (f"lts__throughput.{ELAPSED}", "l2_fraction"),
        (f"l1tex__throughput.{ELAPSED}", "l1_fraction"),
        ("l1tex__throughput.avg.pct_of_peak_sustained_active", "l1_fraction"),
        (f"sm__throughput.{ELAPSED}", "sm_fraction"),
        (f"sm__pipe_tensor_cycles_active.{ELAPSED}", "tensor_fraction"),
        ("sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active", "tensor_fraction"),
        ("sm__warps_active.avg.pct_of_peak_sustained_active", "occupancy_fraction"),
        ("sm__maximum_warps_per_active_cycle_pct", "occupancy_bound"),
    ],
)
def test_names_of_old_and_new_versions_mean_the_same(metric, field):
    assert getattr(of({metric: 91.0}), field) == pytest.approx(0.91)


def test_newest_name_comes_first():
    both = {f"gpu__dram_throughput.{ELAPSED}": 91.0, f"dram__throughput.{ELAPSED}": 20.0}
    assert of(both).dram_fraction == pytest.approx(0.91)


@pytest.mark.parametrize(
    ("readings", "total"),
    [
        ({"dram__bytes_read.sum": 3.0, "dram__bytes_write.sum": 4.0}, 7.0),
        ({"dram__bytes.sum": 9.0}, 9.0),
        ({"dram__bytes_read.sum": 3.0}, None),
        ({"dram__bytes_read.sum": 3.0, "dram__bytes.sum": 9.0}, 9.0),
        ({}, None),
    ],
)
def test_bytes_are_reads_and_writes_or_unknown(readings, total):
    assert of(readings).dram_bytes == total


@pytest.mark.parametrize(
    ("limits", "limiters"),
    [
        ({"registers": 4, "shared_mem": 1, "warps": 8}, ("shared_mem",)),
        ({"registers": 2, "warps": 2, "blocks": 32}, ("registers", "warps")),
        ({}, ()),
    ],
)
def test_limiter_allows_the_fewest_blocks(limits, limiters):
    readings = {f"launch__occupancy_limit_{name}": float(n) for name, n in limits.items()}
    assert of(readings).occupancy_limiters == limiters


def test_shared_memory_is_what_the_kernel_asked_for():
    readings = {
        "launch__shared_mem_per_block_static": 16896.0,
        "launch__shared_mem_per_block_dynamic": 1024.0,
        "launch__shared_mem_per_block_driver": 1024.0,
    }
    assert of(readings).shared_bytes == 17920


@pytest.mark.parametrize("family", [STALL, OLD_STALL])
def test_both_families_of_stalls_are_shares_of_the_waiting(family):
    readings = {
        family.format("long_scoreboard"): 9.0,
        family.format("barrier"): 1.0,
        family.format("selected"): 5.0,
        family.format("sleeping"): 0.0,
    }
    assert of(readings).stalls == {"long_scoreboard": 0.9, "barrier": 0.1}


def test_new_family_is_preferred():
    readings = {STALL.format("wait"): 2.0, OLD_STALL.format("barrier"): 90.0}
    assert of(readings).stalls == {"wait": 1.0}


@given(
    st.dictionaries(
        st.sampled_from(["wait", "barrier", "drain", "membar", "sleeping", "lg_throttle"]),
        st.floats(min_value=0, max_value=1e6),
    )
)
def test_stall_shares_are_ranked_and_sum_to_one(stalls):
    found = of({STALL.format(name): value for name, value in stalls.items()}).stalls
    shares = list(found.values())
    assert shares == sorted(shares, reverse=True)
    assert not shares or sum(shares) == pytest.approx(1)
    assert set(found) <= set(stalls)


def test_facts_travel():
    (found,) = captured("one")
    assert KernelFacts.model_validate_json(found.model_dump_json()) == found
