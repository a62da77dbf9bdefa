"""What the bus costs a job that does nothing: `make bench-bus`.

Broker, worker and client are a process each. The worker answers from memory, or first keeps the
outcomes of all leases that wait as a real one does those of children that have ended; "child" is a
real worker with a fresh process a job.
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
from contextlib import contextmanager
from pathlib import Path

from gpu_runner import wire
from gpu_runner.book import Book
from gpu_runner.client import BusClient
from gpu_runner.local import LocalPlan, LocalPool
from gpu_runner.message import digest_of
from gpu_runner.security.peers import Role
from gpu_runner.spool import Spool, write_outcome
from gpu_runner.spool_log import SpoolLog
from gpu_runner.store import FILE_NAME, Store
from tests.benchmarks import starts
from tests.gpu_runner.broker_process import ROOT, BrokerProcess
from tests.gpu_runner.bus_threads import Peer
from tests.gpu_runner.executors import EXECUTOR, make_built, make_job
from tests.gpu_runner.security.secured import KeyedPeer, Yard

IN_FLIGHT = 64
KEEP = ("--beat-s", 2.0, "--lease-s", 60.0)
_BATCH = 2000


def waiting(worker):
    """What has come, once something has."""
    yield worker.receive()
    while worker.socket.poll(0):
        yield worker.receive()


def worker_main(endpoint, workspace, keys):
    """Answer leases until killed; 64 slots, for its jobs take no time."""
    peer = KeyedPeer(endpoint, keys, wire.TO_WORKER) if keys else Peer(endpoint)
    spool = Spool(Path(workspace)) if workspace else None
    log = SpoolLog(spool, "w1") if spool else None
    with peer as worker:
        worker.socket.RCVTIMEO = -1
        worker.say_hello(slots=IN_FLIGHT)
        while True:
            leases = [m for m in waiting(worker) if isinstance(m, wire.Lease)]
            for lease in leases:
                if spool:
                    write_outcome(
                        spool.path(lease.job.job_id),
                        make_built(lease.job.job_id),
                        spec_digest=digest_of(lease.job),
                        token=lease.token,
                        is_flushed=False,
                    )
            if log:
                log.keep(lease.job.job_id for lease in leases)
            for lease in leases:
                outcome = make_built(lease.job.job_id)
                worker.send(wire.Done(token=lease.token, outcome=outcome))


def start_worker(endpoint, workspace, keys):
    command = [sys.executable, "-m", "tests.benchmarks.bus", "--worker", endpoint]
    command += ["--workspace", str(workspace)] if workspace else []
    command += ["--keys", str(keys)] if keys else []
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


async def one_at_a_time(client, names):
    """Milliseconds of each job."""
    times = []
    for name in names:
        begin = time.perf_counter()
        outcome = await client.run(make_job(name))
        assert outcome.kind == "built", outcome
        times.append(1000 * (time.perf_counter() - begin))
    return sorted(times)


async def in_flight(client, names):
    """Jobs a second with 64 of them in flight."""
    room = asyncio.Semaphore(IN_FLIGHT)

    async def run(name):
        async with room:
            await client.run(make_job(name))

    begin = time.perf_counter()
    await asyncio.gather(*(run(name) for name in names))
    return len(names) / (time.perf_counter() - begin)


def row(title, times, rate=None):
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    return {
        "what": title,
        "p50_ms": round(statistics.median(times), 2),
        "p99_ms": round(p99, 2),
        "jobs": len(times),
        "per_s": None if rate is None else round(rate),
    }


@contextmanager
def scratch():
    """A folder on the disk that holds the checkout: a broker's state does not lie in memory."""
    with tempfile.TemporaryDirectory(prefix="kernelpilot-bench-", dir=".") as name:
        folder = Path(name).resolve()
        (folder / "state").mkdir()
        yield folder


async def no_op(title, count, *more, is_spooled=False, is_keyed=False):
    """A no-op job through a broker process."""
    with scratch() as folder:
        own, theirs = None, None
        if is_keyed:
            yard = Yard(folder / "keys")
            own, theirs = yard.enrolled("me"), yard.enrolled("w1", Role.WORKER)
            more += ("--keys", yard.broker)
        with BrokerProcess(folder, *KEEP, *more) as broker:
            worker = start_worker(broker.endpoint, folder if is_spooled else None, theirs)
            client = BusClient(broker.endpoint, keys=own)
            try:
                await client.environment()
                await one_at_a_time(client, [f"warm-{i}" for i in range(20)])
                times = await one_at_a_time(client, [f"one-{i}" for i in range(count)])
                rate = await in_flight(client, [f"many-{i}" for i in range(4 * count)])
            finally:
                await client.close()
                worker.kill()
                worker.wait()
    return row(title, times, rate)


