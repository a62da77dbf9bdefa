"""A job that does nothing, on our bus and beside it on Ray and Dask: `make bench-peers`.

One worker process each, first one job at a time, then 64 in flight. What is promised differs and is
printed: of ours every job and outcome is on disk before anybody is told, and over TCP keys are
proved; Ray and Dask keep theirs in memory and ask nobody for a key here. They are left out where
they are not installed. It prints and asserts nothing.
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
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from gpu_runner import wire
from gpu_runner.client import BusClient
from gpu_runner.message import digest_of
from gpu_runner.security.peers import Role
from gpu_runner.spool import write_outcome
from tests.gpu_runner.broker_process import ROOT, BrokerProcess
from tests.gpu_runner.bus_threads import Peer
from tests.gpu_runner.executors import make_built, make_job
from tests.gpu_runner.namespaces import call_alone, why_none
from tests.gpu_runner.security.secured import KeyedPeer, Yard

IN_FLIGHT = 64
WARM_UP = 20
PORT = 7766


def work(endpoint, keys, spool):
    """Answer leases until killed, each after its outcome is in the spool, as a real worker does."""
    peer = KeyedPeer(endpoint, keys, wire.TO_WORKER) if keys else Peer(endpoint)
    with peer as worker:
        worker.socket.RCVTIMEO = -1
        worker.say_hello(worker="w0", slots=IN_FLIGHT)
        while True:
            message = worker.receive()
            if isinstance(message, wire.Lease):
                job = message.job
                outcome = make_built(job.job_id)
                path = spool / f"{job.job_id}.json"
                write_outcome(path, outcome, spec_digest=digest_of(job), token=message.token)
                worker.send(wire.Done(token=message.token, outcome=outcome))


@contextmanager
def pool(*, has_keys):
    """A broker process with a database, a worker process with a spool; how a client gets there."""
    with ExitStack() as stack:
        # Not in memory: what is kept lies on the disk of the checkout.
        made = tempfile.TemporaryDirectory(prefix="kernelpilot-bench-", dir=".")
        folder = Path(stack.enter_context(made)).resolve()
        (folder / "spool").mkdir()
        yard = Yard(folder / "keys")
        broker = BrokerProcess(folder, "--lease-s", 60)
        command = [sys.executable, "-m", "tests.benchmarks.peers", "--spool", str(folder / "spool")]
        terms = {}
        if has_keys:
            broker.endpoint = f"tcp://127.0.0.1:{PORT}"
            broker.more += ("--keys", str(yard.broker))
            command += ["--keys", str(yard.enrolled("w0", Role.WORKER))]
            terms = {"keys": yard.enrolled("client")}
        stack.enter_context(broker)
        worker = subprocess.Popen([*command, "--worker", broker.endpoint], cwd=ROOT)
        stack.callback(worker.wait)
        stack.callback(worker.kill)
        yield broker.endpoint, terms


async def ours(count, endpoint, **terms):
    """Seconds of each job, and jobs a second with many in flight."""
    client = BusClient(endpoint, **terms)
    room = asyncio.Semaphore(IN_FLIGHT)

    async def run(name):
        async with room:
            await client.run(make_job(name))

    await client.environment()
    for number in range(WARM_UP):
        await run(f"warm-{number}")
    times = []
    for number in range(count):
        begun_s = time.perf_counter()
        await run(f"one-{number}")
        times.append(time.perf_counter() - begun_s)
    many = 4 * count
    begun_s = time.perf_counter()
    await asyncio.gather(*(run(f"many-{number}") for number in range(many)))
    rate = many / (time.perf_counter() - begun_s)
    await client.close()
    return times, rate


def timed(count, submit, result, any_of):
    """The same of a system with futures.

    Args:
        count: of jobs one at a time.
        submit: gives a future.
        result: waits for one.
        any_of: waits for one of a list and returns it with the rest.
    """
    for _ in range(WARM_UP):
        result(submit())
    times = []
    for _ in range(count):
        begun_s = time.perf_counter()
        result(submit())
        times.append(time.perf_counter() - begun_s)
    many = 4 * count
    begun_s = time.perf_counter()
    waiting = [submit() for _ in range(min(many, IN_FLIGHT))]
    for number in range(many):
        done, waiting = any_of(waiting)
        result(done)
        if number + IN_FLIGHT < many:
            waiting.append(submit())
    return times, many / (time.perf_counter() - begun_s)


def nothing():
    """The job."""


class Idle:
    """The job as an actor's."""

    def nothing(self):
        """The job."""


def on_ray(count, *, is_actor):
    """Tasks, or calls of one actor."""
    import ray  # noqa: PLC0415 - an extra

    def any_of(waiting):
        (done,), rest = ray.wait(waiting)
        return done, rest

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        if is_actor:
            submit = ray.remote(Idle).remote().nothing.remote
        else:
            submit = ray.remote(nothing).remote
        return timed(count, submit, ray.get, any_of)
    finally:
        ray.shutdown()


def on_dask(count):
    """Tasks of one worker process."""
    from distributed import Client, LocalCluster, wait  # noqa: PLC0415 - a peer

    def any_of(waiting):
        done, rest = wait(waiting, return_when="FIRST_COMPLETED")
        first, *others = done
        return first, [*others, *rest]

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        return timed(
            count, lambda: client.submit(nothing, pure=False), lambda f: f.result(), any_of
        )


def row(title, promise, found):
    times, rate = found
    ordered = sorted(1e3 * seconds for seconds in times)
    return {
        "what": title,
        "p50_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
        "per_s": round(rate),
        "promise": promise,
    }


def rows(count):
    """One after the other, so that they do not disturb each other."""
    kept = "on disk, fsync"
    for has_keys, title, promise in (
        (False, "kernelpilot, ipc", kept),
        (True, "kernelpilot, tcp", f"{kept}, keys"),
    ):
        with pool(has_keys=has_keys) as (endpoint, terms):
            found = asyncio.run(ours(count, endpoint, **terms))
        yield row(title, promise, found)
    if find_spec("ray"):
        yield row("ray, a task", "in memory", on_ray(count, is_actor=False))
        yield row("ray, an actor's call", "in memory", on_ray(count, is_actor=True))
    if find_spec("distributed"):
        yield row("dask, a task", "in memory", on_dask(count))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=300, help="one at a time; in flight four times")
    parser.add_argument("--json", action="store_true", help="print a JSON object a row")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--keys", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--spool", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--is-alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.worker, arguments.keys, arguments.spool)
    if not (arguments.is_alone or why_none()):  # Ray listens on every address that it finds
        return call_alone("tests.benchmarks.peers")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for found in rows(arguments.jobs):
        text = (
            json.dumps(found) if arguments.json else ", ".join(f"{k} {v}" for k, v in found.items())
        )
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    missing = [name for name in ("ray", "distributed") if find_spec(name) is None]
    sys.stdout.write(
        f"load {os.getloadavg()[0]:.1f}; not installed: {', '.join(missing) or 'none'}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
