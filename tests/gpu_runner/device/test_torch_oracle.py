import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.device.torch_elements import from_numbers
from gpu_runner.errors import ReferenceFailed
from gpu_runner.oracle.elements import from_float64
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import DType, ProfileName, Workload
from tests.builders import make_problem, make_workload
from tests.gpu_runner.device.torch_cases import (
    filled,
    oracle_of,
    plain_problem,
    raw_of,
    strided,
    tensors_of,
)
from tests.gpu_runner.device.torch_judged import expect_same_judgement
from tests.gpu_runner.oracle.drawn import KEY, linear_problem, linear_workload, one_input

HEAD = "import numpy as np\n\n\n"
HOST_ONLY = (
    HEAD + "def run(x):\n    mantissa, exponent = np.frexp(x)\n    return x + mantissa * 0\n"
)
UNSTACKED = HEAD + "def run(x):\n    return x * (2.0 if float(x.sum()) > 0 else 3.0)\n"


# Laws ------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from([DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.INT8]),
    rows=st.integers(1, 6),
    length=st.integers(1, 60),
    call=st.integers(0, 10**6),
    share=st.floats(-3, 3),
    data=st.data(),
)
def test_any_answer_to_any_type_is_judged_as_on_the_host(dtype, rows, length, call, share, data):
    problem = one_input(dtype)
    workload = make_workload(axes={"B": rows, "N": length})
    inputs = filled(problem, workload, call=call)
    right = Oracle(problem).expected(workload, raw_of(problem, inputs))
    mine = oracle_of(problem).expect(workload, inputs)
    numbers = right.outputs["y"].copy()
    place = data.draw(st.integers(0, numbers.size - 1))
    numbers.reshape(-1)[place] += share * right.bounds["y"].reshape(-1)[place]
    expect_same_judgement(problem, mine, right, {"y": from_float64(numbers, dtype)})


@settings(max_examples=20, deadline=None)
@given(slots=st.integers(1, 6), call=st.integers(0, 10**6), is_stacked=st.booleans())
def test_slots_answer_as_single_calls_do(slots, call, is_stacked):
    problem, workload = linear_problem(), linear_workload()
    oracle = oracle_of(problem)
    stacked, each = strided(problem, workload, slots)
    given_stack = stacked if is_stacked else None
    oracle.fill_slots(workload, each, call=call, stacked=given_stack)
    expected = oracle.expect_slots(workload, each, stacked=given_stack)
    for slot, inputs in enumerate(each):
        one = oracle.expect(workload, inputs)
        assert torch.allclose(expected.outputs["y"][slot], one.outputs["y"], rtol=1e-13, atol=0)
        assert torch.allclose(expected.bounds["y"][slot], one.bounds["y"], rtol=1e-13, atol=0)


# Slots -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stacked", [True, False])
def test_slots_are_fresh_in_every_call(is_stacked):
    problem, workload = linear_problem(), linear_workload()
    oracle = oracle_of(problem)
    seen: set[bytes] = set()
    for call in range(4):
        stacked, each = strided(problem, workload, 3)
        oracle.fill_slots(workload, each, call=call, stacked=stacked if is_stacked else None)
        seen.update(slot["x"].numpy().tobytes() for slot in each)
    assert len(seen) == 12


def test_slots_take_a_profile():
    problem, workload = one_input(DType.FLOAT32), make_workload()
    stacked, each = strided(problem, workload, 2)
    oracle = oracle_of(problem)
    for given_stack in (stacked, None):
        oracle.fill_slots(workload, each, call=0, profile=ProfileName.ZEROS, stacked=given_stack)
        assert not stacked["x"].any()


def test_a_stale_slot_is_wrong():
    problem, workload = make_problem(), make_workload()
    oracle = oracle_of(problem)
    stacked, each = strided(problem, workload, 3)
    oracle.fill_slots(workload, each, call=0, stacked=stacked)
    before = oracle.expect_slots(workload, each, stacked=stacked)
    stale = {"y": before.outputs["y"].float()}
    oracle.perturb(workload, each[1], each[1], call=0)
    after = oracle.expect_slots(workload, each, stacked=stacked)
    judged = oracle.judge_slots(after, (), case="stale", is_hidden=True, stacked=stale)
    assert [j.mismatch is None for j in judged] == [True, False, True]
    assert judged[1].mismatch is not None
    assert judged[1].mismatch.case == "stale"


