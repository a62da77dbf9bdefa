"""How fast the oracle is on this GPU, and whether it agrees with the host's: a table on stdout.

`python -m tests.gpu.oracle_speed [TARGET...]`. Filling and answering slots must not wait for the
device: torch is told to refuse it while they run.
"""

import math
import secrets
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from gpu_runner.device.torch_elements import from_numbers, to_raw, torch_dtype
from gpu_runner.device.torch_oracle import TorchOracle
from gpu_runner.oracle.reference import Oracle
from gpu_runner.problem import Problem, Workload
from graph.targets import load_target

TARGETS = (
    "softmax",
    "rmsnorm",
    "layernorm",
    "silu_and_mul",
    "gelu_tanh",
    "rope",
    "int8_scaled_mm",
    "gemm_bias_act",
)
DEVICE = "cuda"
L2_BYTES = 60 << 20
MOST_SLOTS = 64
REPEATS = 3
SMALL = 1 << 20


def stacked_inputs(problem: Problem, workload: Workload, slots: int) -> dict[str, torch.Tensor]:
    return {
        t.name: torch.empty(
            (slots, *problem.shape(t, workload)), dtype=torch_dtype(t.dtype), device=DEVICE
        )
        for t in problem.inputs
    }


def milliseconds(call: Callable[[], object]) -> float:
    """Wall time of one call with its work on the device, the best of some."""
    best = math.inf
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def unwaiting(call: Callable[[], object]) -> str:
    """Run a call while waiting for the device is an error; return what it waited for."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def disagreement(problem: Problem, oracle: TorchOracle, workload: Workload) -> float:
    """Difference to the host on a workload of the target's own, in bounds."""
    inputs = {n: v[0] for n, v in stacked_inputs(problem, workload, 1).items()}
    oracle.fill(workload, inputs, call=0)
    mine = oracle.expect(workload, inputs)
    raw = {t.name: to_raw(inputs[t.name], t.dtype) for t in problem.inputs}
    right = Oracle(problem).expected(workload, raw)
    worst = 0.0
    for name, number in right.outputs.items():
        found = mine.outputs[name].cpu().numpy()
        is_same = (found == number) | (np.isnan(found) & np.isnan(number))
        with np.errstate(invalid="ignore"):
            apart = np.where(is_same, 0.0, np.abs(found - number) / right.bounds[name])
        worst = max(worst, float(apart.max(initial=0.0)))
    return worst


def telling(problem: Problem, oracle: TorchOracle, workload: Workload) -> str:
    """What is made of a near-duplicate's answer, and of one element that is no number."""
    inputs, after = (
        {n: v[0] for n, v in stacked_inputs(problem, workload, 1).items()} for _ in range(2)
    )
    oracle.fill(workload, inputs, call=1)
    expected = oracle.expect(workload, inputs)
    noise = oracle.same_precision_rms(workload, inputs, expected)
    moved = 0.0
    for call in range(4):
        oracle.perturb(workload, inputs, after, call=call)
        stale = rounded(problem, oracle.expect(workload, after).outputs)
        judgement = oracle.judge(expected, stale, case="near duplicate", is_hidden=False)
        moved = max(moved, judgement.worst_error)
    flawed = {n: v.clone() for n, v in rounded(problem, expected.outputs).items()}
    first = flawed[problem.outputs[0].name]
    first.view(-1)[-1] = math.nan
    mismatch = oracle.judge(expected, flawed, case="flawed", is_hidden=False).mismatch
    place = mismatch.index if mismatch else "nowhere"
    return f"near-duplicate moves {moved:.1f} bounds, NaN found at {place}, noise {noise}"


def is_small(problem: Problem, workload: Workload) -> bool:
    return problem.required_bytes(workload) <= SMALL and problem.required_flops(workload) < 1e9


def rounded(problem: Problem, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {t.name: from_numbers(outputs[t.name], t.dtype) for t in problem.outputs}


def line_of(problem: Problem, oracle: TorchOracle, workload: Workload) -> str:
    """Times of one token: all slots filled, answered and judged."""
    size = problem.required_bytes(workload)
    slots = max(2, min(MOST_SLOTS, -(-2 * L2_BYTES // size)))
    stacked = stacked_inputs(problem, workload, slots)
    each = [{n: v[slot] for n, v in stacked.items()} for slot in range(slots)]

    def fill(call: int = 0) -> None:
        oracle.fill_slots(workload, each, call=call, stacked=stacked)

    def expect():
        return oracle.expect_slots(workload, each, stacked=stacked)

    fill()
    expected = expect()
    actual = rounded(problem, expected.outputs)

    def judge():
        return oracle.judge_slots(expected, (), case="c", is_hidden=False, stacked=actual)

    worst = max(j.worst_error if j.mismatch is None else math.inf for j in judge())
    times = [milliseconds(call) for call in (fill, expect, judge)]
    waits = unwaiting(fill) or unwaiting(expect)
    return (
        f"{workload.name:24} {slots:3} slots of {size / 2**20:7.1f} MiB  "
        f"fill {times[0]:7.2f} ms  expect {times[1]:7.2f} ms  judge {times[2]:7.2f} ms  "
        f"worst {worst:.2f}  {'waits: ' + waits if waits else 'does not wait'}"
    )


def main() -> None:
    """Print one block for each target."""
    for name in sys.argv[1:] or TARGETS:
        target = load_target(name, "cuda")
        problem = target.problem
        oracle = TorchOracle(problem, DEVICE, secrets.token_bytes(32))
        start = time.perf_counter()
        difference = oracle.host_difference(target.workloads[0])
        first = time.perf_counter() - start
        start = time.perf_counter()
        oracle.host_difference(target.workloads[0])
        again = time.perf_counter() - start
        small = [w for w in target.workloads if is_small(problem, w)]
        apart = max((disagreement(problem, oracle, w) for w in small), default=0.0)
        print(  # noqa: T201 - a script reports
            f"{name}: differs by {difference:.1e} in a sample ({first:.2f} s, then {again:.2f} s), "
            f"by {apart:.1e} bounds in {len(small)} workloads; native: {oracle.is_native} "
            f"{oracle.reason}"
        )
        print(f"  {telling(problem, oracle, target.public[0])}")  # noqa: T201 - as above
        for workload in target.public:
            print(f"  {line_of(problem, oracle, workload)}", flush=True)  # noqa: T201 - as above
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
