"""A launcher: the process that runs one side's cubins, as a plan says, and times them.

`python -m gpu_runner.device.launcher DESCRIPTOR`. It is trusted and holds no host code of the
candidate: it maps inputs for reading only, owns the workspace, and answers the supervisor. What a
kernel does to this process (an illegal access, an endless loop) ends with the process.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from gpu_runner.candidate import LaunchPlan
from gpu_runner.channel import Message
from gpu_runner.device import driver
from gpu_runner.device.driver import BoundKernel, Kernel, call
from gpu_runner.device.lowered import Lowered, lower, read_index
from gpu_runner.device.placement import Placement
from gpu_runner.device.serving import Handler, Memory, serve
from gpu_runner.device.stopwatch import Stopwatch
from gpu_runner.problem import Problem

_PLANS = TypeAdapter(tuple[LaunchPlan, ...])
_STATE_SECTIONS: Final = (b".nv.global", b".nv.global.init")
_POISON: Final = 0x7FA5A5A5


@dataclass(frozen=True)
class _Call:
    """One workload of the candidate: its launches, once for every slot."""

    placement: Placement
    lowered: Lowered
    addresses: list[dict[str, int]]


class Launcher:
    """Answers `load`, `run`, `time`."""

    def __init__(self, memory: Memory, problem: Problem) -> None:
        """Bind to the mapped slabs."""
        self._memory = memory
        self._problem = problem
        self._modules: dict[str, Any] = {}
        self._calls: list[_Call] = []
        self._kernels: dict[int, list[list[BoundKernel]]] = {}
        self._graphs: dict[int, Any] = {}
        self._workspace = 0
        self._workspace_bytes = 0
        self._cubins: dict[str, bytes] = {}
        self._uses_state = False
        self._stopwatch = Stopwatch()

    def load(self, message: Message) -> Message:
        """Lower the plans for every workload and load the cubins."""
        artefact = Path(str(message["artefact"]))
        plans = _PLANS.validate_python(message["plans"])
        index = read_index(artefact)
        for place, placement in enumerate(self._memory.placements):
            lowered = lower(self._problem, plans, index, placement.workload)
            addresses = [self._memory.addresses(place, slot) for slot in range(placement.slots)]
            self._calls.append(_Call(placement, lowered, addresses))
        entries = {launch.entry for c in self._calls for launch in c.lowered.launches}
        self._cubins = {entry: (artefact / entry).read_bytes() for entry in sorted(entries)}
        self._uses_state = any(
            section + b"\0" in cubin
            for cubin in self._cubins.values()
            for section in _STATE_SECTIONS
        )
        self._workspace_bytes = max((c.lowered.workspace_bytes for c in self._calls), default=0)
        if self._workspace_bytes:
            self._workspace = int(call("cuMemAlloc", self._workspace_bytes))
        self._load_modules()
        return {"plans": [c.lowered.plan for c in self._calls], "uses_state": self._uses_state}

    def run(self, message: Message) -> Message:
        """Do one slot of a workload, untimed."""
        stream = self._stopwatch.stream
        self._refresh()
        kernels = self._bound(int(message["place"]))[int(message["slot"])]
        for kernel in kernels:
            kernel.launch(stream)
        call("cuStreamSynchronize", stream)
        return {}

    def time(self, message: Message) -> Message:
        """Do all slots of a workload in one replay, on a cold cache."""
        place = int(message["place"])
        self._refresh()
        graph = self._graph(place)
        taken = self._stopwatch.time(lambda stream: call("cuGraphLaunch", graph, stream))
        return {"us": taken.us / self._calls[place].placement.slots, "mhz": taken.mhz}

    def _refresh(self) -> None:
        """Take from the candidate what it could have kept from the call before."""
        if self._uses_state:
            self._load_modules()
        if self._workspace_bytes:
            words = self._workspace_bytes // 4
            call("cuMemsetD32Async", self._workspace, _POISON, words, self._stopwatch.stream)

    def _load_modules(self) -> None:
        for graph in self._graphs.values():
            call("cuGraphExecDestroy", graph)
        for module in self._modules.values():
            call("cuModuleUnload", module)
        self._kernels.clear()
        self._graphs.clear()
        self._modules = {
            entry: call("cuModuleLoadData", cubin) for entry, cubin in self._cubins.items()
        }

    def _bound(self, place: int) -> list[list[BoundKernel]]:
        if place not in self._kernels:
            wanted = self._calls[place]
            functions = [
                Kernel(self._modules[launch.entry], launch) for launch in wanted.lowered.launches
            ]
            self._kernels[place] = [
                [function.bind(addresses, self._workspace) for function in functions]
                for addresses in wanted.addresses
            ]
        return self._kernels[place]

    def _graph(self, place: int) -> Any:
        if place not in self._graphs:
            stream = self._stopwatch.stream
            parts = [driver.capture(stream, kernels) for kernels in self._bound(place)]
            self._graphs[place] = driver.chain(parts)
            call("cuGraphUpload", self._graphs[place], stream)
        return self._graphs[place]


def main(descriptor: int) -> int:
    """Serve until the supervisor closes its end."""
    return serve(descriptor, is_oracle=False, build=_handlers)


def _handlers(memory: Memory, problem: Problem, _message: Message) -> dict[str, Handler]:
    launcher = Launcher(memory, problem)
    return {"load": launcher.load, "run": launcher.run, "time": launcher.time}


if __name__ == "__main__":
    sys.exit(main(int(json.loads(sys.argv[1]))))
