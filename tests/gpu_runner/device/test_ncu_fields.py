"""Pipes, activity, tails and extents, under the names of every version."""

import pytest

from gpu_runner.device.ncu_csv import ProfiledLaunch
from gpu_runner.device.ncu_facts import kernel_facts, stall_word
from gpu_runner.device.ncu_metrics import ACTIVE, ELAPSED, FRACTIONS, PIPE_FORMS, PIPES, peak

STALLS = (
    "smsp__average_warps_issue_stalled_{}_per_issue_active.ratio",
    "smsp__average_warp_latency_issue_stalled_{}.ratio",
    "smsp__warp_issue_stalled_{}_per_warp_active.pct",
    "smsp__warp_issue_stalled_{}.sum",
    "smsp__pcsamp_warps_issue_stalled_{}",
)


def of(readings, **words):
    launch = ProfiledLaunch(index=4, kernel="k", readings=readings, words=words)
    return kernel_facts(launch, workload="")


@pytest.mark.parametrize("field", FRACTIONS)
def test_every_name_of_a_fraction_gives_it(field):
    for name in FRACTIONS[field]:
        assert getattr(of({name: 40.0}), field) == pytest.approx(0.4), name


def test_a_share_of_elapsed_time_is_preferred():
    names = peak("l1tex__throughput")
    assert names[0].endswith(ELAPSED)
    both = {f"l1tex__throughput.avg.{ACTIVE}": 99.0, f"l1tex__throughput.avg.{ELAPSED}": 5.0}
    assert of(both).l1_fraction == pytest.approx(0.05)


def test_a_share_beyond_the_whole_was_too_short_to_measure():
    assert of({f"l1tex__throughput.avg.{ACTIVE}": 288.5}).l1_fraction is None
    assert of({f"sm__throughput.avg.{ELAPSED}": 101.0}).sm_fraction == pytest.approx(1.01)


@pytest.mark.parametrize("pipe", PIPES)
@pytest.mark.parametrize("form", PIPE_FORMS)
def test_every_name_of_a_pipe_is_known(pipe, form):
    for word in PIPES[pipe]:
        facts = of({f"{form.format(word)}.avg.{ELAPSED}": 60.0})
        assert facts.pipes[pipe] == pytest.approx(0.6), word


def test_the_busiest_name_of_a_pipe_counts_and_pipes_are_ranked():
    facts = of(
        {
            f"sm__pipe_tensor_cycles_active.avg.{ELAPSED}": 99.0,
            f"sm__inst_executed_pipe_tensor.avg.{ACTIVE}": 33.0,
            f"sm__pipe_alu_cycles_active.avg.{ELAPSED}": 10.0,
        }
    )
    assert list(facts.pipes) == ["tensor", "alu"]
    assert facts.tensor_fraction == pytest.approx(0.99)


def test_matrix_instructions_are_named_where_they_matter():
    name = "sm__inst_executed_pipe_tensor_op_{}.avg." + ACTIVE
    assert of({name.format("hmma"): 33.0, name.format("imma"): 2.0}).tensor_kinds == ("hmma",)
    assert of({name.format("gmma"): 60.0}).tensor_kinds == ("gmma",)


@pytest.mark.parametrize("family", STALLS)
def test_every_family_of_stalls_gives_the_same_shares(family):
    readings = {
        family.format("long_scoreboard"): 30.0,
        family.format("barrier"): 10.0,
        family.format("selected"): 99.0,
    }
    assert of(readings).stalls == {"long_scoreboard": 0.75, "barrier": 0.25}


def test_samples_that_did_not_issue_are_no_second_count():
    head = "smsp__pcsamp_warps_issue_stalled_"
    readings = {f"{head}barrier": 6.0, f"{head}barrier_not_issued": 5.0, f"{head}lg_throttle": 2.0}
    assert of(readings).stalls == {"barrier": 0.75, "lg_throttle": 0.25}


@pytest.mark.parametrize(
    ("word", "name"),
    [("long_sb", "long_scoreboard"), ("no_instructions", "no_instruction"), ("wait", "wait")],
)
def test_a_reason_has_one_name(word, name):
    assert stall_word(word) == name


@pytest.mark.parametrize(
    ("waves", "tail"),
    [(0.5, None), (1.0, 0.0), (1.25, 0.375), (2.0, 0.0), (3.88, 0.03), (100.4, 0.0), (None, None)],
)
def test_the_tail_is_what_the_last_wave_leaves_empty(waves, tail):
    readings = {} if waves is None else {"launch__waves_per_multiprocessor": waves}
    found = of(readings).tail_fraction
    assert found == (None if tail is None else pytest.approx(tail, abs=1e-9))


def test_extents_from_metrics_from_columns_or_from_a_size():
    dims = {f"launch__grid_dim_{axis}": float(n) for axis, n in zip("xyz", (4, 2, 1), strict=True)}
    assert of(dims).grid == (4, 2, 1)
    assert of({}, **{"Grid Size": "(8, 3, 1)", "Block Size": "( 256,1,1)"}).block == (256, 1, 1)
    assert of({"launch__grid_size": 24.0}).grid == (24, 1, 1)
    assert of({}).grid == ()


@pytest.mark.parametrize(
    ("words", "readings", "arch"),
    [
        ({"CC": "9.0"}, {}, "sm_90"),
        ({"CC": "10.3"}, {}, "sm_103"),
        ({"CC": ""}, {}, ""),
        ({"CC": "x.y"}, {}, ""),
        (
            {},
            {
                "device__attribute_compute_capability_major": 8.0,
                "device__attribute_compute_capability_minor": 6.0,
            },
            "sm_86",
        ),
        ({}, {"device__attribute_compute_capability_major": 8.0}, ""),
    ],
)
def test_the_architecture_from_column_or_attributes(words, readings, arch):
    assert of(readings, **words).arch == arch


def test_activity_says_how_long_and_how_evenly():
    facts = of(
        {
            "sm__cycles_active.avg": 60.0,
            "sm__cycles_active.max": 80.0,
            "sm__cycles_elapsed.avg": 100.0,
        }
    )
    assert (facts.active_fraction, facts.balance_fraction) == (0.6, 0.75)
    assert of({"sm__cycles_active.avg": 60.0}).active_fraction is None


@pytest.mark.parametrize(
    ("readings", "fraction"),
    [
        ({"smsp__thread_inst_executed_per_inst_executed.ratio": 16.0}, 0.5),
        ({"smsp__thread_inst_executed.sum": 320.0, "smsp__inst_executed.sum": 20.0}, 0.5),
        ({"smsp__thread_inst_executed.sum": 320.0}, None),
    ],
)
def test_threads_an_instruction(readings, fraction):
    assert of(readings).thread_fraction == fraction


def test_arithmetic_is_held_against_the_peak_of_the_clock():
    rate = "smsp__sass_thread_inst_executed_op_{}_pred_on.sum.per_cycle_elapsed"
    facts = of(
        {
            rate.format("ffma"): 8000.0,
            rate.format("fadd"): 1000.0,
            "sm__sass_thread_inst_executed_op_ffma_pred_on.sum.peak_sustained": 16000.0,
            "smsp__cycles_elapsed.avg.per_second": 1e9,
        }
    )
    assert facts.float32_fraction == pytest.approx(9 / 16)
    assert facts.flops_per_s == pytest.approx(17e12)
    assert facts.peak_flops_per_s == pytest.approx(32e12)
    assert of({rate.format("ffma"): 1.0}).flops_per_s is None
