"""Feeds damaged reports to the digest: `python -m tests.benchmarks.fuzz_reports [INPUTS] [SEED]`.

Whole exports are cut, spliced, re-encoded and sprinkled with what other tools and locales write;
every answer must be a digest or a typed error. Prints how many were read, and how many a second.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agents.diagnosis.device import diagnose_kernel
from gpu_runner.errors import RunnerError
from gpu_runner.report import read_kernels
from graph.digest.build import build
from graph.digest.markdown import for_model, markdown

DATA = Path(__file__).parents[1] / "data" / "ncu"
_BITS = (
    *(
        "",
        ",",
        ";",
        '"',
        '""',
        "\n",
        "\r\n",
        "\x00",
        "\ufeff",
        "nan",
        "inf",
        "-inf",
        "n/a",
        "no data",
    ),
    *("1e308", "1e999", "-1", "0", "1.234,5", "1,234.5", "1'234", "\u202f", "(1; 2)", "==PROF== x"),
    *("ID", "Kernel Name", "Metric Name", "Metric Value", "%", "Kbyte", "ms", "void k<(int)3>(T)"),
    *("0x7f", "Function Name", "File Path", "Source", "Address", "# Samples", "\u00b5s", "9" * 80),
)


def seeds() -> list[bytes]:
    """Return whole exports of every kind."""
    files = (
        DATA / name
        for name in ("one.csv", "two.csv", "known/raw.csv", "known/details.csv", "known/source.csv")
    )
    return [file.read_bytes()[:60_000] for file in files if file.is_file()]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return an export with up to eight faults."""
    for _ in range(rng.randint(0, 8)):
        content = rng.choice(_FAULTS)(content, rng)
    return content


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(0, len(content))]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(content))
    return content[:at] + rng.choice(_BITS).encode() + content[at:]


def _replace(content: bytes, rng: random.Random) -> bytes:
    cells = content.split(b",")
    cells[rng.randrange(len(cells))] = rng.choice(_BITS).encode()
    return b",".join(cells)


def _lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    some = rng.sample(lines, k=min(len(lines), rng.randint(1, 40)))
    return b"\n".join(rng.choice(([*lines, *some], some, lines[::-1])))


def _bytes(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(min(len(changed), 10)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _encoded(content: bytes, rng: random.Random) -> bytes:
    return content.decode(errors="replace").encode(
        rng.choice(("utf-16", "utf-8-sig", "latin-1")), errors="replace"
    )


def _locale(content: bytes, rng: random.Random) -> bytes:
    return content.translate(
        bytes.maketrans(b",.", b".,") if rng.random() < 0.5 else bytes.maketrans(b",", b";")
    )


_FAULTS: Sequence[Callable[[bytes, random.Random], bytes]] = (
    _cut,
    _insert,
    _replace,
    _lines,
    _bytes,
    _encoded,
    _locale,
)


def digested(paths: dict[str, Path]) -> bool:
    """Read, judge and render a report; return whether it could be read."""
    try:
        kernels = read_kernels(
            paths["report"], source=paths.get("source"), details=paths.get("details")
        )
    except RunnerError:
        return False
    for kernel in kernels[:4]:
        diagnose_kernel(kernel)
    digest = build(kernels, report="r", against=kernels[-1:], against_report="a")
    markdown(digest)
    for_model(digest)
    return True


def main(inputs: int = 2000, seed: int = 1) -> int:
    rng = random.Random(seed)
    known, read, started = seeds(), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(inputs):
            paths = {"report": Path(folder) / "report.csv"}
            if rng.random() < 0.3:
                paths["source"] = Path(folder) / "source.csv"
                paths["details"] = Path(folder) / "details.csv"
            for path in paths.values():
                path.write_bytes(damaged(rng.choice(known), rng))
            try:
                read += digested(paths)
            except Exception:
                sys.stderr.write(f"input {number} of seed {seed} broke the digest\n")
                raise
    rate = inputs / (time.monotonic() - started)
    sys.stdout.write(f"{inputs} inputs, {read} read, {rate:.0f} a second, typed errors only\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
