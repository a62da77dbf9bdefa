"""How long until a sandboxed script that uses torch runs: forked from a zygote, and as ever.

`python -m tests.benchmarks.starts` prints it alone; `make bench-bus` beside the rest.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from gpu_runner.host.enclosure import Enclosure
from gpu_runner.host.graft import INTERPRETER
from gpu_runner.host.grants import Grants
from gpu_runner.host.nursery import nursery

SCRIPT = "import os, torch\nos.write(1, b'.')\nos.read(0, 1)\n"


def start_ms(script, zygote):
    """Milliseconds until the script has torch, and until nothing of it is left."""
    grants = Grants(readable=(script,), environment={"OMP_NUM_THREADS": "1"}, memory_bytes=4 << 30)
    said_out, said_in = os.pipe()
    end_out, end_in = os.pipe()
    begin = time.perf_counter()
    made = Enclosure(
        [*INTERPRETER, str(script)], grants, stdin=end_out, output=said_in, zygote=zygote
    )
    try:
        assert os.read(said_out, 1) == b"."
        started = time.perf_counter()
    finally:
        made.close()
        for descriptor in (said_out, said_in, end_out, end_in):
            os.close(descriptor)
    return 1000 * (started - begin), 1000 * (time.perf_counter() - started)


def measure(forks, fresh):
    """A row for each way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "script.py"
        script.write_text(SCRIPT)
        with nursery(folder):
            start_ms(script, folder)  # in which the zygote imports torch
            ways = {
                "forked, torch preloaded": [start_ms(script, folder) for _ in range(forks)],
                "a new interpreter": [start_ms(script, None) for _ in range(fresh)],
            }
    rows = []
    for title, times in ways.items():
        starts = sorted(start for start, _ in times)
        rows.append(
            {
                "what": title,
                "p50_ms": round(statistics.median(starts), 1),
                "p99_ms": round(starts[min(len(starts) - 1, int(0.99 * len(starts)))], 1),
                "end_p50_ms": round(statistics.median(end for _, end in times), 1),
                "starts": len(times),
            }
        )
    return rows


def table(rows):
    """What a person reads."""
    head = f"{'a sandboxed script with torch':<34}{'p50 ms':>9}{'p99 ms':>9}{'its end':>9}\n"
    return head + "".join(
        f"{row['what']:<34}{row['p50_ms']:>9}{row['p99_ms']:>9}{row['end_p50_ms']:>9}\n"
        for row in rows
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forks", type=int, default=100)
    parser.add_argument("--fresh", type=int, default=5)
    arguments = parser.parse_args()
    sys.stdout.write(table(measure(arguments.forks, arguments.fresh)))


if __name__ == "__main__":
    main()
