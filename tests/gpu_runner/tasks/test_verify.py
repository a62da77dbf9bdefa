"""One verified call: what is counted, what is refused, and how much of it is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.errors import ReferenceFailed, SubjectFailed
from gpu_runner.jobs import Mismatch, Reason
from gpu_runner.oracle.contents import Contents
from gpu_runner.problem import DType, Tensor
from gpu_runner.tasks.verify import Case, Verifier, WrongResult, describe
from tests.builders import make_problem, make_workload

WORKLOAD = make_workload(axes={"B": 3, "N": 40})
PROBLEM = make_problem()
PUBLIC = Case(name="small/normal")
HIDDEN = Case(name="hidden shape", is_hidden=True)
NEAR = Case(name="near duplicate", is_hidden=True, reason=Reason.STALE_RESULT)


def asked(verifier, *, call=1):
    """Return what is expected for fresh contents, and the nearest float32 answer."""
    inputs = {"x": np.empty((3, 40), np.float32)}
    Contents(PROBLEM, WORKLOAD, b"0123456789abcdef").fill(inputs, call=call)
    expected = verifier.expect(WORKLOAD, inputs)
    return expected, {"y": expected.outputs["y"].astype(np.float32)}


def off_by(expected, answer, index, bounds):
    """Return the answer with one element this many bounds off."""
    moved = answer["y"].astype(np.float64)
    moved[index] = expected.outputs["y"][index] + bounds * expected.bounds["y"][index]
    return {"y": moved.astype(np.float32)}


def test_a_right_answer_is_counted_and_its_error_kept():
    verifier = Verifier(PROBLEM)
    assert (verifier.outputs, verifier.worst_error) == (0, 0.0)
    worst = []
    for call in range(3):
        expected, answer = asked(verifier, call=call)
        rms = verifier.refuse_wrong(expected, answer, PUBLIC)
        assert set(rms) == {"y"}
        assert 0 <= rms["y"] < 1e-6
        worst.append(verifier.worst_error)
    assert verifier.outputs == 3
    assert worst == sorted(worst)
    assert 0 < worst[-1] < 0.25


def test_the_worst_error_is_that_of_the_worst_call():
    verifier = Verifier(PROBLEM)
    expected, answer = asked(verifier)
    verifier.refuse_wrong(expected, off_by(expected, answer, (1, 7), 0.5), PUBLIC)
    worst = verifier.worst_error
    assert 0.4 < worst < 0.6
    verifier.refuse_wrong(expected, answer, PUBLIC)
    assert verifier.worst_error == worst


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(0, 2), st.integers(0, 39)),
    st.floats(0, 50).filter(lambda bounds: abs(bounds - 1) > 0.2),
    st.sampled_from([-1, 1]),
)
def test_one_element_decides_by_its_own_bound(index, bounds, sign):
    verifier = Verifier(PROBLEM)
    expected, answer = asked(verifier)
    actual = off_by(expected, answer, index, sign * bounds)
    if bounds < 1:
        verifier.refuse_wrong(expected, actual, PUBLIC)
        return
    with pytest.raises(WrongResult) as caught:
        verifier.refuse_wrong(expected, actual, PUBLIC)
    assert caught.value.mismatch.index == index
    assert caught.value.mismatch.error_over_bound == pytest.approx(bounds, rel=0.3)
    assert verifier.worst_error == 0.0  # of right calls only


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_wrong_however_it_came(value):
    verifier = Verifier(PROBLEM)
    expected, answer = asked(verifier)
    answer["y"][2, 39] = value
    with pytest.raises(WrongResult) as caught:
        verifier.refuse_wrong(expected, answer, PUBLIC)
    assert caught.value.mismatch.index == (2, 39)
    assert caught.value.mismatch.actual == f"{value:.9g}"
    assert caught.value.mismatch.error_over_bound is None


def test_a_wrong_public_answer_shows_its_first_place_and_how_much_is_wrong():
    verifier = Verifier(PROBLEM)
    expected, answer = asked(verifier)
    answer["y"][1:, 5] += 1
    with pytest.raises(WrongResult) as caught:
        verifier.refuse_wrong(expected, answer, PUBLIC)
    failure = caught.value
    assert failure.reason is Reason.WRONG_RESULT
    assert failure.mismatch.case == "small/normal"
    assert failure.mismatch.output == "y"
    assert failure.mismatch.index == (1, 5)
    assert failure.mismatch.wrong_fraction == pytest.approx(2 / 120)
    assert failure.message.startswith("small/normal: output 'y' at [1, 5] is ")
    assert failure.mismatch.expected in failure.message
    assert isinstance(failure, SubjectFailed)
    assert verifier.outputs == 1


@pytest.mark.parametrize("case", [HIDDEN, NEAR], ids=lambda case: case.name)
def test_a_wrong_hidden_answer_says_its_category_and_nothing_else(case):
    verifier = Verifier(PROBLEM)
    expected, answer = asked(verifier)
    answer["y"][2, 3] = 77.125
    with pytest.raises(WrongResult) as caught:
        verifier.refuse_wrong(expected, answer, case)
    assert caught.value.reason is case.reason
    assert caught.value.mismatch == Mismatch(case=case.name, output="")
    assert not set(caught.value.message) & set("0123456789[]'")
    assert caught.value.message.startswith(f"{case.name}: ")


def test_answers_to_an_earlier_question_are_refused():
    verifier = Verifier(PROBLEM)
    _, before = asked(verifier, call=1)
    expected, _ = asked(verifier, call=2)
    with pytest.raises(WrongResult, match="one of an earlier call was kept"):
        verifier.refuse_wrong(expected, before, NEAR)


def test_every_output_is_judged():
    reference = "import numpy as np\n\n\ndef run(x):\n    return x + 1, x.sum(axis=-1)\n"
    outputs = (
        Tensor(name="y", shape=("B", "N"), dtype=DType.FLOAT32),
        Tensor(name="total", shape=("B",), dtype=DType.FLOAT32),
    )
    problem = make_problem(outputs=outputs, reference=reference, library_ops=())
    verifier = Verifier(problem)
    x = np.arange(120, dtype=np.float32).reshape(3, 40)
    expected = verifier.expect(WORKLOAD, {"x": x})
    right = {"y": x + 1, "total": x.sum(axis=-1)}
    assert set(verifier.refuse_wrong(expected, right, PUBLIC)) == {"y", "total"}
    for name in right:
        wrong = {n: a.copy() for n, a in right.items()}
        wrong[name].reshape(-1)[0] += 1
        with pytest.raises(WrongResult) as caught:
            verifier.refuse_wrong(expected, wrong, PUBLIC)
        assert caught.value.mismatch.output == name


def test_a_reference_that_does_not_answer_is_not_the_candidates_fault():
    verifier = Verifier(make_problem(reference="def run(x):\n    return x[:1]\n"))
    with pytest.raises(ReferenceFailed):
        asked(verifier)


KEPT = (
    "rows/large: output 'y': the result does not follow the input; one of an earlier call was kept"
)


def mismatch(**changes) -> Mismatch:
    values = {"case": "rows/large", "output": "y", "index": (4, 0), "actual": "nan"}
    return Mismatch(**{**values, "expected": "0.25", **changes})


@pytest.mark.parametrize(
    ("found", "reason", "sentence"),
    [
        (
            mismatch(),
            Reason.WRONG_RESULT,
            "rows/large: output 'y' at [4, 0] is nan, should be 0.25",
        ),
        (
            mismatch(index=()),
            Reason.WRONG_RESULT,
            "rows/large: output 'y' at [] is nan, should be 0.25",
        ),
        (mismatch(index=None), Reason.WRONG_RESULT, "rows/large: output 'y': the result is wrong"),
        (mismatch(output="", index=None), Reason.WRONG_RESULT, "rows/large: the result is wrong"),
        (mismatch(), Reason.STALE_RESULT, KEPT),
    ],
)
def test_a_mismatch_in_one_sentence(found, reason, sentence):
    assert describe(found, reason) == sentence
