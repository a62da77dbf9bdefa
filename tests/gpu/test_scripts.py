"""The arithmetic of the GPU scripts; what they measure needs a device."""

import pytest

from gpu_runner.decision import decide
from gpu_runner.records import BenchRecord, Verdict
from graph.ledger import AttemptOutcome
from graph.run_files import RunFiles
from tests.gpu import aa, run_target, speed
from tests.gpu.subjects import ROWS, honest_kernel, silu_target
from tests.graph.builders import (
    make_attempt,
    make_comparison,
    make_decision,
    make_environment,
    make_record,
)


def make_aa_record(candidate_us: float, same_us: float, sittings: int) -> BenchRecord:
    record = make_record(candidate_us, {aa.SAME: same_us}, sittings=sittings)
    return record.model_copy(update={"environment": make_environment(arch="sm_90a")})


# -- subjects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("microseconds", ROWS)
def test_a_shape_of_a_duration_moves_the_bytes_of_it(microseconds):
    target = silu_target(microseconds)
    (shape,) = target.public
    floor_us = target.problem.required_bytes(shape) / 4.2e6
    assert microseconds / 2 < floor_us < microseconds * 1.2
    assert len(target.hidden) >= 6


def test_a_numbered_kernel_is_another_candidate_of_the_same_code():
    assert honest_kernel().digest == honest_kernel().digest
    digests = {honest_kernel(number).digest for number in (None, 1, 2)}
    assert len(digests) == 3
    assert honest_kernel(1).plans == honest_kernel().plans


# -- identical code ------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(1, 12), (5, 2), (6, 2), (12, 1), (13, 0)])
def test_a_record_is_cut_into_whole_parts(size, count):
    record = make_aa_record(20.0, 20.0, 12)
    parts = aa.parts(record, size)
    assert [len(part.sittings) for part in parts] == [size] * count
    joined = [sitting for part in parts for sitting in part.sittings]
    assert joined == list(record.sittings[: size * count])


def test_each_part_can_be_decided_as_a_claim():
    for part in aa.parts(make_aa_record(20.0, 20.0, 10), 5):
        assert decide(part, aa.SAME, basis="claim").sittings == 5


def test_equal_times_are_never_told_apart():
    found = aa.series(20, [make_aa_record(20.0, 20.0, 10)], 3.0)
    assert found.is_good
    assert sum(found.claims.values()) == 2
    assert sum(found.feedback.values()) == 10
    assert found.median_difference == pytest.approx(0, abs=1e-9)
    assert found.kernel_us == pytest.approx(20.0)


def test_a_planted_difference_is_not_good():
    found = aa.series(20, [make_aa_record(20.0, 22.0, 10)], 3.0)
    assert not found.is_good
    assert found.claims == {Verdict.FASTER: 2}


@pytest.mark.parametrize(("kernel_us", "is_good"), [(20.0, False), (5.0, True)])
def test_short_kernels_may_differ_more_as_long_as_they_are_not_told_apart(kernel_us, is_good):
    found = aa.Series(
        aimed_us=5,
        kernel_us=kernel_us,
        claims={Verdict.SAME: 3},
        feedback={},
        median_difference=0.006,
        largest_difference=0.01,
        seconds=1,
    )
    assert found.is_good is is_good
    assert aa.table([found]).row_count == 1


# -- the time of a verdict -----------------------------------------------------------------------


def test_a_verdict_is_the_sum_of_its_stages():
    found = speed.figures({"build": [1, 2, 3], "check": [1, 1, 1], "bench": [2, 2, 8]})
    assert found["build_s"] == 2
    assert found["verdict_s"] == 5
    assert found["evaluations_an_hour"] == 720


# -- the table of a run --------------------------------------------------------------------------


def test_the_best_baseline_of_each_row_is_the_one_gained_least_over():
    eager = make_decision(
        2.0, workloads={"small": make_comparison(1.2), "wide": make_comparison(3.0)}
    )
    compiled = make_decision(
        1.5,
        against="torch compile",
        workloads={"small": make_comparison(1.4), "wide": make_comparison(1.1)},
    )
    found = run_target.rows((eager, compiled), {"wide": 30.0})
    assert [(row.workload, row.best) for row in found] == [
        (run_target.OVER_W, "torch compile"),
        ("small", "torch eager"),
        ("wide", "torch compile"),
    ]
    assert found[2].compared.speedup == 1.1
    assert found[2].floor_us == 30.0
    assert found[0].floor_us is None
    assert set(found[0].baselines_us) == {"torch eager", "torch compile"}
    assert run_target.table("t", found).row_count == 3


def test_a_run_without_claims_has_an_empty_table():
    assert run_target.rows((), {}) == ()
    assert run_target.table("t", ()).row_count == 0


def test_an_attempt_is_told_in_a_line(tmp_path):
    files = RunFiles(tmp_path)
    files.append_attempt(
        make_attempt(
            1,
            language="cuda",
            recipe="registers",
            parameters={"warps": 8},
            outcome=AttemptOutcome.MEASURED,
            feedback=make_decision(0.9, basis="feedback"),
        )
    )
    told = run_target.attempt_words(files, "a0001")
    assert told == "a0001 cuda/registers warps=8: measured 0.900x vs torch eager"
