"""The host's judge is the definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpu_runner.device.torch_compare import judge_stacked
from gpu_runner.oracle import compare as host
from gpu_runner.oracle.elements import largest_finite
from gpu_runner.problem import DType
from tests.gpu_runner.device.torch_judged import expect_equal, stacked_of, verdict
from tests.gpu_runner.oracle.judged import expected_of, problem_of

TYPES = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.INT8)
SPECIAL = (math.nan, math.inf, -math.inf)


def numbers_of(shape, top: float = 1e3):
    return hnp.arrays(np.float64, shape, elements=st.floats(-top, top) | st.sampled_from(SPECIAL))


@pytest.mark.parametrize("dtype", TYPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_answer_gets_the_hosts_judgement(dtype, data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    numbers, answers = data.draw(numbers_of(shape)), data.draw(numbers_of(shape))
    if not dtype.is_float:
        numbers, answers = (
            np.nan_to_num(np.rint(n), posinf=99, neginf=-99) for n in (numbers, answers)
        )
    keep = data.draw(hnp.arrays(np.bool_, shape))
    verdict(numbers, np.where(keep, numbers, answers), dtype=dtype)


@pytest.mark.parametrize("dtype", TYPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_perturbation_around_the_bound_gets_the_hosts_judgement(dtype, data):
    shape = (4, 7)
    numbers = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(-100, 100)))
    bounds = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(1e-6, 2)))
    shares = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(-1.5, 1.5)))
    verdict(numbers, numbers + shares * bounds, bounds=bounds, dtype=dtype)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_answers_around_the_end_of_a_type_get_the_hosts_judgement(dtype, data):
    top = largest_finite(dtype)
    elements = st.floats(0.5, 2).map(lambda share: share * top) | st.sampled_from([top, -top])
    numbers = data.draw(hnp.arrays(np.float64, (3, 3), elements=elements))
    given = st.sampled_from([top, -top, math.inf, -math.inf, math.nan])
    answers = data.draw(hnp.arrays(np.float64, (3, 3), elements=given))
    bounds = np.full((3, 3), top * data.draw(st.sampled_from([1e-6, 0.3])))
    verdict(numbers, answers, bounds=bounds, dtype=dtype)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), slots=st.integers(1, 5), outputs=st.integers(1, 3))
def test_any_slots_get_the_hosts_judgements(data, slots, outputs):
    problem, shape = problem_of(outputs=outputs), (2, 3)
    many = [[data.draw(numbers_of(shape)) for _ in range(outputs)] for _ in range(slots)]
    expected = [expected_of(*numbers) for numbers in many]
    answers = [
        {
            f"y{i}": np.where(
                data.draw(hnp.arrays(np.bool_, shape)), n, data.draw(numbers_of(shape))
            ).astype(np.float32)
            for i, n in enumerate(numbers)
        }
        for numbers in many
    ]
    actual = {
        name: torch.stack([torch.from_numpy(a[name]) for a in answers]) for name in answers[0]
    }
    judged = judge_stacked(problem, stacked_of(expected), actual, case="c", is_hidden=False)
    for mine, slot, answer in zip(judged, expected, answers, strict=True):
        expect_equal(mine, host.judge(problem, slot, answer, case="c", is_hidden=False))
