"""Which outcomes end a job."""

import pytest

from gpu_runner.jobs import Unfit, Unserved
from gpu_runner.outcomes import cancelled, is_final
from tests.gpu_runner.executors import make_built


def test_what_a_job_came_to_is_final():
    assert is_final(make_built())
    assert is_final(Unfit(job_id="job", message="no reference"))
    assert not is_final(None)


@pytest.mark.parametrize("is_retryable", [True, False])
def test_what_we_failed_to_serve_is_never_the_last_word(is_retryable):
    lost = {"job_id": "job", "cause": "runner_lost", "message": "gone"}
    assert not is_final(Unserved(**lost, is_retryable=is_retryable))


def test_a_cancelled_job_may_be_submitted_again():
    outcome = cancelled("job")
    assert (outcome.job_id, outcome.cause, outcome.is_retryable) == ("job", "cancelled", True)
    assert not is_final(outcome)
