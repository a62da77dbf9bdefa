"""How fast reports are read: `python -m tests.benchmarks.digest` prints and checks the limits.

14 launches of 2,238 columns in less than 0.3 s; a source page of 200 MB in less than 300 MB of
resident memory, in a process of its own.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpu_runner.device.ncu_csv import parse_raw
from gpu_runner.device.ncu_facts import kernel_facts
from tests.resident import most_resident_bytes

DATA = Path(__file__).parents[1] / "data" / "ncu" / "known"
LAUNCHES, COLUMNS = 14, 2238
RAW_LIMIT_S = 0.3
SOURCE_BYTES = 200 << 20
SOURCE_LIMIT_BYTES = 300 << 20
_REPEATS = 5


def wide() -> list[str]:
    """Return a table as wide as one of the full set, from a captured one."""
    names, units, *rows = (DATA / "raw.csv").read_text().splitlines()
    extra = COLUMNS - names.count(",") - 1
    head = names + "".join(f",sm__made_up_{n}.avg" for n in range(extra))
    values = ("0", "1234.567890", "12.5", "nan", '"1,048,576"')
    tail = "".join(f",{values[n % len(values)]}" for n in range(extra))
    many = [rows[n % len(rows)] + tail for n in range(LAUNCHES)]
    return [head, units + ",%" * extra, *many]


def raw_s() -> float:
    """Return the best time of reading the table and its facts."""
    lines = wide()
    best = float("inf")
    for _ in range(_REPEATS):
        started = time.perf_counter()
        launches = parse_raw(lines)
        for launch in launches:
            kernel_facts(launch, workload="")
        best = min(best, time.perf_counter() - started)
        assert len(launches) == LAUNCHES
    return best


def write_source(path: Path) -> None:
    """Write a page of many functions, each a captured one with addresses of its own."""
    block = (DATA / "source.csv").read_text().split('"File Path"')[1]
    block = f'"File Path"{block}'
    with path.open("w") as file:
        number = 0
        while file.tell() < SOURCE_BYTES:
            # A kernel is at most some hundred thousand instructions; a report has several.
            name, base = number // 4000, 0x7F0000000000 + number * 4096
            part = block.replace("dram_stream(", f"kernel_{name}(", 1)
            file.write(part.replace("0x7fc0ed7a0", f"{base >> 12:#x}"))
            number += 1


def read_in_this_process(path: Path) -> None:
    """Read a page and print seconds, functions and resident bytes."""
    from gpu_runner.device.ncu_source import read_source  # noqa: PLC0415 - counted with the rest

    started = time.perf_counter()
    with path.open() as lines:
        functions = len(read_source(lines))
    most = most_resident_bytes()
    sys.stdout.write(f"{time.perf_counter() - started} {functions} {most}\n")


def main() -> int:
    seconds = raw_s()
    sys.stdout.write(
        f"raw page, {LAUNCHES} launches x {COLUMNS} columns: {seconds * 1e3:.0f} ms "
        f"(limit {RAW_LIMIT_S * 1e3:.0f} ms)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.csv"
        write_source(path)
        argv = [sys.executable, "-m", "tests.benchmarks.digest", str(path)]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        size = path.stat().st_size
    took, functions, most = float(said[0]), int(said[1]), int(said[2])
    sys.stdout.write(
        f"source page, {size >> 20} MB, {functions} functions: {took:.1f} s, "
        f"{most >> 20} MB resident (limit {SOURCE_LIMIT_BYTES >> 20} MB)\n"
    )
    return 0 if seconds < RAW_LIMIT_S and most < SOURCE_LIMIT_BYTES else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        read_in_this_process(Path(sys.argv[1]))
    else:
        sys.exit(main())
