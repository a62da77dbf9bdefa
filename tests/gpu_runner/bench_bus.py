"""What the bus costs a job that does nothing: `python -m tests.gpu_runner.bench_bus`.

Prints milliseconds; asserts nothing. "bus" is client, broker and a worker that answers from memory;
"spool" is a real worker that answers from its spool; "child" is a real worker and a fresh child.
"""

import asyncio
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from gpu_runner import wire
from gpu_runner.client import BusClient
from gpu_runner.local import LocalPlan, LocalPool
from tests.gpu_runner.bus_threads import Peer, serving
from tests.gpu_runner.executors import EXECUTOR, make_built, make_job


def answer(endpoint, count, is_ready):
    with Peer(endpoint) as worker:
        worker.say_hello()
        is_ready.set()
        for _ in range(count):
            lease = worker.receive_until(wire.Lease)
            outcome = make_built(lease.job.job_id)
            worker.send(wire.Done(token=lease.token, outcome=outcome))


async def timed(pool, names):
    """Milliseconds of each job, one at a time."""
    times = []
    for name in names:
        begin = time.perf_counter()
        await pool.run(make_job(name))
        times.append(1000 * (time.perf_counter() - begin))
    return sorted(times)


def show(title, times):
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    line = f"{title:<24}{statistics.median(times):10.2f}{p99:10.2f}{len(times):8d}\n"
    sys.stdout.write(line)


async def bus(count):
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/bus"
        is_ready = threading.Event()
        with serving(endpoint):
            worker = threading.Thread(target=answer, args=(endpoint, count, is_ready))
            worker.start()
            is_ready.wait()
            client = BusClient(endpoint)
            show("bus", await timed(client, [f"job-{i}" for i in range(count)]))
            await client.close()
            worker.join()


async def real(count):
    with tempfile.TemporaryDirectory() as folder:
        plan = LocalPlan(executor=EXECUTOR)
        names = [f"job-{i}" for i in range(count)]
        async with LocalPool(Path(folder), plan=plan) as pool:
            await pool.environment()
            show("bus + worker + child", await timed(pool, names))
        async with LocalPool(Path(folder), plan=plan) as pool:
            await pool.environment()
            show("bus + worker + spool", await timed(pool, names))


if __name__ == "__main__":
    sys.stdout.write(f"{'milliseconds a job':<24}{'p50':>10}{'p99':>10}{'jobs':>8}\n")
    asyncio.run(bus(300))
    asyncio.run(real(20))
