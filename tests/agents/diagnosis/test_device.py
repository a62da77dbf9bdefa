"""What binds a kernel: the captured ones by name, made-up ones on both sides of each threshold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.diagnosis.device import DEVICE_RULES, diagnose_kernel, place
from agents.diagnosis.roof_rules import NEAR_ROOF, ROOF_SIGNALS
from agents.diagnosis.vocabulary import COARSE, ROOFS
from gpu_runner.facts import Hotspot, KernelFacts
from gpu_runner.report import read_kernels
from tests.agents.diagnosis.kernels import KNOWN, NCU, known, make_kernel, waiting_for

ZOO = NCU / "zoo"


@pytest.mark.parametrize("page", ["raw", "details"])
@pytest.mark.parametrize("name", KNOWN)
def test_captured_kernels_get_the_class_they_were_written_for(name, page):
    found = diagnose_kernel(known(page)[name])
    assert found.bottleneck == KNOWN[name]
    assert found.confidence >= 0.8
    assert found.readings


@pytest.mark.parametrize("folder", sorted(ZOO.glob("*/")), ids=lambda path: path.name)
def test_captured_kernels_of_the_zoo_get_the_class_of_the_manifest(folder):
    wanted = json.loads((ZOO / "manifest.json").read_text())[folder.name]["bottleneck"]
    assert diagnose_kernel(read_kernels(folder / "raw.csv")[0]).bottleneck == wanted


def test_only_useful_work_is_near_a_roof():
    near = {name for name, kernel in known().items() if diagnose_kernel(kernel).is_near_roof}
    assert near == {"dram_stream", "fma_bound"}


def test_matrix_units_fed_by_old_instructions_are_no_roof_where_newer_ones_exist():
    kernel = known()["tensor_wmma"]
    assert "wgmma" in diagnose_kernel(kernel).edit.change
    blackwell = diagnose_kernel(kernel.model_copy(update={"arch": "sm_100"}))
    assert "tcgen05" in blackwell.edit.change
    ampere = diagnose_kernel(kernel.model_copy(update={"arch": "sm_80"}))
    assert ampere.is_near_roof
    newer = diagnose_kernel(kernel.model_copy(update={"tensor_kinds": ("gmma",)}))
    assert newer.is_near_roof


CASES = {
    "dram_bandwidth": make_kernel(dram_fraction=0.8),
    "uncoalesced_access": make_kernel(dram_fraction=0.8, sector_use=0.25),
    "excess_traffic": make_kernel(dram_fraction=0.8, dram_bytes=3e8, required_bytes=1e8),
    "l2_bandwidth": make_kernel(l2_fraction=0.85, l2_hit_fraction=0.9),
    "l1_bandwidth": make_kernel(l1_fraction=0.9),
    "shared_memory_bandwidth": make_kernel(l1_fraction=0.9, shared_fraction=0.88),
    "shared_memory_bank_conflicts": make_kernel(
        l1_fraction=0.9, shared_fraction=0.88, shared_conflict_share=0.75
    ),
    "fp32_pipe": make_kernel(pipes={"fma": 0.9}, float32_fraction=0.85),
    "fp16_pipe": make_kernel(pipes={"fma": 0.9}, float32_fraction=0.0, half_fraction=0.9),
    "int_pipe": make_kernel(pipes={"fma": 0.9, "alu": 0.3}, float32_fraction=0.02),
    "fp64_pipe": make_kernel(pipes={"fp64": 0.9}),
    "special_function_pipe": make_kernel(pipes={"xu": 0.95, "fma": 0.3}),
    "tensor_pipe": make_kernel(pipes={"tensor": 0.9}),
    "issue_slots": make_kernel(issue_fraction=0.95, pipes={"fma": 0.5, "alu": 0.5}),
    "low_occupancy": make_kernel(occupancy_bound=0.12, occupancy_fraction=0.12),
    "small_grid": make_kernel(grid=(16, 1, 1), active_fraction=0.12, waves=0.1),
    "tail": make_kernel(waves=1.05, tail_fraction=0.47, active_fraction=0.55),
    "barrier_synchronisation": make_kernel(stalls=waiting_for("barrier")),
    "instruction_fetch": make_kernel(stalls=waiting_for("no_instruction")),
    "memory_latency": make_kernel(stalls=waiting_for("long_scoreboard")),
    "shared_memory_latency": make_kernel(stalls=waiting_for("short_scoreboard")),
    "execution_latency": make_kernel(stalls=waiting_for("wait", 0.9)),
    "divergence": make_kernel(thread_fraction=0.3, issue_fraction=0.6),
    "atomics": make_kernel(atomic_request_share=0.5, stalls=waiting_for("lg_throttle")),
    "spills": make_kernel(local_sector_share=0.6, local_instruction_share=0.2),
    "launch_overhead": make_kernel(time_us=2.0),
    "compute": make_kernel(sm_fraction=0.9),
    "memory_bandwidth": make_kernel(memory_fraction=0.9),
    "latency": make_kernel(stalls={}),
    "unknown": make_kernel(),
}


@pytest.mark.parametrize("name", CASES)
def test_each_class_is_found_by_its_counters(name):
    found = diagnose_kernel(CASES[name])
    assert found.bottleneck == name
    assert found.edit.change
    assert found.edit.validation


def test_every_fine_class_has_a_rule_and_a_case():
    ruled = {rule.bottleneck for rule in DEVICE_RULES}
    assert set(COARSE) <= ruled
    assert set(COARSE) <= set(CASES)


@pytest.mark.parametrize(
    ("changes", "bottleneck"),
    [
        ({"dram_fraction": 0.54}, "unknown"),
        ({"dram_fraction": 0.56}, "dram_bandwidth"),
        ({"l2_fraction": 0.9, "l2_hit_fraction": 0.3}, "unknown"),
        ({"l2_fraction": 0.9, "l2_hit_fraction": None}, "l2_bandwidth"),
        ({"l2_fraction": 0.95, "dram_fraction": 0.85, "l2_hit_fraction": 0.9}, "dram_bandwidth"),
        ({"dram_fraction": 0.8, "sector_use": 0.7}, "dram_bandwidth"),
        ({"occupancy_bound": 0.5}, "unknown"),
        ({"occupancy_bound": 0.5, "arch": "sm_89"}, "low_occupancy"),
        ({"occupancy_bound": 0.3, "dram_fraction": 0.8}, "dram_bandwidth"),
        ({"time_us": 5.5}, "unknown"),
        ({"time_us": 3.0, "dram_fraction": 0.8}, "dram_bandwidth"),
        ({"thread_fraction": 0.8}, "unknown"),
        ({"thread_fraction": 0.5, "stalls": waiting_for("barrier")}, "barrier_synchronisation"),
        ({"tail_fraction": 0.4, "waves": 20.0}, "unknown"),
        ({"tail_fraction": 0.4, "waves": 1.2, "active_fraction": 0.98}, "unknown"),
        ({"tail_fraction": 0.4, "waves": 1.2, "active_fraction": None}, "tail"),
        ({"balance_fraction": 0.4}, "tail"),
        ({"local_sector_share": 0.6, "local_instruction_share": 0.001}, "unknown"),
        ({"local_sector_share": 0.6, "spill_request_share": 0.0}, "spills"),
        ({"spill_bytes": 16}, "unknown"),
        ({"spill_bytes": 64, "local_sector_share": None}, "spills"),
        ({"atomic_request_share": 0.5, "dram_fraction": 0.9}, "dram_bandwidth"),
        ({"atomic_unit_fraction": 0.9}, "atomics"),
        ({"l2_fraction": 0.5, "l2_hit_fraction": 0.95, "dram_fraction": 0.05,
          "stalls": waiting_for("long_scoreboard")}, "l2_bandwidth"),
        ({"l2_fraction": 0.5, "l2_hit_fraction": 0.95, "dram_fraction": 0.05,
          "occupancy_fraction": 0.2, "stalls": waiting_for("long_scoreboard")}, "memory_latency"),
        ({"sm_fraction": 0.9, "pipes": {"alu": 0.88}}, "int_pipe"),
        ({"memory_fraction": 0.9, "dram_fraction": 0.85}, "dram_bandwidth"),
        ({"stalls": {"sleeping": 0.6, "wait": 0.4}}, "barrier_synchronisation"),
        ({"stalls": {"gmma": 0.6, "wait": 0.4}}, "tensor_pipe"),
        ({"shared_conflict_share": 0.9, "stalls": waiting_for("short_scoreboard")},
         "shared_memory_bank_conflicts"),
        ({"shared_conflict_share": 0.9}, "unknown"),
        ({"sector_use": 0.2, "l2_fraction": 0.75, "stalls": waiting_for("long_scoreboard")},
         "uncoalesced_access"),
        ({"sector_use": 0.2, "l2_fraction": 0.75, "occupancy_fraction": 0.1,
          "stalls": waiting_for("long_scoreboard")}, "memory_latency"),
    ],
)  # fmt: skip
def test_either_side_of_a_threshold(changes, bottleneck):
    assert diagnose_kernel(make_kernel(**changes)).bottleneck == bottleneck


@pytest.mark.parametrize("limiter", ["registers", "shared_mem", "blocks", "warps", "barriers"])
def test_the_edit_for_occupancy_is_about_what_limits_it(limiter):
    kernel = CASES["low_occupancy"].model_copy(update={"occupancy_limiters": (limiter,)})
    words = {
        "registers": "__launch_bounds__",
        "shared_mem": "smaller tile",
        "blocks": "larger",
        "warps": "divide",
        "barriers": "named barriers",
    }
    assert words[limiter] in diagnose_kernel(kernel).edit.change


def test_little_was_measured_and_the_digest_says_what_is_missing():
    found = diagnose_kernel(KernelFacts(workload="", kernel="k", source="counters", time_us=50.0))
    assert (found.bottleneck, found.confidence) == ("unknown", 0.2)
    assert "busiest" in found.missing
    assert "ncu --set full" in found.edit.change


def test_a_condition_that_could_not_be_asked_costs_confidence_and_is_named():
    whole = diagnose_kernel(make_kernel(waves=1.05, tail_fraction=0.47, active_fraction=0.55))
    part = diagnose_kernel(make_kernel(waves=1.05, tail_fraction=0.47, active_fraction=None))
    assert part.bottleneck == whole.bottleneck == "tail"
    assert part.missing == ("active_fraction",)
    assert part.confidence < whole.confidence


def test_confidence_grows_with_the_margin():
    seen = [
        diagnose_kernel(make_kernel(dram_fraction=share)).confidence
        for share in (0.57, 0.65, 0.72, 0.8, 0.87)
    ]
    assert seen == sorted(seen)
    assert seen[0] < 0.6
    assert seen[-1] > 0.7


def test_near_the_roof_the_edit_is_to_leave_it():
    kernel = make_kernel(dram_fraction=NEAR_ROOF)
    found = diagnose_kernel(kernel)
    assert found.is_near_roof
    assert "leave this kernel" in found.edit.change
    assert found.edit.expected.factor == 1.0
    assert not diagnose_kernel(make_kernel(dram_fraction=0.75)).is_near_roof


def test_every_roof_says_how_near_it_is():
    assert set(ROOF_SIGNALS) == set(ROOFS)


def test_the_edit_names_the_hottest_line_of_the_users_own_source():
    spots = (
        Hotspot(symbol="line", share=0.9, path="/usr/local/cuda/include/x.h", line=5),
        Hotspot(symbol="line", share=0.5, path="kernel.cu", line=42),
    )
    assert place(make_kernel(hotspots=spots)) == ("kernel.cu:42", "k")
    assert place(make_kernel(hotspots=spots[:1])) == ("/usr/local/cuda/include/x.h:5", "k")
    assert place(make_kernel()) == ("the kernel's source", "k")


FRACTIONS = st.none() | st.floats(0, 1.5)


@given(
    st.builds(
        make_kernel,
        time_us=st.none() | st.floats(0.1, 1e5),
        dram_fraction=FRACTIONS,
        l2_fraction=FRACTIONS,
        sm_fraction=FRACTIONS,
        sector_use=FRACTIONS,
        occupancy_bound=FRACTIONS,
        thread_fraction=FRACTIONS,
        shared_conflict_share=FRACTIONS,
        local_sector_share=FRACTIONS,
        atomic_request_share=FRACTIONS,
        arch=st.sampled_from(["", "sm_80", "sm_90", "sm_100"]),
        stalls=st.dictionaries(
            st.sampled_from(["wait", "barrier", "long_scoreboard", "no_instruction", "gmma"]),
            st.floats(0, 1),
        ),
    )
)
def test_any_facts_have_one_class_one_edit_and_a_confidence(kernel):
    found = diagnose_kernel(kernel)
    assert 0 < found.confidence <= 1
    assert found.edit.change
    assert found.bottleneck not in dict(found.alternatives)
    assert (found.bottleneck == "unknown") == (not found.readings)
