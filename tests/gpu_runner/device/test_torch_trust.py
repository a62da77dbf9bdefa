import math

import pytest
import torch

from gpu_runner.device.torch_reference import TorchReference
from gpu_runner.device.torch_trust import (
    TRUSTED_DIFFERENCE,
    Attempt,
    HostOracle,
    Trial,
    Trust,
    difference,
    identity,
    sample,
    stacked_of,
)
from gpu_runner.oracle.secret import Secret
from gpu_runner.problem import Axis, DType, Problem, ProfileName
from tests.builders import make_problem, make_workload
from tests.gpu_runner.device.torch_cases import filled, plain_problem
from tests.gpu_runner.oracle.drawn import KEY, one_input

HEAD = "import numpy as np\n\n\n"


def trial_of(problem: Problem) -> Trial:
    native, host = TorchReference(problem, "cpu"), HostOracle(problem, "cpu")
    return Trial(problem, "cpu", KEY, native, host)


def answer_of(number, limit=1.0):
    numbers = torch.as_tensor(number, dtype=torch.float64)
    return {"y": numbers}, {"y": torch.zeros_like(numbers) + torch.as_tensor(limit)}


def test_an_ordinary_reference_is_trusted_with_stacks():
    trial = trial_of(make_problem())
    assert trial.difference(make_workload()) < 1e-13
    assert trial.verdict(make_workload()) is Trust.STACKED
    assert trial.reason == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return np.frexp(x)[0]", "AttributeError: numpy.frexp has no counterpart on a device"),
        ("return x.view(np.ndarray)", "AttributeError: "),
        ("raise ValueError('no')", "raised ValueError in run(), line 5: no"),
    ],
)
def test_what_does_not_run_on_a_device_is_left_to_the_host(body, words):
    trial = trial_of(plain_problem(f"{HEAD}def run(x):\n    {body}\n"))
    assert trial.verdict(make_workload()) is Trust.HOST
    assert words in trial.reason
    assert trial.difference(make_workload()) == math.inf


DIVERGING = (
    HEAD
    + """def run(x):
    return x + (1e-6 if type(np.sqrt(4.0)) is float else 0.0)
"""
)


def test_what_disagrees_with_numpy_is_left_to_the_host():
    trial = trial_of(plain_problem(DIVERGING))
    assert TRUSTED_DIFFERENCE < trial.difference(make_workload()) < 1
    assert trial.verdict(make_workload()) is Trust.HOST
    assert "differs from numpy" in trial.reason


def test_a_disagreement_under_any_profile_counts():
    source = HEAD + (
        "def run(x):\n"
        "    is_odd = np.isnan(x).any() and type(np.sqrt(4.0)) is float\n"
        "    return np.where(np.isnan(x), 0.0, x) + (1.0 if is_odd else 0.0)\n"
    )
    quiet = plain_problem(source)
    flawed = plain_problem(source, profiles=(ProfileName.NORMAL, ProfileName.NAN_ONE))
    assert trial_of(quiet).verdict(make_workload()) is not Trust.HOST
    assert trial_of(flawed).verdict(make_workload()) is Trust.HOST


def test_later_workloads_are_looked_at_under_their_own_profile_only():
    source = HEAD + ("SEEN = []\n\n\ndef run(x):\n    SEEN.append(x.shape)\n    return x * 2\n")
    profiles = (ProfileName.NORMAL, ProfileName.LARGE, ProfileName.ZEROS)
    problem = plain_problem(source, profiles=profiles)
    native = TorchReference(problem, "cpu")
    trial = Trial(problem, "cpu", KEY, native, HostOracle(problem, "cpu"))
    counts = []
    for rows in (3, 4, 4):
        workload = make_workload(axes={"B": rows, "N": 5})
        before = len(native._module["SEEN"])
        trial.verdict(workload)
        counts.append(len(native._module["SEEN"]) - before)
    # Three profiles or one; then two slots together, and each alone.
    assert counts == [3 + 3, 1 + 3, 0]


def test_workloads_with_the_same_sample_are_looked_at_once():
    problem = make_problem()
    trial = trial_of(problem)
    trial.verdict(make_workload(axes={"B": 1000, "N": 4096}))
    known = len(trial._known)
    trial.verdict(make_workload(name="other", axes={"B": 2000, "N": 8192}))
    assert len(trial._known) == known + 1


def test_a_reference_that_branches_on_contents_is_evaluated_call_by_call():
    source = HEAD + "def run(x):\n    return x * (2.0 if float(x.sum()) > 0 else 3.0)\n"
    trial = trial_of(plain_problem(source))
    assert trial.verdict(make_workload()) is Trust.SINGLE
    assert trial.reason == ""


def test_distrust_is_for_good_and_keeps_its_first_reason():
    trial = trial_of(make_problem())
    assert trial.verdict(make_workload()) is Trust.STACKED
    trial.distrust("first")
    trial.distrust("second")
    assert trial.reason == "first"
    assert trial.verdict(make_workload()) is Trust.HOST


