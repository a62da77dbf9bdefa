"""What became of the last jobs."""

from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.jobs import Reason, Rejected, Stage, Unserved
from gpu_runner.tally import WINDOW, Tally, quantiles
from tests.gpu_runner.executors import make_built


def unserved(cause):
    return Unserved(job_id="job", cause=cause, message="why", is_retryable=True)


REJECTED = Rejected(job_id="job", stage=Stage.BUILD, reason=Reason.CRASHED, message="why")


def test_ends_are_counted_by_kind_and_cause():
    tally = Tally()
    tally.add("build", make_built(), wait_s=1.0, run_s=2.0)
    tally.add("build", REJECTED, wait_s=3.0, run_s=4.0)
    tally.add("build", unserved("no_space"), wait_s=5.0, run_s=6.0)
    tally.add("build", unserved("cancelled"), wait_s=None, run_s=None)
    tally.add("", make_built(), wait_s=None, run_s=None)
    build, unknown = tally.served()
    assert (build.job, build.count) == ("build", 4)
    assert (build.rejected_fraction, build.unserved_fraction) == (0.25, 0.5)
    assert build.causes == {"no_space": 1, "cancelled": 1}
    assert build.wait is not None
    assert build.run is not None
    assert (build.wait.p50_s, build.run.p99_s) == (3.0, 6.0)
    assert (unknown.job, unknown.wait, unknown.run) == ("unknown", None, None)


def test_only_the_last_ones_count():
    tally = Tally()
    tally.add("build", REJECTED, wait_s=0.0, run_s=0.0)
    for _ in range(WINDOW):
        tally.add("build", make_built(), wait_s=0.0, run_s=0.0)
    (served,) = tally.served()
    assert (served.count, served.rejected_fraction) == (WINDOW, 0.0)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_quantile_is_a_value_that_so_many_do_not_exceed(values):
    found = quantiles(values)
    assert found is not None
    for percent, value in ((50, found.p50_s), (90, found.p90_s), (99, found.p99_s)):
        assert value in values
        assert 100 * sum(v <= value for v in values) >= percent * len(values)
        assert 100 * sum(v < value for v in values) < percent * len(values)


def test_of_nothing_there_are_no_quantiles():
    assert quantiles([]) is None
