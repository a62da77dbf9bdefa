"""A Ray cluster on this machine that loses a node while jobs run: `make chaos-ray`.

A head and two nodes, a worker on each, real builds. One node is killed with the worker on it, as
a machine that goes takes both. Prints what became of the jobs and how long the pool was not whole;
exit code 1 where a promise was broken. The cluster is alone in a network namespace where one can be
made.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from gpu_runner.client import BusClient
from gpu_runner.console import Console
from gpu_runner.jobs import Built
from gpu_runner.operations import Change, Event
from gpu_runner.provisioning.engine import WorkerPlan
from gpu_runner.provisioning.ray import RayEngine
from gpu_runner.store import Store
from tests.builders import SOFTMAX_CPP
from tests.gpu_runner.broker_process import ROOT, BrokerProcess
from tests.gpu_runner.bus_disk import ends_of
from tests.gpu_runner.executors import make_job, until
from tests.gpu_runner.namespaces import call_alone, why_none

PATIENCE_S = 180.0
LEASE_S = 8.0
WORKERS = 2


@contextlib.contextmanager
def cluster(plan):
    """A head without room and two nodes that have room for both workers; an engine on it."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [made.add_node(num_cpus=WORKERS) for _ in range(2)]
        made.wait_for_nodes()
        engine = RayEngine(plan, address=made.address)
        try:
            yield made, nodes, engine
        finally:
            for worker in engine.list().workers:
                engine.stop(worker.name)
            engine.close()
    finally:
        made.shutdown()


async def lose_a_node(folder, count):
    """Return the figures."""
    names = [f"run-r1-{number}" for number in range(count)]
    outcomes = {}
    place = BrokerProcess(folder, "--beat-s", 0.5, "--lease-s", LEASE_S)
    plan = WorkerPlan(pool="w", endpoint=place.endpoint, workspace=str(folder / "workers"))
    with place as broker, cluster(plan) as (made, nodes, engine):
        engine.start(WORKERS)
        with Console(broker.endpoint, patience_s=PATIENCE_S) as console:

            def times_joined():
                events = (e for e in console.history(0) if isinstance(e, Event))
                return Counter(e.worker for e in events if e.change is Change.JOINED)

            await until(lambda: len(times_joined()) == WORKERS, patience_s=PATIENCE_S)
            before = {worker.name: worker.place for worker in engine.list().workers}
            client = BusClient(broker.endpoint, patience_s=PATIENCE_S)

            async def run(name):
                text = f"{SOFTMAX_CPP}// {name}\n"
                outcomes[name] = await client.run(make_job(name, text))

            runs = asyncio.gather(*map(run, names))
            await until(lambda: len(outcomes) >= count // 4, patience_s=PATIENCE_S)
            lost = take_away(made, nodes, before)
            begun_s = time.monotonic()
            await until(lambda: times_joined()[lost] > 1, patience_s=PATIENCE_S)
            whole_s = time.monotonic() - begun_s
            await runs
            await client.close()
        # One more than there is room for, which is stopped without ever having been placed.
        engine.start(WORKERS + 1)
        seen = {worker.name: worker for worker in engine.list().workers}
        crowded = seen.pop(plan.name_of(WORKERS)).state
        after = {name: worker.place for name, worker in seen.items()}
        for name in (plan.name_of(WORKERS), *after):
            engine.stop(name)
        left = len(engine.list().workers)
    ends = ends_of(Store(folder / "state" / "broker.sqlite", is_reader=True))
    return {
        "jobs": count,
        "built": sum(isinstance(outcome, Built) for outcome in outcomes.values()),
        "lost": [name for name in names if name not in outcomes or ends.get(name) != 1],
        "ended_twice": [name for name, times in ends.items() if times > 1],
        "whole_again_s": round(whole_s, 1),
        "before": before,
        "after": after,
        "crowded": crowded,
        "left": left,
    }


def take_away(made, nodes, places):
    """Kill a node with the worker that runs there; return the worker's name."""
    name, place = max(places.items())
    pid, node_id = re.fullmatch(r"process (\d+) on .*\(node (\w+)\)", place).groups()  # type: ignore[union-attr]  # fails the command otherwise
    (node,) = [node for node in nodes if node.node_id.startswith(node_id)]
    made.remove_node(node, allow_graceful=False)
    os.killpg(int(pid), signal.SIGKILL)
    return name


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--is-alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if find_spec("ray") is None:
        sys.exit("Ray is not installed; pip install 'kernelpilot[ray]'")
    if not (arguments.is_alone or why_none()):
        return call_alone("tests.gpu_runner.provisioning.ray_cluster")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory(prefix="kp-ray-") as name:
        found = asyncio.run(lose_a_node(Path(name), arguments.jobs))
    lines = [json.dumps(found)] if arguments.json else [f"{k}: {v}" for k, v in found.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    is_broken = found["lost"] or found["ended_twice"] or found["built"] != arguments.jobs
    return 1 if is_broken or found["left"] else 0


if __name__ == "__main__":
    sys.exit(main())
