"""Throughput of jobs that wait 50 ms, on 1 and on 8 workers: `make bench-scaling`.

Broker, client and workers have a network namespace each and speak TCP with keys. Once with real
workers, which start fresh processes for a job, and once with processes that do nothing but wait: so
what the bus costs is told apart from what a job's processes cost, which few processors feel first.
It prints and asserts nothing.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from gpu_runner import wire
from gpu_runner.client import BusClient
from gpu_runner.console import Console
from gpu_runner.security.peers import Role
from tests.gpu_runner.broker_process import ROOT, BrokerProcess
from tests.gpu_runner.executors import make_built, make_check
from tests.gpu_runner.fleet import Process, worker_process
from tests.gpu_runner.namespaces import Network, why_none
from tests.gpu_runner.security.secured import KeyedPeer, Yard, until

JOB_S = 0.05
WARM_UP = 10
"""Jobs for each worker before the clock is looked at: its zygote is ready then."""
START_S = 120.0


def wait_as_worker(endpoint, keys, name):
    """Answer each lease 50 ms later, in this process, until killed."""
    with KeyedPeer(endpoint, keys, wire.TO_WORKER, patience_ms=-1) as worker:
        worker.say_hello(worker=name, incarnation=os.urandom(8).hex())
        while True:
            message = worker.receive()
            if isinstance(message, wire.Lease):
                time.sleep(JOB_S)
                built = make_built(message.job.job_id)
                worker.send(wire.Done(token=message.token, outcome=built))


async def submit_as_client(endpoint, keys, workers, jobs):
    """Print the seconds that the jobs took together."""
    with Console(endpoint, keys=keys / "operator", patience_s=START_S) as console:
        until(lambda: len(console.survey().workers) == workers, patience_s=START_S)
    client = BusClient(endpoint, patience_s=START_S, keys=keys / "client")

    async def run(names):
        # A check owns its worker, so that a worker's slots say nothing.
        await asyncio.gather(*(client.run(make_check(name, f"sleep {JOB_S}")) for name in names))

    await run([f"warm-{number}" for number in range(WARM_UP * workers)])
    print_line("warm")
    begun_s = time.perf_counter()
    await run([f"job-{number}" for number in range(jobs)])
    print_line(time.perf_counter() - begun_s)
    await client.close()


def print_line(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def processor_s(pid):
    """Seconds of a process, of all below it, and of what has ended below those."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        below = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended: its parent has what it took
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_s(child) for children in below for child in children)


def throughput(workers, jobs, *, is_real):
    """Jobs a second, and milliseconds of processor time for each, of broker and workers."""
    started = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kp-scaling-")))
        network = stack.enter_context(Network(2 + workers))
        yard = Yard(folder / "keys")
        more = ("--beat-s", 2.0, "--lease-s", 60.0, "--keys", yard.broker)
        endpoint = f"tcp://{network.address(0)}:7766"
        broker = BrokerProcess(folder, *more, endpoint=endpoint, before=network.inside(0))
        stack.enter_context(broker)
        for number in range(workers):
            name, before = f"w{number}", network.inside(2 + number)
            keys = yard.enrolled(name, Role.WORKER)
            if is_real:
                worker = worker_process(folder, endpoint, name, keys=keys, before=before)
            else:
                command = ["tests.benchmarks.scaling", "--worker", name, "--endpoint", endpoint]
                command += ["--keys", str(keys)]
                worker = Process(command, folder / f"{name}.log", before)
            stack.callback(worker.end)
            started.append(worker)
        yard.enrolled("client")
        yard.enrolled("operator", Role.OPERATOR)
        command = [*network.inside(1), sys.executable, "-m", "tests.benchmarks.scaling"]
        command += ["--endpoint", endpoint, "--keys", str(yard.folder)]
        command += ["--client", str(workers), "--jobs", str(jobs)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pids = [broker.process.pid, *(worker.process.pid for worker in started)]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as client:
            client.stdout.readline()  # type: ignore[union-attr]  # a pipe
            before_s = sum(map(processor_s, pids))
            seconds = json.loads(client.stdout.readline())  # type: ignore[union-attr]  # a pipe
            spent_s = sum(map(processor_s, pids)) - before_s
    return jobs / seconds, 1e3 * spent_s / jobs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100, help="for each worker")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2, help="of one worker and many, in turns")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    parser.add_argument("--keys", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return wait_as_worker(arguments.endpoint, arguments.keys, arguments.worker)
    if arguments.client:
        terms = (arguments.endpoint, arguments.keys, arguments.client, arguments.jobs)
        return asyncio.run(submit_as_client(*terms))
    if why_none():
        sys.exit(f"needs network namespaces: {why_none()}")
    for is_real in (True, False):
        report(arguments, is_real=is_real)
    return None


def report(arguments, *, is_real):
    one, many = [], []
    for _ in range(arguments.rounds):
        one.append(throughput(1, arguments.jobs, is_real=is_real))
        jobs = arguments.jobs * arguments.workers
        many.append(throughput(arguments.workers, jobs, is_real=is_real))
    one_per_s, _ = zip(*one, strict=True)
    many_per_s, many_ms = zip(*many, strict=True)
    found = {
        "workers": "a fresh process a job" if is_real else "which only wait",
        "per_s_on_1": round(statistics.median(one_per_s), 1),
        f"per_s_on_{arguments.workers}": round(statistics.median(many_per_s), 1),
        "ratio": round(statistics.median(many_per_s) / statistics.median(one_per_s), 2),
        "processor_ms_a_job": round(statistics.median(many_ms), 1),
        "load": round(os.getloadavg()[0], 1),
    }
    text = json.dumps(found) if arguments.json else ", ".join(f"{k} {v}" for k, v in found.items())
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
