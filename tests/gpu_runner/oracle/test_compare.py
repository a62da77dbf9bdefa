"""The host's judge under the laws of judging, and how noise is compared."""

import pytest

from gpu_runner.oracle.compare import judge, rms_ratio
from gpu_runner.problem import DType
from tests.gpu_runner.oracle.judged import problem_of
from tests.gpu_runner.oracle.laws_compare import JudgingLaws


class TestHostJudging(JudgingLaws):
    library = "numpy"

    def judge(self, problem, expected, raw, *, case="small/normal", is_hidden=False):
        return judge(problem, expected, raw, case=case, is_hidden=is_hidden)


def test_the_noise_of_an_answer_is_compared_with_the_trusted_one():
    problem = problem_of()
    u = DType.FLOAT32.unit_roundoff
    assert rms_ratio(problem, {"y0": 6 * u}, {"y0": 2 * u}) == pytest.approx(3)
    assert rms_ratio(problem, {"y0": 6 * u}, {"y0": 0.0}) == pytest.approx(6)
    assert rms_ratio(problem_of(DType.INT32), {"y0": 0.1}, {"y0": 0.0}) == 0.0


def test_the_noisiest_output_decides():
    u = DType.FLOAT32.unit_roundoff
    rms = {"y0": u, "y1": 9 * u}
    assert rms_ratio(problem_of(outputs=2), rms, {"y0": u, "y1": u}) == pytest.approx(9)
