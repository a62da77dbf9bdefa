"""What a synthetic run was asked, and the small values it is made of."""

import hashlib
import math

from agents.replies import CheckRule, Citation, Criterion, ExecutableCheck, Plan, Research, TaskItem
from gpu_runner.candidate import Contender, Language
from gpu_runner.records import Comparison, Environment, Verdict
from graph.ledger import RunManifest
from graph.target import Hardware, Target
from tests.builders import make_candidate, make_problem, make_workload

EAGER, COMPILED = "torch eager", "torch compile"
SHAPES = {
    "decode_b1": (1, 32000, 0.25),
    "decode_b8": (8, 32000, 0.2),
    "attention_128": (4096, 128, 0.2),
    "attention_512": (2048, 512, 0.15),
    "router_64": (8192, 64, 0.1),
    "wide": (256, 8192, 0.1),
}


def make_environment(**changes) -> Environment:
    return Environment(
        **{
            "machine": "Xeon at 2.1 GHz",
            "arch": "x86_64",
            "cores": 2,
            "isa": ("avx2", "fma", "avx512f"),
            "memory_bytes": 8 * 2**30,
            "kernel": "Linux 6.1",
            "compiler": "g++ 12.2.0",
            "python": "3.11.7",
            "torch": "2.13.0",
            "sandbox": ("bubblewrap", "seccomp", "rlimits"),
            **changes,
        }
    )


def make_target(**changes) -> Target:
    workloads = [
        make_workload(name=name, axes={"B": b, "N": n}, weight=weight, source="a decoder")
        for name, (b, n, weight) in SHAPES.items()
    ]
    hidden = make_workload(name="secret_shape", axes={"B": 7, "N": 1031}, visibility="hidden")
    python = make_candidate(language=Language.PYTHON)
    return Target(
        **{
            "name": "softmax",
            "problem": make_problem(description="Softmax over the last dimension, float32."),
            "workloads": (*workloads, hidden),
            "baselines": tuple(Contender(name=n, candidate=python) for n in (EAGER, COMPILED)),
            "hardware": Hardware(threads=1),
            **changes,
        }
    )


def make_manifest(**changes) -> RunManifest:
    return RunManifest(
        **{
            "run_id": "softmax-20300102-030405-7f3a",
            "kernelpilot_version": "0.1.0",
            "created_at": "2030-01-02T03:04:05Z",
            "seed": 7,
            "team": "playbook",
            "target": make_target(),
            "environment": make_environment(),
            **changes,
        }
    )


def make_plan() -> Plan:
    faster = Criterion(
        criterion_id="ac1",
        text="A promoted kernel is FASTER than torch eager over W.",
        positive=(ExecutableCheck(rule=CheckRule.FASTER_THAN_BASELINE, parameter=EAGER),),
        negative=(ExecutableCheck(rule=CheckRule.NO_REGRESSION),),
    )
    roof = Criterion(
        criterion_id="ac2",
        text="Half of the roof is reached on every workload.",
        positive=(ExecutableCheck(rule=CheckRule.ROOFLINE_REACHED, parameter="0.5"),),
        negative=(ExecutableCheck(rule=CheckRule.WRONG_IS_REJECTED),),
    )
    return Plan(
        reason="First plan.",
        language=Language.CPP,
        language_reason="A C++ compiler is on the runner and the device is a processor.",
        strategy="Vectorise the reductions first, then remove calls from the hot loop.",
        tasks=(
            TaskItem(task_id="t1", text="Beat the eager baseline", criterion=faster),
            TaskItem(task_id="t2", text="Approach the roof", criterion=roof),
        ),
    )


def make_research() -> Research:
    return Research(
        findings=("The baseline reads every row three times.",),
        routes=("one pass with an online maximum", "a polynomial exponential"),
        suspected_bottlenecks=("calls to expf",),
        benchmark_priorities=("decode_b1",),
        citations=(Citation(source="agents/recipes/cpp/row_reduction.md", lines="1-40"),),
    )


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def comparison(speedup: float, spread: float, candidate_us: float) -> Comparison:
    low, high = speedup * math.exp(-spread), speedup * math.exp(spread)
    verdict = Verdict.FASTER if low > 1.05 else Verdict.SLOWER if high < 0.95 else Verdict.SAME
    return Comparison(
        verdict=verdict,
        speedup=speedup,
        low=low,
        high=high,
        candidate_us=candidate_us,
        against_us=candidate_us * speedup,
    )
