"""A problem with every kind of word, launches over it and what a compiler would say of them."""

from gpu_runner.candidate import Launch, LaunchPlan
from gpu_runner.device.kernel_index import CompiledKernel, index_key
from gpu_runner.problem import Axis, DType, Scalar, Tensor
from tests.builders import make_problem, make_workload


def plan_problem(**changes):
    """x[B, N] in bfloat16 to y[B, H] in float32, H = N // 2, with a float and an int scalar."""
    values = {
        "axes": (
            Axis(name="B", kind="var"),
            Axis(name="N", kind="var"),
            Axis(name="H", kind="expr", expression="N // 2"),
        ),
        "inputs": (Tensor(name="x", shape=("B", "N"), dtype=DType.BFLOAT16),),
        "outputs": (Tensor(name="y", shape=("B", "H"), dtype=DType.FLOAT32),),
        "scalars": (Scalar(name="eps", default=1e-6), Scalar(name="groups", kind="int", default=4)),
    }
    return make_problem(**{**values, **changes})


def shape(rows=8, columns=128, **scalars):
    return make_workload(axes={"B": rows, "N": columns}, scalars=scalars)


def make_launch(**changes):
    values = {
        "kernel": "reduce",
        "grid": ("B", "1", "1"),
        "block": ("128", "1", "1"),
        "arguments": ("x", "y", "N"),
    }
    return Launch(**{**values, **changes})


def make_plan(*launches, **changes):
    return LaunchPlan(launches=launches or (make_launch(),), **changes)


def compiled(*parameters, **changes):
    values = {
        "cubin": "kernel.cubin",
        "symbol": "reduce",
        "shared_bytes": 0,
        "is_dynamic_shared": False,
        "parameters": parameters or ("u64", "u64", "u64"),
        "registers": 32,
    }
    return CompiledKernel(**{**values, **changes})


def index_of(plans, kernel=None, **others):
    """The same kernel for each launch of each plan, but for those named as `p0_1`."""
    return {
        index_key(plan, launch): others.get(f"p{plan}_{launch}", kernel or compiled())
        for plan, whole in enumerate(plans)
        for launch in range(len(whole.launches))
    }
