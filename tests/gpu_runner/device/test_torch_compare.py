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
from gpu_runner.jobs import Mismatch
from gpu_runner.oracle import compare as host
from gpu_runner.oracle.compare import Judgement
from gpu_runner.oracle.elements import largest_finite
from gpu_runner.problem import DType
from tests.gpu_runner.device.torch_cases import on_device
from tests.gpu_runner.device.torch_judged import (
    expect_equal,
    expected_of,
    problem_of,
    stacked_of,
    verdict,
)

TYPES = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.INT8)


def test_exact_answers_are_right_with_no_error():
    numbers = np.arange(6.0).reshape(2, 3)
    assert verdict(numbers, numbers) == Judgement(mismatch=None, worst_error=0.0, rms={"y0": 0.0})


def test_the_worst_error_is_the_largest_fraction_of_a_bound():
    judgement = verdict([[1.0, 2.0]], [[1.25, 2.125]], bounds=np.array([[0.5, 0.5]]))
    assert judgement.mismatch is None
    assert judgement.worst_error == 0.5


def test_an_error_of_exactly_the_bound_is_right_and_beyond_is_wrong():
    assert verdict([[1.0]], [[1.5]]).mismatch is None
    assert verdict([[1.0]], [[1.5 + 2**-20]]).mismatch is not None


def test_one_wrong_element_among_many_is_found_and_described():
    numbers = np.ones((300, 200))
    answers = numbers.copy()
    answers[217, 13] = 3.0
    answers[217, 14] = 4.0
    judgement = verdict(numbers, answers)
    assert judgement.mismatch == Mismatch(
        case="small/normal",
        output="y0",
        index=(217, 13),
        actual="3",
        expected="1",
        error_over_bound=4.0,
        wrong_fraction=2 / 60_000,
    )
    assert judgement.worst_error == 6.0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("place", [0, 1, 500, 59_999])
def test_a_wrong_element_of_any_type_is_found(dtype, place):
    numbers = np.zeros((300, 200))
    answers = numbers.copy()
    answers.reshape(-1)[place] = 9.0
    mismatch = verdict(numbers, answers, dtype=dtype).mismatch
    assert mismatch is not None
    assert mismatch.index == divmod(place, 200)
    assert mismatch.wrong_fraction == 1 / numbers.size


@pytest.mark.parametrize(
    ("right", "given", "is_right"),
    [
        (math.nan, math.nan, True),
        (math.nan, 1.0, False),
        (1.0, math.nan, False),
        (math.inf, math.inf, True),
        (-math.inf, -math.inf, True),
        (math.inf, -math.inf, False),
        (math.inf, 3e38, False),
        (math.inf, math.nan, False),
        (math.nan, math.inf, False),
        (1.0, math.inf, False),
        (-1.0, -math.inf, False),
        (1e39, math.inf, True),
        (-1e39, -math.inf, True),
        (1e39, -math.inf, False),
        (0.0, -0.0, True),
    ],
)
def test_special_values_must_meet_their_like(right, given, is_right):
    judgement = verdict([[1.0, right, 2.0]], [[1.0, given, 2.0]])
    assert (judgement.mismatch is None) == is_right
    assert math.isinf(judgement.worst_error) == (not is_right and not math.isfinite(given - right))


def test_a_wrong_special_value_has_no_ratio_to_report():
    mismatch = verdict([[1.0, 2.0]], [[1.0, math.nan]]).mismatch
    assert mismatch is not None
    assert mismatch.actual == "nan"
    assert mismatch.error_over_bound is None


@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float and t is not DType.FLOAT64])
def test_an_answer_beyond_the_type_may_be_infinite(dtype):
    top = largest_finite(dtype)
    assert verdict([[top * 1.5]], [[math.inf]], dtype=dtype).mismatch is None
    assert verdict([[-top * 1.5]], [[-math.inf]], dtype=dtype).mismatch is None
    assert verdict([[top * 0.9]], [[math.inf]], dtype=dtype).mismatch is not None
    within = np.full((1, 1), top * 0.2)
    assert verdict([[top * 0.9]], [[math.inf]], bounds=within, dtype=dtype).mismatch is None


