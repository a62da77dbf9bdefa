"""A cluster of two nodes that loses one; skipped where Ray is not installed."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
JOBS = 6

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: kernelpilot[ray]"),
]


def test_a_ray_node_that_dies_costs_no_job_and_the_pool_is_whole_again():
    command = [sys.executable, "-m", "tests.gpu_runner.provisioning.ray_cluster", "--json"]
    done = subprocess.run(
        [*command, "--jobs", str(JOBS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["built"], found["lost"], found["ended_twice"]) == (JOBS, [], [])
    assert found["after"].keys() == {"w-0", "w-1"}
    assert found["crowded"] == "waiting"
    assert found["after"]["w-1"] != found["before"]["w-1"]
