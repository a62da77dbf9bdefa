"""Random kills of everything while jobs run, by a broker that keeps its jobs.

`make chaos` does the same for thousands of jobs.
"""

import pytest

from tests.gpu_runner.fleet import Fleet

pytestmark = pytest.mark.processes


def test_nothing_is_lost_or_ends_twice_and_a_dying_broker_costs_no_execution(tmp_path):
    with Fleet(tmp_path, jobs=30, workers=2, clients=1, most_job_s=0.3) as fleet:
        report = fleet.run(["broker", "broker", "worker", "client"], most=6)
    assert report.is_clean, report
    assert report.kills["broker"] > 0
    assert report.runs >= report.jobs
    assert report.runs_of_living_workers <= 0, report