def test_a_missing_output_of_one_slot_is_the_callers_fault():
    problem, workload = make_problem(), make_workload()
    oracle = oracle_of(problem)
    _, each = strided(problem, workload, 2)
    expected = oracle.expect_slots(workload, each)
    given_outputs = [{"y": expected.outputs["y"][0].float()}, {}]
    with pytest.raises(ValueError, match="output 'y' needs the shape"):
        oracle.judge_slots(expected, given_outputs, case="c", is_hidden=False)


# The host answers --------------------------------------------------------------------------------


def answers_of(oracle, problem, workload: Workload):
    inputs = filled(problem, workload)
    return inputs, oracle.expect(workload, inputs)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16, DType.INT8, DType.BOOL])
def test_what_a_device_lacks_is_answered_by_the_host(dtype):
    problem = plain_problem(HOST_ONLY, dtype)
    oracle = oracle_of(problem)
    inputs, expected = answers_of(oracle, problem, make_workload())
    assert not oracle.is_native
    assert "numpy.frexp has no counterpart" in oracle.reason
    assert torch.equal(from_numbers(expected.outputs["y"], dtype), inputs["x"])
    verdict = oracle.judge(expected, {"y": inputs["x"]}, case="c", is_hidden=False)
    assert verdict.mismatch is None
    rms = oracle.same_precision_rms(make_workload(), inputs, expected)
    assert rms["y"] == pytest.approx(0.0, abs=1e-6)


def test_slots_of_the_host_are_answered_one_by_one():
    problem, workload = plain_problem(HOST_ONLY), make_workload()
    oracle = oracle_of(problem)
    stacked, each = strided(problem, workload, 3)
    oracle.fill_slots(workload, each, call=0, stacked=stacked)
    expected = oracle.expect_slots(workload, each, stacked=stacked)
    judged = oracle.judge_slots(
        expected, (), case="c", is_hidden=False, stacked={"y": stacked["x"]}
    )
    assert [j.mismatch for j in judged] == [None] * 3


def test_a_reference_that_cannot_be_stacked_stays_on_the_device():
    problem, workload = plain_problem(UNSTACKED), make_workload()
    oracle = oracle_of(problem)
    stacked, each = strided(problem, workload, 3)
    oracle.fill_slots(workload, each, call=0, stacked=stacked)
    expected = oracle.expect_slots(workload, each, stacked=stacked)
    assert oracle.is_native
    for slot, inputs in enumerate(each):
        right = Oracle(problem).expected(workload, raw_of(problem, inputs))
        np.testing.assert_allclose(expected.outputs["y"][slot].numpy(), right.outputs["y"])


LATE = HEAD + (
    "def run(x):\n"
    "    if type(np.sqrt(4.0)) is float and x.shape[0] > 40:\n"
    "        raise MemoryError('late')\n"
    "    return x * 2\n"
)


def test_a_failure_at_full_size_falls_back_to_the_host():
    problem, workload = plain_problem(LATE), make_workload(axes={"B": 41, "N": 3})
    oracle = oracle_of(problem)
    inputs, expected = answers_of(oracle, problem, workload)
    assert torch.equal(expected.outputs["y"], inputs["x"].double() * 2)
    assert oracle.reason == "MemoryError: late"


def test_a_stack_that_fails_at_full_size_is_answered_all_the_same():
    problem, workload = plain_problem(LATE), make_workload(axes={"B": 41, "N": 3})
    oracle = oracle_of(problem)
    stacked, each = strided(problem, workload, 2)
    oracle.fill_slots(workload, each, call=0, stacked=stacked)
    expected = oracle.expect_slots(workload, each, stacked=stacked)
    assert torch.equal(expected.outputs["y"], stacked["x"].double() * 2)
    assert not oracle.is_native


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("def run(x):\n    return x[0]\n", r"answers 'y' in the shape \(128,\), not \(8, 128\)"),
        (HEAD + "def run(x):\n    return x.astype(np.float32)\n", "drop the cast"),
        ("def run(x):\n    return y\n", r"raised NameError in run\(\), line 2"),
        ("def go(x):\n    return x\n", "does not define run"),
        ("def run(x:\n", "raised SyntaxError"),
    ],
)
def test_a_broken_reference_is_named_as_the_host_names_it(reference, words):
    problem = plain_problem(reference)
    with pytest.raises(ReferenceFailed, match=words):
        answers_of(oracle_of(problem), problem, make_workload())
    _, each = strided(problem, make_workload(), 2)
    with pytest.raises(ReferenceFailed, match=words):
        oracle_of(problem).expect_slots(make_workload(), each)


