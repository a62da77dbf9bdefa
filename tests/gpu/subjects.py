"""What the GPU scripts measure: one honest kernel, on shapes of a wanted duration."""

from gpu_runner.candidate import Candidate, Source
from gpu_runner.problem import Workload
from graph.target import Target
from graph.targets import load_target
from tests.gpu.redteam.corpus import candidate

ROWS = {5: 256, 20: 1536, 100: 8192}
"""Microseconds aimed at to rows of 8192 columns: 48 KiB of traffic a row, near 4 TB/s."""
_COLUMNS = 8192


def silu_target(microseconds: int) -> Target:
    """Return the gated activation with one public shape of about this device time.

    Raises:
        KeyError: a duration that is not in `ROWS`.
    """
    whole = load_target("silu_and_mul", "cuda")
    shape = Workload(
        name=f"about_{microseconds}_us",
        axes={"M": ROWS[microseconds], "D": _COLUMNS},
        source="a shape of a wanted duration",
    )
    return whole.model_copy(update={"workloads": (shape, *whole.hidden)})


def honest_kernel(number: int | None = None) -> Candidate:
    """Return a kernel that does its work; a number makes it another candidate of the same code."""
    kernel = candidate("honest.cu")
    if number is None:
        return kernel
    first, *rest = kernel.sources
    numbered = Source(path=first.path, text=f"{first.text}\n/* {number} */\n")
    return kernel.model_copy(update={"sources": (numbered, *rest)})
