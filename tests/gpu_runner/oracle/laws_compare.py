"""What every judge of answers must hold to, whatever engine it runs on."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpu_runner.jobs import Mismatch
from gpu_runner.oracle.compare import Judgement
from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import Raw, from_float64, largest_finite
from gpu_runner.oracle.reference import Expected, Oracle
from gpu_runner.problem import DType, Problem, ProfileName
from tests.builders import make_problem, make_workload
from tests.gpu_runner.oracle.engines import on_each_engine
from tests.gpu_runner.oracle.judged import expected_of, problem_of

KEY = bytes(range(16))
CHUNK = 1 << 14
TYPES = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.INT8)
ANY_NUMBER = st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf, -math.inf])


def softmax_case(
    profile: ProfileName = ProfileName.NORMAL, *, rows: int = 8, length: int = 128, call: int = 0
) -> tuple[Problem, Expected]:
    problem, workload = make_problem(), make_workload(axes={"B": rows, "N": length})
    inputs = {"x": np.empty((rows, length), np.float32)}
    Contents(problem, workload, KEY).fill(inputs, call=call, profile=profile)
    return problem, Oracle(problem).expected(workload, inputs)


class JudgingLaws(ABC):
    """Binds to an engine by `judge`."""

    library: str
    """How the engine's refusals name its types."""

    @abstractmethod
    def judge(
        self,
        problem: Problem,
        expected: Expected,
        raw: Mapping[str, Raw],
        *,
        case: str = "small/normal",
        is_hidden: bool = False,
    ) -> Judgement:
        """Judge raw arrays as they are, those that do not fit the problem included."""

    def verdict(self, numbers, answers, *, bounds=0.5, dtype: DType = DType.FLOAT32) -> Judgement:
        raw = {"y0": from_float64(np.asarray(answers, dtype=np.float64), dtype)}
        return self.judge(problem_of(dtype), expected_of(numbers, bounds=bounds), raw)

    def test_exact_answers_are_right_with_no_error(self):
        numbers = np.arange(6.0).reshape(2, 3)
        assert self.verdict(numbers, numbers) == Judgement(
            mismatch=None, worst_error=0.0, rms={"y0": 0.0}
        )

    def test_the_worst_error_is_the_largest_fraction_of_a_bound(self):
        judgement = self.verdict([[1.0, 2.0]], [[1.25, 2.125]], bounds=np.array([[0.5, 0.5]]))
        assert judgement.mismatch is None
        assert judgement.worst_error == 0.5

    def test_an_error_of_exactly_the_bound_is_right_and_beyond_is_wrong(self):
        assert self.verdict([[1.0]], [[1.5]]).mismatch is None
        assert self.verdict([[1.0]], [[1.5 + 2**-20]]).mismatch is not None

    def test_one_wrong_element_among_many_is_found_and_described(self):
        numbers = np.ones((300, 200))
        answers = numbers.copy()
        answers[217, 13] = 3.0
        answers[217, 14] = 4.0
        judgement = self.verdict(numbers, answers)
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
    @pytest.mark.parametrize("place", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK - 1])
    def test_a_wrong_element_of_any_type_is_found_wherever_it_lies(self, dtype, place):
        numbers = np.zeros((3, CHUNK))
        answers = numbers.copy()
        answers.reshape(-1)[place] = 9.0
        mismatch = self.verdict(numbers, answers, dtype=dtype).mismatch
        assert mismatch is not None
        assert mismatch.index == divmod(place, CHUNK)
        assert mismatch.wrong_fraction == 1 / numbers.size

    def test_wrong_elements_are_counted_over_the_whole_output(self):
        numbers = np.zeros((3, CHUNK))
        judgement = self.verdict(numbers, numbers + 1)
        assert judgement.mismatch is not None
        assert judgement.mismatch.wrong_fraction == 1.0

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
    def test_special_values_must_meet_their_like(self, right, given, is_right):
        judgement = self.verdict([[1.0, right, 2.0]], [[1.0, given, 2.0]])
        assert (judgement.mismatch is None) == is_right
        is_endless = not is_right and not math.isfinite(given - right)
        assert math.isinf(judgement.worst_error) == is_endless

    def test_a_wrong_special_value_has_no_ratio_to_report(self):
        mismatch = self.verdict([[1.0, 2.0]], [[1.0, math.nan]]).mismatch
        assert mismatch is not None
        assert mismatch.actual == "nan"
        assert mismatch.error_over_bound is None

    @pytest.mark.parametrize("dtype", [t for t in DType if t.is_float and t is not DType.FLOAT64])
    def test_an_answer_beyond_the_type_may_be_infinite(self, dtype):
        top = largest_finite(dtype)
        assert self.verdict([[top * 1.5]], [[math.inf]], dtype=dtype).mismatch is None
        assert self.verdict([[-top * 1.5]], [[-math.inf]], dtype=dtype).mismatch is None
        assert self.verdict([[top * 0.9]], [[math.inf]], dtype=dtype).mismatch is not None
        within = np.full((1, 1), top * 0.2)
        judgement = self.verdict([[top * 0.9]], [[math.inf]], bounds=within, dtype=dtype)
        assert judgement.mismatch is None

    def test_special_elements_do_not_spoil_the_error_of_others(self):
        numbers = [[math.nan, 4.0, math.inf, 3.0]]
        judgement = self.verdict(numbers, [[math.nan, 4.25, math.inf, 3.0]])
        assert judgement.mismatch is None
        assert judgement.worst_error == 0.5
        assert judgement.rms["y0"] == pytest.approx(0.25 / 5.0)

    @pytest.mark.parametrize("limit", [math.nan, math.inf])
    def test_a_bound_of_an_element_that_is_no_number_may_be_none_either(self, limit):
        bounds, numbers = np.array([[0.5, limit]]), [[1.0, math.nan]]
        assert self.verdict(numbers, [[1.0, math.nan]], bounds=bounds).mismatch is None
        assert self.verdict(numbers, [[1.0, 2.0]], bounds=bounds).mismatch is not None

    def test_poison_left_in_an_output_is_wrong(self):
        raw = np.ones((2, 2), np.float32)
        raw.view(np.uint32)[1, 1] = 0x7FA5A5A5
        mismatch = self.judge(problem_of(), expected_of(np.ones((2, 2))), {"y0": raw}).mismatch
        assert mismatch is not None
        assert mismatch.index == (1, 1)

    def test_a_hidden_mismatch_tells_its_category_and_nothing_else(self):
        mismatch = self.judge(
            problem_of(),
            expected_of(np.zeros((4, 4))),
            {"y0": np.ones((4, 4), np.float32)},
            case="hidden shape",
            is_hidden=True,
        ).mismatch
        assert mismatch == Mismatch(case="hidden shape", output="")

    def test_the_first_wrong_output_is_described_and_the_worst_counts(self):
        zeros = np.zeros((2, 2))
        raw = {f"y{i}": np.full((2, 2), value, np.float32) for i, value in enumerate((0, 2, 8))}
        judgement = self.judge(problem_of(outputs=3), expected_of(zeros, zeros, zeros), raw)
        assert judgement.mismatch is not None
        assert judgement.mismatch.output == "y1"
        assert judgement.worst_error == 16.0
        assert set(judgement.rms) == {"y0", "y1", "y2"}

    def test_whole_numbers_off_by_one_are_wrong(self):
        assert self.verdict([[5, -7]], [[5, -7]], dtype=DType.INT32).mismatch is None
        mismatch = self.verdict([[5, -7]], [[5, -6]], dtype=DType.INT32).mismatch
        assert mismatch is not None
        assert (mismatch.actual, mismatch.expected) == ("-6", "-7")

    def test_a_bool_that_is_neither_is_wrong(self):
        raw = np.array([[0, 2]], np.uint8).view(np.bool_)
        judgement = self.judge(problem_of(DType.BOOL), expected_of([[0, 1]]), {"y0": raw})
        assert judgement.mismatch is not None
        assert judgement.mismatch.actual == "2"

    @pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
    def test_empty_outputs_are_right(self, shape):
        assert self.verdict(np.empty(shape), np.empty(shape)).mismatch is None

    @pytest.mark.parametrize(
        ("raw", "words"),
        [
            ({}, "output 'y0' needs the shape"),
            ({"y0": np.zeros((2, 3), np.float32)}, r"given: the shape \(2, 3\)"),
            ({"y0": np.zeros((2, 2))}, r"{library} type (torch\.)?float32, not (torch\.)?float64"),
        ],
    )
    def test_buffers_of_the_callers_own_must_fit(self, raw, words):
        with pytest.raises(ValueError, match=words.format(library=self.library)):
            self.judge(problem_of(), expected_of(np.zeros((2, 2))), raw)

    def test_the_root_mean_square_error_is_relative(self):
        judgement = self.verdict([[3.0, 4.0]], [[3.3, 4.4]])
        assert judgement.rms["y0"] == pytest.approx(0.1, rel=1e-6)

    def test_the_root_mean_square_error_is_taken_over_the_whole_output(self):
        numbers = np.ones((3, CHUNK))
        answers = numbers.copy()
        answers[1] += 0.25
        assert self.verdict(numbers, answers).rms["y0"] == pytest.approx(0.25 / math.sqrt(3))

    def test_where_all_answers_are_zero_the_relative_error_is_zero(self):
        assert self.verdict([[0.0, 0.0]], [[0.25, 0.0]]).rms["y0"] == 0.0

    @on_each_engine(50)
    @given(
        rows=st.integers(1, 8),
        length=st.integers(1, 400),
        call=st.integers(0, 10**6),
        profile=st.sampled_from([p for p in ProfileName if p is not ProfileName.INF_MASK]),
    )
    def test_the_rounded_truth_is_right_for_softmax(self, rows, length, call, profile):
        problem, expected = softmax_case(profile, rows=rows, length=length, call=call)
        raw = {"y": from_float64(expected.outputs["y"], DType.FLOAT32)}
        assert self.judge(problem, expected, raw).mismatch is None

    @on_each_engine(50)
    @given(rows=st.integers(1, 8), length=st.integers(32, 400), call=st.integers(0, 10**6))
    def test_the_truth_rounded_to_half_precision_is_wrong_for_softmax(self, rows, length, call):
        problem, expected = softmax_case(rows=rows, length=length, call=call)
        coarse = from_float64(expected.outputs["y"], DType.FLOAT16).astype(np.float32)
        judgement = self.judge(problem, expected, {"y": coarse})
        assert judgement.mismatch is not None
        assert judgement.worst_error > 4

    @pytest.mark.parametrize("length", [128, 4096, 32768, 65536])
    def test_zeros_are_wrong_for_softmax_however_long_the_row(self, length):
        problem, expected = softmax_case(rows=2, length=length)
        mismatch = self.judge(problem, expected, {"y": np.zeros((2, length), np.float32)}).mismatch
        assert mismatch is not None
        assert mismatch.wrong_fraction == 1.0

    @on_each_engine(100)
    @given(
        numbers=hnp.arrays(
            np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=ANY_NUMBER
        ),
        data=st.data(),
    )
    def test_the_fast_path_agrees_with_the_definition(self, numbers, data):
        answers = data.draw(hnp.arrays(np.float64, numbers.shape, elements=ANY_NUMBER))
        keep = data.draw(hnp.arrays(np.bool_, numbers.shape))
        answers = np.where(keep, numbers, answers).astype(np.float32).astype(np.float64)
        is_right = [
            (math.isnan(n) and math.isnan(a)) or n == a or abs(n - a) <= 0.5
            for n, a in zip(numbers.flat, answers.flat, strict=True)
        ]
        mismatch = self.verdict(numbers, answers).mismatch
        assert (mismatch is None) == all(is_right)
        if mismatch is not None:
            first = np.unravel_index(is_right.index(False), numbers.shape)
            assert mismatch.index == tuple(map(int, first))
            assert mismatch.wrong_fraction == pytest.approx(is_right.count(False) / numbers.size)

    @on_each_engine(50)
    @given(scale=st.floats(1e-3, 1e3), place=st.integers(0, 63))
    def test_any_single_error_beyond_its_bound_is_found(self, scale, place):
        numbers = np.linspace(-1, 1, 64).reshape(8, 8)
        bounds = np.full((8, 8), 1e-3 * scale)
        answers = numbers.copy()
        answers.reshape(-1)[place] += 1.01e-3 * scale
        mismatch = self.verdict(numbers, answers, bounds=bounds, dtype=DType.FLOAT64).mismatch
        assert mismatch is not None
        assert mismatch.index == divmod(place, 8)
