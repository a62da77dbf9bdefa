"""The shipped targets, as they are on a GPU, on both oracles."""

import math

import numpy as np
import pytest

from gpu_runner.device.torch_compare import DeviceExpected
from gpu_runner.device.torch_elements import from_numbers
from gpu_runner.oracle.compare import judge
from gpu_runner.oracle.elements import from_float64
from gpu_runner.oracle.reference import Oracle
from tests.gpu_runner.device.torch_cases import (
    TARGETS,
    filled,
    oracle_of,
    raw_of,
    small_workloads,
    strided,
    target,
    tensors_of,
)
from tests.gpu_runner.device.torch_judged import (
    expect_agreement,
    expect_same_judgement,
    rounded,
)


@pytest.mark.parametrize("name", TARGETS)
def test_a_shipped_target_runs_on_a_device_and_in_stacks(name):
    problem = target(name).problem
    oracle = oracle_of(problem)
    workload = target(name).workloads[0]
    assert oracle.host_difference(workload) < 1e-12
    assert oracle.is_native
    assert oracle.reason == ""


@pytest.mark.parametrize("name", TARGETS)
def test_a_shipped_target_is_answered_as_on_the_host(name):
    problem = target(name).problem
    oracle, host = oracle_of(problem), Oracle(problem)
    workloads = small_workloads(name)
    assert len(workloads) >= 4
    for call, workload in enumerate(workloads):
        inputs = filled(problem, workload, call=call)
        right = host.expected(workload, raw_of(problem, inputs))
        expect_agreement(oracle.expect(workload, inputs), right)
    assert oracle.is_native


@pytest.mark.parametrize("name", TARGETS)
def test_a_shipped_target_is_answered_under_every_profile(name):
    problem = target(name).problem
    oracle, host = oracle_of(problem), Oracle(problem)
    workload = min(small_workloads(name), key=problem.required_bytes)
    workload = workload.model_copy(update={"axes": dict.fromkeys(workload.axes, 9)})
    for profile in problem.profiles:
        inputs = filled(problem, workload, profile=profile)
        right = host.expected(workload, raw_of(problem, inputs))
        expect_agreement(oracle.expect(workload, inputs), right)


@pytest.mark.parametrize("name", TARGETS)
def test_a_shipped_target_is_judged_as_on_the_host(name):
    problem = target(name).problem
    oracle, host = oracle_of(problem), Oracle(problem)
    workload = max(small_workloads(name), key=problem.required_bytes)
    inputs = filled(problem, workload)
    right = host.expected(workload, raw_of(problem, inputs))
    mine = oracle.expect(workload, inputs)
    raw = rounded(problem, right)
    assert expect_same_judgement(problem, mine, right, raw)
    generator = np.random.default_rng(7)
    for output in problem.outputs:
        for step in (0.3, 0.9, 1.5, 1e3):
            numbers = right.outputs[output.name].copy()
            place = int(generator.integers(numbers.size))
            numbers.reshape(-1)[place] += step * right.bounds[output.name].reshape(-1)[place]
            answer = {**raw, output.name: from_float64(numbers, output.dtype)}
            expect_same_judgement(problem, mine, right, answer)
        for value in (math.nan, math.inf, -math.inf):
            numbers = right.outputs[output.name].copy()
            numbers.reshape(-1)[-1] = value
            answer = {**raw, output.name: from_float64(numbers, output.dtype)}
            assert not expect_same_judgement(problem, mine, right, answer)


@pytest.mark.parametrize("name", TARGETS)
def test_slots_of_a_shipped_target_are_right_and_found_out(name):
    problem = target(name).problem
    oracle = oracle_of(problem)
    workload = max(small_workloads(name), key=problem.required_bytes)
    stacked, slots = strided(problem, workload, 3)
    oracle.fill_slots(workload, slots, call=5, stacked=stacked)
    expected = oracle.expect_slots(workload, slots, stacked=stacked)
    outputs = [
        {t.name: from_numbers(expected.outputs[t.name][slot], t.dtype) for t in problem.outputs}
        for slot in range(3)
    ]
    judged = oracle.judge_slots(expected, outputs, case="c", is_hidden=False)
    assert [j.mismatch for j in judged] == [None] * 3
    outputs[1], outputs[2] = outputs[2], outputs[1]
    judged = oracle.judge_slots(expected, outputs, case="c", is_hidden=False)
    assert [j.mismatch is None for j in judged] == [True, False, False]
    for slot, inputs in enumerate(slots):
        right = Oracle(problem).expected(workload, raw_of(problem, inputs))
        one = DeviceExpected(
            outputs={n: v[slot] for n, v in expected.outputs.items()},
            bounds={n: v[slot] for n, v in expected.bounds.items()},
        )
        expect_agreement(one, right)


@pytest.mark.parametrize("name", TARGETS)
def test_the_noise_of_a_shipped_targets_own_precision_is_the_hosts(name):
    problem = target(name).problem
    oracle, host = oracle_of(problem), Oracle(problem)
    workload = max(small_workloads(name), key=problem.required_bytes)
    inputs = filled(problem, workload)
    raw = raw_of(problem, inputs)
    right = host.expected(workload, raw)
    wanted = judge(
        problem, right, host.same_precision(workload, raw), case="c", is_hidden=False
    ).rms
    found = oracle.same_precision_rms(workload, inputs, oracle.expect(workload, inputs))
    assert found == pytest.approx(wanted, rel=0.02)
    assert oracle.is_native


@pytest.mark.parametrize("name", TARGETS)
def test_a_near_duplicate_moves_a_shipped_targets_answer(name):
    problem = target(name).problem
    oracle = oracle_of(problem)
    workload = max(small_workloads(name), key=problem.required_bytes)
    source, after = filled(problem, workload), tensors_of(problem, workload)
    before = oracle.expect(workload, source)
    worst = 0.0
    for call in range(4):
        oracle.perturb(workload, source, after, call=call)
        moved = oracle.expect(workload, after)
        answers = {t.name: from_numbers(moved.outputs[t.name], t.dtype) for t in problem.outputs}
        judgement = oracle.judge(before, answers, case="near duplicate", is_hidden=False)
        worst = max(worst, judgement.worst_error)
    assert worst > 2
