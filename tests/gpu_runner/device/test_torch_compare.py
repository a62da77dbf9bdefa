import math

import numpy as np
import pytest
import torch

from gpu_runner.device.torch_compare import (
    DeviceExpected,
    doubts_about,
    judge_one,
    judge_stacked,
)
from gpu_runner.errors import ReferenceFailed
from gpu_runner.oracle import compare as host
from tests.gpu_runner.device.torch_cases import on_device
from tests.gpu_runner.device.torch_judged import expect_equal, judged, stacked_of
from tests.gpu_runner.oracle.judged import expected_of, problem_of
from tests.gpu_runner.oracle.laws_compare import JudgingLaws


class TestDeviceJudging(JudgingLaws):
    """Every judgement is compared with the host's too."""

    library = "torch"

    def judge(self, problem, expected, raw, *, case="small/normal", is_hidden=False):
        return judged(problem, expected, raw, case=case, is_hidden=is_hidden)


def test_judging_changes_neither_the_answers_nor_the_truth():
    expected = on_device(expected_of(np.ones((2, 3))))
    actual = {"y0": torch.full((2, 3), 7.0)}
    for _ in range(2):
        judge_one(problem_of(), expected, actual, case="c", is_hidden=False)
    assert (expected.outputs["y0"] == 1.0).all()
    assert (expected.bounds["y0"] == 0.5).all()
    assert (actual["y0"] == 7.0).all()


# Slots -----------------------------------------------------------------------------------------


def test_every_slot_is_judged_as_if_alone():
    numbers = [np.full((2, 3), float(i)) for i in range(5)]
    answers = [n.copy() for n in numbers]
    answers[1][0, 2] += 3
    answers[3][1, 1] = math.nan
    answers[4] += 0.25
    slots = [expected_of(n) for n in numbers]
    problem = problem_of()
    actual = torch.stack([torch.from_numpy(a.astype(np.float32)) for a in answers])
    judged = judge_stacked(problem, stacked_of(slots), {"y0": actual}, case="c", is_hidden=False)
    assert [j.mismatch is None for j in judged] == [True, False, True, False, True]
    for mine, slot, answer in zip(judged, slots, answers, strict=True):
        raw = {"y0": answer.astype(np.float32)}
        expect_equal(mine, host.judge(problem, slot, raw, case="c", is_hidden=False))


def test_slots_of_a_slab_are_judged_where_they_lie():
    slab = torch.full((3, 100), torch.nan)
    actual = slab.as_strided((3, 4, 5), (100, 5, 1))
    actual.copy_(torch.ones(3, 4, 5))
    slots = [expected_of(np.ones((4, 5))) for _ in range(3)]
    judged = judge_stacked(
        problem_of(), stacked_of(slots), {"y0": actual}, case="c", is_hidden=False
    )
    assert [j.mismatch for j in judged] == [None] * 3


def test_a_doubt_about_the_reference_is_raised_and_names_the_place():
    expected = stacked_of([expected_of(np.ones((2, 2))), expected_of([[1.0, 2.0], [math.inf, 3]])])
    doubts = doubts_about(expected.outputs, expected.bounds, torch.tensor([True, True]))
    assert doubts.tolist() == [[0.0, 1.0]]
    doubtful = DeviceExpected(
        outputs=expected.outputs, bounds=expected.bounds, is_stacked=True, doubts=doubts
    )
    actual = {"y0": expected.outputs["y0"].float()}
    with pytest.raises(ReferenceFailed, match=r"answers inf in 'y0' at \(1, 0\).*without overflow"):
        judge_stacked(problem_of(), doubtful, actual, case="c", is_hidden=False)


@pytest.mark.parametrize("limit", [-1.0, math.nan, math.inf])
def test_a_bound_that_is_no_number_from_zero_up_is_doubted(limit):
    bounds = np.array([[0.5, limit]])
    expected = stacked_of([expected_of([[1.0, 2.0]], bounds=bounds)])
    doubts = doubts_about(expected.outputs, expected.bounds, torch.tensor([False]))
    assert doubts.tolist() == [[1.0]]
    doubtful = DeviceExpected(
        outputs=expected.outputs, bounds=expected.bounds, is_stacked=True, doubts=doubts
    )
    with pytest.raises(ReferenceFailed, match=r"answers 2.0 in 'y0' at \(0, 1\), within"):
        judge_stacked(
            problem_of(), doubtful, {"y0": torch.ones(1, 1, 2)}, case="c", is_hidden=False
        )


def test_no_number_is_no_doubt_where_an_input_is_none_either():
    expected = stacked_of([expected_of([[math.nan, 1.0]])])
    doubts = doubts_about(expected.outputs, expected.bounds, torch.tensor([False]))
    assert not doubts.any()
