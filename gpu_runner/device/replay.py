"""Calls one candidate on one workload, and does nothing else: a program for tools to watch.

Usage: `python -m gpu_runner.device.replay --artefact DIR --job FILE --repeat N`. It is trusted;
what it loads from the artefact is device code only. Every tensor has an allocation of its own and
of its exact size, outputs and workspace are left as they come, so that a tool sees every access
beside them and every read of what nobody wrote. Nothing is verified here.

It ends with 0, with 2 where files or machine do not serve, or with 3 after an error of CUDA.
"""

import argparse
import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from gpu_runner.candidate import LaunchPlan
from gpu_runner.device import driver
from gpu_runner.device.driver import DriverFailed, call
from gpu_runner.device.lowered import Lowered, lower, read_index
from gpu_runner.errors import RunnerError
from gpu_runner.message import Message
from gpu_runner.oracle.contents import Contents
from gpu_runner.oracle.elements import numpy_dtype
from gpu_runner.problem import Problem, Tensor, Workload

RANGE = "measure"
EXIT_UNABLE = 2
EXIT_CUDA = 3
_KEY = bytes(range(32))
"""Contents need no secret here: nothing is verified, and a finding should come again."""
_LEAST_FLUSH_BYTES = 128 << 20
_COPY_BYTES = 512 << 20
_COPIES = 5
_EMPTY_PAIRS = 10
_LEAST_US = 0.1


class Replay(Message):
    """The file `--job`: what to call, on what."""

    problem: Problem
    plans: tuple[LaunchPlan, ...] = Field(min_length=1)
    workload: Workload


class Replayed(Message):
    """What is printed with `--time`, one line of JSON."""

    times_us: tuple[float, ...]
    """Each call by itself, by events, with a cold L2."""
    copy_bytes_per_s: float
    """The best device-to-device copy, bytes read and written together."""


def has_ranges() -> bool:
    """Whether calls can be marked with an NVTX range; else the profiler is started and stopped."""
    return importlib.util.find_spec("nvtx") is not None


class NoDevice(RunnerError):
    """There is no device to call anything on; no kernel is to blame."""


def open_device() -> None:
    """Make a context.

    Raises:
        NoDevice: there is no driver, no device, or none that can be used.
    """
    try:
        driver.open_context()
    except DriverFailed as error:
        raise NoDevice(f"no device can be used: {error}") from error


