"""The ceilings of this machine, measured, and where a workload stands below them.

The ceilings come from a small program of our own, compiled once. Their figures are kept in the
workspace under the machine's description, so that they expire with it. A shared machine measures
too low, never too high: the first few profiles measure again, and the best figure counts.
"""

import logging
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from pydantic import Field, ValidationError

from gpu_runner.errors import ToolchainMissing
from gpu_runner.facts import Roofline
from gpu_runner.host.machine import environment, pick_cpus
from gpu_runner.languages.toolchain import machine_isa, version_line
from gpu_runner.message import Message, digest_of
from gpu_runner.problem import DType, Problem, Workload

logger = logging.getLogger(__name__)

MOST_SAMPLES = 3
"""Runs of the program for one size and thread count; later profiles take the best of them."""
LATENCY_BELOW = 0.25
_SOURCE = Path(__file__).with_name("ceilings.c")
_FLAGS = ("-std=gnu17", "-O3", "-march=native", "-fopenmp")
_SMALLEST_BYTES = 16 * 1024
_COMPILE_TIMEOUT_S = 60.0
_RUN_TIMEOUT_S = 60.0


class Ceilings(Message):
    """The best figures of this machine at one working-set size and thread count."""

    bandwidth_bytes_per_s: float = Field(gt=0)
    """Best of reading, copying and copying past the caches; read and written bytes together."""
    float32_flops_per_s: float = Field(gt=0)
    float64_flops_per_s: float = Field(gt=0)
    int8_flops_per_s: float = Field(gt=0)
    """Multiply and add counted as two, as for the others."""
    samples: int = 1

    def merged(self, other: "Ceilings") -> "Ceilings":
        """Return the best of both."""
        figures = {
            name: max(value, getattr(other, name)) for name, value in self if name != "samples"
        }
        return Ceilings(**figures, samples=self.samples + other.samples)

    def peak(self, problem: Problem) -> float:
        """Return the arithmetic ceiling for the widest type that a problem must compute in."""
        inputs = {tensor.dtype for tensor in problem.inputs}
        if DType.INT8 in inputs:
            return self.int8_flops_per_s
        if DType.FLOAT64 in inputs:
            return self.float64_flops_per_s
        if inputs & {DType.FLOAT16, DType.BFLOAT16} and DType.FLOAT32 not in inputs:
            return 2 * self.float32_flops_per_s
        return self.float32_flops_per_s


def ceilings(working_set_bytes: int, *, threads: int, workspace: Path) -> Ceilings:
    """Return the ceilings for a working set, measured now or before.

    Args:
        working_set_bytes: rounded down to a power of two, which can only raise the bandwidth.
        threads: how many the kernel may use.
        workspace: figures and program are kept in its `cache/ceilings`.

    Raises:
        ToolchainMissing: no C compiler.
    """
    size = max(_SMALLEST_BYTES, 1 << (max(1, working_set_bytes).bit_length() - 1))
    folder = workspace / "cache" / "ceilings"
    folder.mkdir(parents=True, exist_ok=True)
    program = _program(folder)
    place = folder / f"{_key(program, size, threads)}.json"
    known = _read(place)
    if known is not None and known.samples >= MOST_SAMPLES:
        return known
    measured = _measure(program, size, threads)
    best = measured if known is None else known.merged(measured)
    _replace(place, best.model_dump_json(indent=1).encode())
    return best


def place_below(problem: Problem, workload: Workload, time_us: float, limits: Ceilings) -> Roofline:
    """Return where one workload stands."""
    required_bytes = problem.required_bytes(workload)
    required_flops = problem.required_flops(workload)
    peak = limits.peak(problem)
    memory_us = 1e6 * required_bytes / limits.bandwidth_bytes_per_s
    compute_us = 1e6 * required_flops / peak
    floor_us = max(memory_us, compute_us)
    fraction = floor_us / time_us
    nearer = "memory" if memory_us >= compute_us else "compute"
    return Roofline(
        workload=workload.name,
        time_us=time_us,
        required_bytes=required_bytes,
        required_flops=required_flops,
        bandwidth_bytes_per_s=limits.bandwidth_bytes_per_s,
        peak_flops_per_s=peak,
        floor_us=floor_us,
        fraction_reached=fraction,
        bound="latency" if fraction < LATENCY_BELOW else nearer,
    )


def _key(program: Path, size: int, threads: int) -> str:
    text = f"{program.name} {digest_of(environment())} {size} {threads}"
    return digest_of(text.encode())[:32]


def _read(place: Path) -> Ceilings | None:
    try:
        return Ceilings.model_validate_json(place.read_bytes())
    except (OSError, ValidationError):
        return None


def _program(folder: Path) -> Path:
    """Return the compiled program, named by everything it depends on."""
    compiler = version_line("gcc")
    text = f"{compiler} {machine_isa()} {_FLAGS} {_SOURCE.read_text()}"
    program = folder / f"ceilings-{digest_of(text.encode())[:16]}"
    if program.exists():
        return program
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / program.name
        finished = subprocess.run(
            ["gcc", *_FLAGS, str(_SOURCE), "-o", str(made)],
            capture_output=True,
            text=True,
            timeout=_COMPILE_TIMEOUT_S,
            check=False,
        )
        if finished.returncode != 0:
            raise ToolchainMissing(
                f"gcc cannot compile {_SOURCE.name}: {finished.stderr.strip()[-300:]}; install a "
                "gcc with OpenMP"
            )
        made.replace(program)
    return program


def _measure(program: Path, size: int, threads: int) -> Ceilings:
    cpus = ",".join(str(cpu) for cpu in sorted(pick_cpus(threads)[1]))
    finished = subprocess.run(
        [str(program), str(size), str(threads), cpus],
        capture_output=True,
        text=True,
        timeout=_RUN_TIMEOUT_S,
        check=True,
        env={"OMP_DYNAMIC": "false", "OMP_NUM_THREADS": str(threads)},
    )
    figures = dict(line.split() for line in finished.stdout.splitlines())
    logger.info("ceilings measured bytes=%d threads=%d %s", size, threads, figures)
    return Ceilings(
        bandwidth_bytes_per_s=float(figures["bandwidth"]),
        float32_flops_per_s=float(figures["float32"]),
        float64_flops_per_s=float(figures["float64"]),
        int8_flops_per_s=float(figures["int8"]),
    )


def _replace(place: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(place)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
