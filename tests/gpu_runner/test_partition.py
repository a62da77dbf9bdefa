"""A worker that is cut off in silence: nothing is closed, nothing arrives."""

import pytest

from gpu_runner.host import bubblewrap
from tests.gpu_runner.executors import executions
from tests.gpu_runner.fleet import Fleet
from tests.gpu_runner.namespaces import Network, why_none
from tests.gpu_runner.security.secured import until

LEASE_S = 3.0
PATIENCE_S = 60.0

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(bool(why_none()), reason=f"needs network namespaces: {why_none()}"),
    pytest.mark.skipif(bubblewrap.options() is None, reason="workers with keys need bubblewrap"),
]


def test_a_silent_network_partition_ends_a_job_before_another_worker_begins_it(tmp_path):
    """Two executions, one after the other, and one outcome."""
    with Network(4) as network:
        fleet = Fleet(tmp_path, jobs=1, clients=1, lease_s=LEASE_S, network=network, order="hold")
        with fleet:
            first = holder_of(fleet)
            (other,) = set(fleet.worker_names) - {first}
            network.partition(1 + fleet.worker_names.index(first))
            until(lambda: executions(tmp_path / other, "started"), patience_s=PATIENCE_S)
            # Its first execution would go on until this test allows it to end.
            assert "no broker for a lease, jobs killed" in (tmp_path / f"{first}.log").read_text()
            network.heal(1 + fleet.worker_names.index(first))
            (fleet.marks / other).touch()
            fleet.clients[0].process.wait(PATIENCE_S)
            report = fleet.report()
    assert report.is_clean, report
    assert report.runs == 2
    assert executions(tmp_path / first) == []
    assert executions(tmp_path / other) == ["run0-r1-0"]


def holder_of(fleet):
    """The worker that has begun the job."""

    def holders():
        names = fleet.worker_names
        return [name for name in names if executions(fleet.folder / name, "started")]

    until(holders, patience_s=PATIENCE_S)
    (name,) = holders()
    return name
