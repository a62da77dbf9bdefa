import pytest

from gpu_runner.device.ncu_advice import completed, has_stalls, said_of
from gpu_runner.device.ncu_csv import ProfiledLaunch, parse_raw
from tests.gpu_runner.device.tools import DATA

DETAILS = (DATA / "ncu" / "known" / "details.csv").read_text().splitlines()
STALL = "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio"
HEAD = "ID,Kernel Name,Metric Name,Metric Value,Rule Name,Rule Type,Rule Description"


def said(text, kind="OPT", rule="R"):
    return said_of([f"{HEAD},Estimated Speedup", f'3,k,,,{rule},{kind},"{text}",12.5'])


def test_advice_is_ranked_by_what_it_promises():
    advice = said_of(DETAILS)[3].advice
    gains = [one.speedup_percent or 0.0 for one in advice]
    assert gains == sorted(gains, reverse=True)
    assert advice[0].rule == "HighPipeUtilization"


def test_only_rules_that_ask_for_something_are_kept():
    assert said("a", kind="INF") == {}
    assert said("a", kind="WRN")[3].advice[0].text == "a"


def test_addresses_of_the_network_are_left_out():
    (one,) = said("See the Guide (https://docs.example.com/x#y) for more.")[3].advice
    assert one.text == "See the Guide for more."


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("a scoreboard dependency on a L1TEX (local, global) operation", "long_scoreboard"),
        (
            "a scoreboard dependency on a MIO (memory input/output) operation (not to L1TEX)",
            "short_scoreboard",
        ),
        ("the L1 instruction queue for local and global (LG) memory", "lg_throttle"),
        ("the MIO (memory input/output) instruction queue to be not full", "mio_throttle"),
        ("sibling warps at a CTA barrier", "barrier"),
        ("the execution pipe to be available", "math_pipe_throttle"),
        ("an immediate constant cache (IMC) miss", "imc_miss"),
        ("a fixed latency execution dependency", "wait"),
        ("the next instruction to be fetched", "no_instruction"),
    ],
)
def test_what_warps_wait_for_stands_in_a_sentence(sentence, reason):
    text = f"On average, each warp spends 52.5 cycles being stalled waiting for {sentence}."
    assert said(text)[3].readings == {STALL.format(reason): 52.5}


def test_a_busy_pipe_stands_in_a_sentence():
    text = "FMA is the highest-utilized pipeline (90.6%) based on elapsed cycles"
    name = "sm__pipe_fma_cycles_active.avg.pct_of_peak_sustained_elapsed"
    assert said(text)[3].readings == {name: 90.6}


def test_conflicts_of_loads_and_stores_are_added():
    readings = said_of(DETAILS)[3].readings
    conflicts = readings["l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum"]
    passes = readings["l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"]
    assert conflicts / passes == pytest.approx(0.9686, abs=1e-3)


def test_excessive_sectors_stand_in_a_sentence():
    readings = said_of(DETAILS)[2].readings
    assert readings["derived__memory_l2_theoretical_sectors_global_excessive"] == 5884032
    assert readings["memory_l2_theoretical_sectors_global"] == 6733056


def test_what_the_rules_leave_open_counts_as_waiting_too():
    readings = {"smsp__average_warp_latency_per_inst_issued.ratio": 100.0}
    launch = ProfiledLaunch(index=3, kernel="k", readings=readings)
    one = said(
        "each warp spends 25.0 cycles being stalled waiting for sibling warps at a CTA barrier"
    )
    filled = completed(launch, one[3])
    assert filled.readings[STALL.format("barrier")] == 25.0
    assert filled.readings[STALL.format("not_told")] == 75.0
    assert not has_stalls(launch)
    assert has_stalls(filled)


def test_a_metric_that_was_read_is_not_replaced():
    name = "sm__pipe_fma_cycles_active.avg.pct_of_peak_sustained_elapsed"
    launch = ProfiledLaunch(index=3, kernel="k", readings={name: 50.0})
    one = said("FMA is the highest-utilized pipeline (90.6%)")
    assert completed(launch, one[3]).readings[name] == 50.0


def test_a_table_without_rules_says_nothing():
    assert said_of((DATA / "ncu" / "one.csv").read_text().splitlines()) == {}
    assert said_of([]) == {}


def test_every_launch_of_the_page_is_completed():
    rules = said_of(DETAILS)
    launches = [completed(one, rules[one.index]) for one in parse_raw(DETAILS)]
    assert all(map(has_stalls, [one for one in launches if one.symbol != "fma_bound"]))