class Player:
    """One candidate, loaded, with its memory; the process's end releases everything."""

    def __init__(self, replay: Replay, lowered: Lowered, artefact: Path) -> None:
        """Allocate, fill the inputs, load the kernels, lay out the launches; needs a context.

        Raises:
            DriverFailed: a call of the driver failed.
        """
        problem, workload = replay.problem, replay.workload
        self._stream: Any = call("cuStreamCreate", 0)
        tensors = (*problem.inputs, *problem.outputs)
        addresses = {t.name: _allocated(_bytes_of(problem, t, workload)) for t in tensors}
        _fill(problem, workload, addresses)
        workspace = _allocated(lowered.workspace_bytes)
        modules = {
            entry: call("cuModuleLoadData", (artefact / entry).read_bytes())
            for entry in {launch.entry for launch in lowered.launches}
        }
        self._kernels = [
            driver.Kernel(modules[launch.entry], launch).bind(addresses, workspace)
            for launch in lowered.launches
        ]

    def call(self) -> None:
        """Launch every kernel of one call; waits for nothing."""
        for kernel in self._kernels:
            kernel.launch(self._stream)

    def wait(self) -> None:
        """Wait for the device; a fault of a kernel shows here."""
        call("cuCtxSynchronize")

    @contextmanager
    def marked(self, name: str) -> Iterator[None]:
        """Mark what is launched inside for a profiler."""
        nvtx: Any = importlib.import_module("nvtx") if has_ranges() else None
        call("cuProfilerStart")
        if nvtx is not None:
            nvtx.push_range(name)
        yield
        self.wait()
        if nvtx is not None:
            nvtx.pop_range()
        call("cuProfilerStop")

    def times_us(self, repeat: int) -> tuple[float, ...]:
        """Time calls one by one, each after the L2 was overwritten.

        The overwriting is still under way when the launches are queued, so that what a launch
        costs the host is not in the time; what a pair of events costs is subtracted.
        """
        flush_bytes = max(2 * driver.attribute("L2_CACHE_SIZE"), _LEAST_FLUSH_BYTES)
        flush = _allocated(flush_bytes)

        def cold_us(work: Callable[[], None]) -> float:
            call("cuMemsetD32Async", flush, 0, flush_bytes // 4, self._stream)
            return self._timed_us(work)

        empty_us = min(cold_us(lambda: None) for _ in range(_EMPTY_PAIRS))
        return tuple(max(cold_us(self.call) - empty_us, _LEAST_US) for _ in range(repeat))

    def copy_bytes_per_s(self) -> float:
        """Return the bandwidth of the best of a few large copies."""
        source, target = _allocated(_COPY_BYTES), _allocated(_COPY_BYTES)

        def copy() -> None:
            call("cuMemcpyDtoDAsync", target, source, _COPY_BYTES, self._stream)

        return 2 * _COPY_BYTES / min(self._timed_us(copy) for _ in range(_COPIES)) * 1e6

    def _timed_us(self, work: Callable[[], None]) -> float:
        start, end = call("cuEventCreate", 0), call("cuEventCreate", 0)
        call("cuEventRecord", start, self._stream)
        work()
        call("cuEventRecord", end, self._stream)
        self.wait()
        return 1e3 * float(call("cuEventElapsedTime", start, end))


def _bytes_of(problem: Problem, tensor: Tensor, workload: Workload) -> int:
    return math.prod(problem.shape(tensor, workload)) * tensor.dtype.item_bytes


def _allocated(size: int) -> int:
    return int(call("cuMemAlloc", max(1, size)))


def _fill(problem: Problem, workload: Workload, addresses: Mapping[str, int]) -> None:
    inputs = {
        t.name: np.empty(problem.shape(t, workload), numpy_dtype(t.dtype)) for t in problem.inputs
    }
    Contents(problem, workload, _KEY).fill(inputs, call=0)
    for name, array in inputs.items():
        if array.nbytes:
            call("cuMemcpyHtoD", addresses[name], array.ctypes.data, array.nbytes)


def play(
    player: Player, *, repeat: int, warmups: int, name: str, is_timed: bool
) -> Replayed | None:
    """Warm up, then call: under a mark for a tool that watches, or timed by events."""
    for _ in range(warmups):
        player.call()
        player.wait()
    if is_timed:
        return Replayed(
            times_us=player.times_us(repeat), copy_bytes_per_s=player.copy_bytes_per_s()
        )
    with player.marked(name):
        for _ in range(repeat):
            player.call()
            player.wait()
    return None


def main(arguments: Sequence[str]) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m gpu_runner.device.replay")
    parser.add_argument("--artefact", type=Path, required=True, help="what a builder produced")
    parser.add_argument("--job", type=Path, required=True, help="a Replay as JSON")
    parser.add_argument("--repeat", type=int, default=1, help="calls after the warm-up")
    parser.add_argument("--warmups", type=int, default=3, help="calls before them")
    parser.add_argument("--range", default=RANGE, help="name of the NVTX range around them")
    parser.add_argument("--time", action="store_true", help="time the calls, print JSON")
    given = parser.parse_args(arguments)
    try:
        replay = Replay.model_validate_json(given.job.read_bytes())
        index = read_index(given.artefact)
        lowered = lower(replay.problem, replay.plans, index, replay.workload)
        open_device()
        player = Player(replay, lowered, given.artefact)
        played = play(
            player,
            repeat=given.repeat,
            warmups=given.warmups,
            name=given.range,
            is_timed=given.time,
        )
    except DriverFailed as error:
        sys.stderr.write(f"replay: {error}\n")
        return EXIT_CUDA
    except (OSError, ValidationError, ValueError, RunnerError) as error:
        sys.stderr.write(f"replay: {error}\n")
        return EXIT_UNABLE
    if played is not None:
        sys.stdout.write(json.dumps(played.model_dump()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
