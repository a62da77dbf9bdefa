"""One planted fault for each tool: a tool that misses its own proves nothing about a candidate."""

from collections.abc import Mapping
from pathlib import Path

from gpu_runner.candidate import Candidate, Language, Launch, LaunchPlan, Source
from gpu_runner.device.sanitizer import Tool
from gpu_runner.problem import Axis, DType, Problem, Tensor, Workload

PROBLEM = Problem(
    name="plant",
    axes=(Axis(name="N", kind="var"),),
    inputs=(Tensor(name="x", shape=("N",), dtype=DType.FLOAT32),),
    outputs=(Tensor(name="y", shape=("N",), dtype=DType.FLOAT32),),
    reference="def run(x):\n    return x\n",
)
WORKLOAD = Workload(name="plant", axes={"N": 256})
SAYS: Mapping[Tool, str] = {
    Tool.MEMCHECK: "Invalid __global__ write",
    Tool.INITCHECK: "Uninitialized __global__ memory read",
    Tool.SYNCCHECK: "Barrier error detected",
    Tool.RACECHECK: "Race reported",
}
"""What each tool has to say of its plant."""
_PLAN = LaunchPlan(
    launches=(
        Launch(kernel="plant", grid=("1", "1", "1"), block=("N", "1", "1"), arguments=("x", "y")),
    ),
)


def plant(tool: Tool) -> Candidate:
    """Return a candidate with the fault that this tool is there to find."""
    text = (Path(__file__).parent / f"{tool.value}.cu").read_text()
    return Candidate(
        language=Language.CUDA,
        sources=(Source(path=f"{tool.value}.cu", text=text),),
        plans=(_PLAN,),
    )
