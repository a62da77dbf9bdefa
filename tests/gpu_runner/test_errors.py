"""The tree of exceptions: as drawn, one root, caught where it says."""

import inspect
import re

import pytest

from gpu_runner import errors
from gpu_runner.errors import PoolError, ReferenceFailed, RunnerError, SubjectFailed
from gpu_runner.jobs import Mismatch, Reason
from gpu_runner.oracle.admission import Unfitting
from gpu_runner.store import StoreFailed
from gpu_runner.tasks.sides import ContenderFailed
from gpu_runner.tasks.verify import WrongResult
from gpu_runner.ticket import IllegalMove
from gpu_runner.wire import TooLarge

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}


def test_the_picture_shows_every_exception_and_no_other():
    drawn = re.findall(r"^(?:[├└]── )?([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    assert set(drawn) - {"Exceptions"} == set(CLASSES)


def test_the_tree_is_one_level_below_its_root():
    assert {cls.__base__ for name, cls in CLASSES.items() if name != "RunnerError"} == {RunnerError}
    assert RunnerError.__base__ is Exception


@pytest.mark.parametrize(
    ("leaf", "parent"),
    [
        (Unfitting, RunnerError),
        (ContenderFailed, RunnerError),
        (WrongResult, SubjectFailed),
        (IllegalMove, PoolError),
        (TooLarge, PoolError),
        (StoreFailed, PoolError),
    ],
)
def test_leaves_elsewhere_hang_on_the_tree(leaf, parent):
    assert issubclass(leaf, parent)


def test_a_contender_and_a_target_are_never_taken_for_a_candidate():
    for other in (ContenderFailed, Unfitting, ReferenceFailed):
        assert not issubclass(other, SubjectFailed)


def test_every_exception_says_what_it_is_for():
    for cls in CLASSES.values():
        assert cls.__doc__
        assert cls.__doc__.endswith(".")


@pytest.mark.parametrize("reason", Reason)
def test_a_subject_failure_is_its_reason_and_its_words(reason):
    failure = SubjectFailed(reason, "what happened")
    assert (failure.reason, str(failure), failure.log_tail) == (reason, "what happened", "")
    assert failure.args == ("what happened",)


def test_a_wrong_result_keeps_where_it_is_wrong():
    mismatch = Mismatch(case="rows/normal", output="y", index=(1, 2))
    failure = WrongResult(Reason.IMPRECISE, "too noisy", mismatch)
    assert failure.mismatch is mismatch
    assert failure.reason is Reason.IMPRECISE
    assert failure.log_tail == ""
