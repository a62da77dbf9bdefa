"""A baseline: the process that runs one torch contender of the target, and times it by graphs.

`python -m gpu_runner.device.baseline_process DESCRIPTOR`, or forked from the zygote. The contender
is the target's own code, trusted like configuration. It reads and writes the same memory as every
other side; what it allocates between comes from torch and stays out of the measurement.
"""

import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch

from gpu_runner.channel import Message
from gpu_runner.device.serving import Handler, Memory, serve
from gpu_runner.device.stopwatch import Stopwatch
from gpu_runner.device.tensors import mapped
from gpu_runner.errors import RunnerError
from gpu_runner.problem import Problem

_WARMUPS: Final = 2


class Baseline:
    """Answers `load`, `run`, `time`."""

    def __init__(self, memory: Memory, problem: Problem) -> None:
        """Make tensors over the mapped slabs."""
        self._problem = problem
        self._tensors = mapped(memory, problem)
        self._run: Callable[..., Any] | None = None
        self._is_destination = False
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._stopwatch = Stopwatch()
        self._stream: Any = torch.cuda.ExternalStream(int(self._stopwatch.stream))  # type: ignore[no-untyped-call]  # torch's own gap

    def load(self, message: Message) -> Message:
        """Run the contender's source; its `run` is called from now on."""
        os.environ.update(message["environment"])
        path = Path(str(message["source"]))
        module: dict[str, Any] = {"__name__": "baseline", "__file__": str(path)}
        exec(compile(path.read_text(), str(path), "exec"), module)  # noqa: S102 - the target's own code
        self._run = module["run"]
        self._is_destination = message["calling"] == "destination"
        return {"parameters": len(inspect.signature(module["run"]).parameters)}

    def run(self, message: Message) -> Message:
        """Do one slot of a workload, untimed."""
        with torch.cuda.stream(self._stream):
            self._call(int(message["place"]), int(message["slot"]))
        self._stream.synchronize()
        return {}

    def time(self, message: Message) -> Message:
        """Do all slots of a workload in one replay, on a cold cache."""
        place = int(message["place"])
        graph = self._graph(place)

        def replay(_stream: Any) -> None:
            with torch.cuda.stream(self._stream):
                graph.replay()

        taken = self._stopwatch.time(replay)
        return {"us": taken.us / self._tensors[place].placement.slots, "mhz": taken.mhz}

    def _call(self, place: int, slot: int) -> None:
        if self._run is None:
            raise RunnerError("the baseline was asked to run before it was loaded")
        tensors = self._tensors[place]
        inputs = [stacked[slot] for stacked in tensors.inputs.values()]
        outputs = [stacked[slot] for stacked in tensors.outputs.values()]
        scalars = self._problem.scalar_values(tensors.placement.workload)
        if self._is_destination:
            self._run(*inputs, *scalars, *outputs)
            return
        answered = self._run(*inputs, *scalars)
        parts = answered if isinstance(answered, tuple | list) else (answered,)
        for output, part in zip(outputs, parts, strict=True):
            output.copy_(part)

    def _graph(self, place: int) -> torch.cuda.CUDAGraph:
        """Capture every slot once, in order; the first calls compile and stay outside."""
        if place not in self._graphs:
            slots = range(self._tensors[place].placement.slots)
            with torch.cuda.stream(self._stream):
                for _ in range(_WARMUPS):
                    self._call(place, 0)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                for slot in slots:
                    self._call(place, slot)
            self._graphs[place] = graph
        return self._graphs[place]


def main(descriptor: int) -> int:
    """Serve until the supervisor closes its end."""
    return serve(descriptor, is_oracle=False, build=_handlers)


def _handlers(memory: Memory, problem: Problem, _message: Message) -> dict[str, Handler]:
    baseline = Baseline(memory, problem)
    return {"load": baseline.load, "run": baseline.run, "time": baseline.time}


if __name__ == "__main__":
    sys.exit(main(int(json.loads(sys.argv[1]))))
