"""A client as a process that may be killed: `python -m tests.gpu_runner.chaos_client FILE`.

The file names the endpoint, a folder of keys or null, and the jobs: pairs of an id and an order. It
ends with 0 when every job has its outcome; one that was killed is started again with the same file.
"""

import asyncio
import json
import sys
from pathlib import Path

from gpu_runner.client import BusClient
from tests.gpu_runner.executors import make_built, make_check, make_job

IN_FLIGHT = 16


def job_of(job_id, order):
    """Every other job owns its worker."""
    make = make_job if int(job_id.rpartition("-")[2]) % 2 else make_check
    return make(job_id, order)


async def main(path):
    task = json.loads(path.read_text())
    keys = Path(task["keys"]) if task["keys"] else None
    client = BusClient(task["endpoint"], patience_s=300.0, keys=keys)
    room = asyncio.Semaphore(IN_FLIGHT)

    async def run(job_id, order):
        async with room:
            outcome = await client.run(job_of(job_id, order))
            return outcome == make_built(job_id)

    right = await asyncio.gather(*(run(job_id, order) for job_id, order in task["jobs"]))
    await client.close()
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