async def child(count):
    """A real worker of a run's own pool."""
    os.environ["PYTHONPATH"] = str(ROOT)  # where its children find the executor
    with tempfile.TemporaryDirectory() as folder:
        plan = LocalPlan(executor=EXECUTOR)
        async with LocalPool(Path(folder), plan=plan) as pool:
            await pool.environment()
            await one_at_a_time(pool, [f"warm-{i}" for i in range(10)])  # until the zygote is ready
            times = await one_at_a_time(pool, [f"job-{i}" for i in range(count)])
    return row("a run's own pool, a child a job", times)


def fill(path, live, finished):
    """Write a database of so many jobs."""
    store, book = Store(path), Book(most_finished=1)
    store.begin_epoch(1)
    for number in range(finished + live):
        job = make_job(f"run{number % 7}-r1-{number}")
        ticket = book.submit(job, digest_of(job))
        if number < finished:
            book.lease(ticket, "w1", number + 1, beat=0)
            book.finish(ticket, make_built(job.job_id))
        if number % _BATCH == 0:
            store.keep(book.entries(), epoch=1, at_s=time.time())
    store.keep(book.entries(), epoch=1, at_s=time.time())
    store.close()


def restart(live, finished):
    """From the start of a broker's process to its first answer; its memory after that."""
    with scratch() as folder:
        path = folder / "state" / FILE_NAME
        fill(path, live, finished)
        (folder / "state" / "epoch").write_text("1")
        begin = time.perf_counter()
        with BrokerProcess(folder, *KEEP) as broker, Peer(broker.endpoint, wire.TO_CLIENT) as peer:
            peer.send(wire.Wait(job_id=f"run{finished % 7}-r1-{finished}"))
            answer = peer.receive()
            seconds = time.perf_counter() - begin
            assert isinstance(answer, wire.Submitted), answer
            peer.send(wire.Wait(job_id="run0-r1-0"))
            assert isinstance(peer.receive(), wire.Result)
            status = Path(f"/proc/{broker.process.pid}/status").read_text()
        words = dict(line.split(":", 1) for line in status.splitlines())
        return {
            "what": f"restart with {live} live and {finished} finished jobs",
            "seconds": round(seconds, 2),
            "most_memory_mib": round(int(words["VmHWM"].split()[0]) / 1024),
            "database_mib": round(path.stat().st_size / 2**20),
        }


async def measure(arguments):
    rows = [
        await no_op("in memory", arguments.jobs, "--keep", "memory"),
        await no_op("database, FULL", arguments.jobs),
        await no_op("database, FULL, spool", arguments.jobs, is_spooled=True),
        await no_op("database, FULL, spool, keys", arguments.jobs, is_spooled=True, is_keyed=True),
        await child(min(50, arguments.jobs)),
    ]
    started = await asyncio.to_thread(starts.measure, arguments.forks, arguments.fresh)
    restarted = await asyncio.to_thread(restart, arguments.live, arguments.finished)
    if arguments.json:
        sys.stdout.write(
            json.dumps({"no_op": rows, "starts": started, "restart": restarted}) + "\n"
        )
        return
    sys.stdout.write(f"{'a job that does nothing':<34}{'p50 ms':>9}{'p99 ms':>9}{'jobs/s':>9}\n")
    for line in rows:
        rate = "" if line["per_s"] is None else line["per_s"]
        sys.stdout.write(f"{line['what']:<34}{line['p50_ms']:>9}{line['p99_ms']:>9}{rate:>9}\n")
    sys.stdout.write(starts.table(started))
    sys.stdout.write(
        f"{restarted['what']}: serves after {restarted['seconds']} s, at most "
        f"{restarted['most_memory_mib']} MiB, database {restarted['database_mib']} MiB\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500, help="of each kind, one at a time")
    parser.add_argument("--live", type=int, default=10_000)
    parser.add_argument("--finished", type=int, default=100_000)
    parser.add_argument("--forks", type=int, default=100, help="sandboxed starts of that kind")
    parser.add_argument("--fresh", type=int, default=5, help="of new interpreters")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--workspace", help=argparse.SUPPRESS)
    parser.add_argument("--keys", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker_main(arguments.worker, arguments.workspace, arguments.keys)
    else:
        asyncio.run(measure(arguments))


if __name__ == "__main__":
    main()