OVERFLOWING_LATE = HEAD + ("def run(x):\n    return x * (1.0 if x.shape[0] <= 40 else np.inf)\n")


def test_no_finite_answer_for_finite_inputs_is_the_references_fault():
    problem = plain_problem(OVERFLOWING_LATE)
    workload = make_workload(axes={"B": 41, "N": 3})
    with pytest.raises(ReferenceFailed, match="for finite inputs; compute it without overflow"):
        answers_of(oracle_of(problem), problem, workload)


def test_no_finite_answer_in_a_slot_is_told_when_it_is_judged():
    problem = plain_problem(OVERFLOWING_LATE)
    workload = make_workload(axes={"B": 41, "N": 3})
    oracle = oracle_of(problem)
    stacked, each = strided(problem, workload, 2)
    oracle.fill_slots(workload, each, call=0, stacked=stacked)
    expected = oracle.expect_slots(workload, each, stacked=stacked)
    with pytest.raises(ReferenceFailed, match="for finite inputs"):
        oracle.judge_slots(expected, (), case="c", is_hidden=False, stacked={"y": stacked["x"]})


def test_no_number_may_answer_no_number():
    problem, workload = one_input(DType.FLOAT32), make_workload(profile=ProfileName.NAN_ONE)
    oracle = oracle_of(problem)
    stacked, each = strided(problem, workload, 2)
    oracle.fill_slots(workload, each, call=0, stacked=stacked)
    expected = oracle.expect_slots(workload, each, stacked=stacked)
    right = {"y": torch.maximum(stacked["x"], torch.zeros(()))}
    judged = oracle.judge_slots(expected, (), case="c", is_hidden=False, stacked=right)
    assert [j.mismatch for j in judged] == [None, None]
    judged = oracle.judge_slots(
        expected, (), case="c", is_hidden=False, stacked={"y": right["y"].nan_to_num()}
    )
    assert all(j.mismatch is not None for j in judged)


# Keys ------------------------------------------------------------------------------------------


def test_contents_depend_on_the_oracles_key():
    problem, workload = one_input(DType.FLOAT32), make_workload()
    given_tensors = []
    for key in (KEY, KEY, bytes(16)):
        into = tensors_of(problem, workload)
        oracle = type(oracle_of(problem))(problem, "cpu", key)
        oracle.fill(workload, into, call=3)
        given_tensors.append(into["x"])
    assert torch.equal(given_tensors[0], given_tensors[1])
    assert not torch.equal(given_tensors[0], given_tensors[2])
    into = tensors_of(problem, workload)
    oracle_of(problem).fill(workload, into, call=3, profile=ProfileName.ONE_HOT)
    assert (torch.count_nonzero(into["x"], dim=1) == 1).all()


WITHOUT_COMPILER = """
import sys
from tests.gpu_runner.device.torch_cases import oracle_of, strided, target

problem = target("silu_and_mul").problem
workload = min(target("silu_and_mul").workloads, key=problem.required_bytes)
oracle = oracle_of(problem)
stacked, each = strided(problem, workload, 2)
oracle.fill_slots(workload, each, call=0, stacked=stacked)
expected = oracle.expect_slots(workload, each, stacked=stacked)
one = oracle.expect(workload, each[0])
oracle.same_precision_rms(workload, each[0], one)
assert oracle.is_native
print("torch._dynamo" in sys.modules)
"""


def test_torchs_compiler_is_not_imported():
    """It takes longer to import than a whole verdict may."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER],
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