def test_stacks_alone_can_be_distrusted():
    trial = trial_of(make_problem())
    trial.verdict(make_workload())
    trial.distrust_stacks()
    assert trial.verdict(make_workload()) is Trust.SINGLE


# Samples ---------------------------------------------------------------------------------------


def test_a_sample_is_small_and_of_the_same_kind():
    workload = make_workload(axes={"B": 4096, "N": 3}, profile=ProfileName.LARGE)
    small = sample(make_problem(), workload)
    assert small.axes == {"B": 37, "N": 3}
    assert small.profile is ProfileName.LARGE


def test_a_sample_meets_the_constraints():
    problem = make_problem(constraints=("N % 32 == 0",))
    small = sample(problem, make_workload(axes={"B": 4096, "N": 4096}))
    assert small.axes == {"B": 32, "N": 32}
    larger = make_problem(constraints=("N >= 200",))
    assert sample(larger, make_workload(axes={"B": 9, "N": 999})).axes == {"B": 9, "N": 256}


def test_fixed_axes_make_a_sample_shorter():
    axes = (Axis(name="B", kind="var"), Axis(name="N", kind="const", value=20_000))
    small = sample(make_problem(axes=axes), make_workload(axes={"B": 4096}))
    assert small.axes == {"B": 1}
    huge = (Axis(name="B", kind="var"), Axis(name="N", kind="const", value=1 << 20))
    assert sample(make_problem(axes=huge), make_workload(axes={"B": 4096})).axes == {"B": 1}


def test_a_sample_whose_constraints_leave_no_choice_is_the_workload():
    problem = make_problem(constraints=("B == 4096",))
    assert sample(problem, make_workload(axes={"B": 4096, "N": 2})).axes == {"B": 4096, "N": 2}


def test_contents_of_a_sample_are_those_of_no_workload():
    problem = one_input(DType.FLOAT32)
    workload = make_workload(axes={"B": 4, "N": 4})
    small = sample(problem, workload)
    assert small.axes == workload.axes
    assert not torch.equal(filled(problem, small)["x"], filled(problem, workload)["x"])
    assert Secret(KEY, small.name).digest("a") != Secret(KEY, workload.name).digest("a")


def test_workloads_are_told_apart_by_name_axes_and_scalars():
    base = make_workload()
    others = (
        make_workload(name="other"),
        make_workload(axes={"B": 8, "N": 129}),
        make_workload(scalars={"eps": 1.0}),
    )
    assert len({identity(w) for w in (base, *others)}) == 4
    assert identity(base) == identity(make_workload())


# Differences -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "right", "wanted"),
    [
        ([2.0, 4.0], [2.0, 4.0], 0.0),
        ([2.0, 5.0], [2.0, 4.0], 0.25),
        ([0.5], [0.0], 0.5),
        ([math.nan, math.inf, -math.inf], [math.nan, math.inf, -math.inf], 0.0),
        ([math.nan], [1.0], math.inf),
        ([1.0], [math.nan], math.inf),
        ([math.inf], [1.0], math.inf),
        ([1.0], [math.inf], math.inf),
        ([math.inf], [-math.inf], math.inf),
        ([], [], 0.0),
    ],
)
def test_a_difference_is_relative_to_the_answer_or_its_bound(given, right, wanted):
    assert difference(answer_of(given), answer_of(right)) == wanted


def test_bounds_may_differ_by_a_thousandth():
    right = answer_of([2.0], 1.0)
    assert difference(answer_of([2.0], 1.0005), right) < TRUSTED_DIFFERENCE
    assert difference(answer_of([2.0], 1.002), right) > TRUSTED_DIFFERENCE
    assert difference(answer_of([2.0], math.nan), right) > TRUSTED_DIFFERENCE


def test_the_bound_of_what_is_no_number_does_not_matter():
    assert difference(answer_of([math.nan], 5.0), answer_of([math.nan], math.nan)) == 0.0


# Parts -----------------------------------------------------------------------------------------


def test_an_attempt_takes_any_failure_as_a_no():
    with Attempt() as attempt:
        raise RuntimeError("out of memory")
    assert attempt.failure == "RuntimeError: out of memory"


def test_an_attempt_lets_an_interruption_through():
    with pytest.raises(KeyboardInterrupt), Attempt():
        raise KeyboardInterrupt


def test_a_good_attempt_has_no_failure():
    with Attempt() as attempt:
        pass
    assert attempt.failure == ""


def test_stacks_hold_what_every_slot_has():
    slots = [{"a": torch.full((2,), float(i)), "b": torch.zeros(1)} for i in range(3)]
    del slots[1]["b"]
    stacked = stacked_of(slots)
    assert set(stacked) == {"a"}
    assert stacked["a"][:, 0].tolist() == [0.0, 1.0, 2.0]