def test_special_elements_do_not_spoil_the_error_of_others():
    numbers = [[math.nan, 4.0, math.inf, 3.0]]
    judgement = verdict(numbers, [[math.nan, 4.25, math.inf, 3.0]])
    assert judgement.mismatch is None
    assert judgement.worst_error == 0.5
    assert judgement.rms["y0"] == pytest.approx(0.25 / 5.0)


@pytest.mark.parametrize("limit", [math.nan, math.inf])
def test_a_bound_of_an_element_that_is_no_number_may_be_none_either(limit):
    bounds = np.array([[0.5, limit]])
    assert verdict([[1.0, math.nan]], [[1.0, math.nan]], bounds=bounds).mismatch is None
    assert verdict([[1.0, math.nan]], [[1.0, 2.0]], bounds=bounds).mismatch is not None


def test_poison_left_in_an_output_is_wrong():
    raw = np.ones((2, 2), np.float32)
    raw.view(np.uint32)[1, 1] = 0x7FA5A5A5
    judgement = judge_one(
        problem_of(),
        on_device(expected_of(np.ones((2, 2)))),
        {"y0": torch.from_numpy(raw)},
        case="c",
        is_hidden=False,
    )
    assert judgement.mismatch is not None
    assert judgement.mismatch.index == (1, 1)


def test_a_hidden_mismatch_tells_its_category_and_nothing_else():
    mismatch = verdict(np.zeros((4, 4)), np.ones((4, 4)), is_hidden=True).mismatch
    assert mismatch == Mismatch(case="small/normal", output="")


def test_the_first_wrong_output_is_described_and_the_worst_counts():
    zeros = np.zeros((2, 2))
    judgement = judge_one(
        problem_of(outputs=3),
        on_device(expected_of(zeros, zeros, zeros)),
        {f"y{i}": torch.full((2, 2), value) for i, value in enumerate((0.0, 2.0, 8.0))},
        case="c",
        is_hidden=False,
    )
    assert judgement.mismatch is not None
    assert judgement.mismatch.output == "y1"
    assert judgement.worst_error == 16.0
    assert set(judgement.rms) == {"y0", "y1", "y2"}


def test_whole_numbers_off_by_one_are_wrong():
    assert verdict([[5, -7]], [[5, -7]], dtype=DType.INT32).mismatch is None
    mismatch = verdict([[5, -7]], [[5, -6]], dtype=DType.INT32).mismatch
    assert mismatch is not None
    assert (mismatch.actual, mismatch.expected) == ("-6", "-7")


def test_a_bool_that_is_neither_is_wrong():
    judgement = judge_one(
        problem_of(DType.BOOL),
        on_device(expected_of([[0, 1]])),
        {"y0": torch.tensor([[0, 2]], dtype=torch.uint8).view(torch.bool)},
        case="c",
        is_hidden=False,
    )
    assert judgement.mismatch is not None


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_empty_outputs_are_right(shape):
    assert verdict(np.empty(shape), np.empty(shape)).mismatch is None


@pytest.mark.parametrize(
    ("actual", "words"),
    [
        ({}, "output 'y0' needs the shape"),
        ({"y0": torch.zeros(2, 3)}, r"given: the shape \(2, 3\)"),
        ({"y0": torch.zeros(2, 2, dtype=torch.float64)}, r"torch type torch.float32, not .*64"),
    ],
)
def test_buffers_of_the_callers_own_must_fit(actual, words):
    with pytest.raises(ValueError, match=words):
        judge_one(
            problem_of(),
            on_device(expected_of(np.zeros((2, 2)))),
            actual,
            case="c",
            is_hidden=False,
        )


def test_the_root_mean_square_error_is_relative():
    assert verdict([[3.0, 4.0]], [[3.3, 4.4]]).rms["y0"] == pytest.approx(0.1, rel=1e-6)


def test_where_all_answers_are_zero_the_relative_error_is_zero():
    assert verdict([[0.0, 0.0]], [[0.25, 0.0]]).rms["y0"] == 0.0


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
