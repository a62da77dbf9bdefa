"""Builders for the nouns of a run."""

from typing import cast

from agents.replies import (
    CheckRule,
    Criterion,
    Digest,
    Draft,
    Edit,
    ExecutableCheck,
    Inspection,
    Movement,
    Plan,
    Remark,
    Research,
    Review,
    TaskItem,
)
from gpu_runner.candidate import Candidate, Contender, Language, Source
from gpu_runner.jobs import Admitted
from gpu_runner.problem import Workload
from gpu_runner.records import (
    BenchRecord,
    Comparison,
    Decision,
    Environment,
    Series,
    Sitting,
    TimingPlan,
    Verdict,
)
from graph.ledger import Attempt, AttemptOutcome, RunManifest
from graph.state import Lane, RunState, first_state
from graph.target import Budget, Goal, Scope, Target
from tests.builders import make_candidate, make_problem, make_workload

DIGEST = "0" * 64


def make_environment(**changes) -> Environment:
    values = {
        "machine": "test processor",
        "arch": "x86_64",
        "cores": 2,
        "memory_bytes": 2**33,
        "kernel": "6.1",
        "compiler": "g++ 13",
        "python": "3.11",
    }
    return Environment(**{**values, **changes})


def make_baseline(name: str = "torch eager", us: float = 100.0) -> Contender:
    source = Source(path="baseline.py", text=f"# us={us}\ndef run(x):\n    return x\n")
    return Contender(
        name=name,
        candidate=Candidate(language=Language.PYTHON, sources=(source,)),
        is_trusted=True,
    )


def make_target(**changes) -> Target:
    values = {
        "name": "softmax",
        "problem": make_problem(),
        "workloads": (
            make_workload(name="small"),
            make_workload(name="wide", axes={"B": 4, "N": 4096}, weight=2.0),
            make_workload(name="odd", axes={"B": 3, "N": 127}, visibility="hidden"),
        ),
        "baselines": (make_baseline(), make_baseline("torch compile", 90.0)),
        "goal": Goal(speedup=1.1, against="torch eager"),
        "scope": Scope(languages=(Language.CPP,), lanes=2),
        "budget": Budget(rounds=3, plateau_attempts=6),
    }
    return Target(**{**values, **changes})


def make_manifest(**changes) -> RunManifest:
    values = {
        "run_id": "softmax-test",
        "kernelpilot_version": "0.1.0",
        "created_at": "2026-01-01T00:00:00+00:00",
        "seed": 0,
        "team": "ladder",
        "target": make_target(),
        "environment": make_environment(),
    }
    return RunManifest(**{**values, **changes})


def make_comparison(speedup: float = 1.5, **changes) -> Comparison:
    values = {
        "verdict": Verdict.FASTER if speedup > 1.05 else Verdict.SAME,
        "speedup": speedup,
        "low": speedup * 0.98,
        "high": speedup * 1.02,
        "candidate_us": 100 / speedup,
        "against_us": 100.0,
    }
    return Comparison(**{**values, **changes})


def make_decision(speedup: float = 1.5, **changes) -> Decision:
    values = {
        "against": "torch eager",
        "record_id": "f" * 16,
        "basis": "claim",
        "sittings": 5,
        "clock": "wall",
        "margin": 0.05,
        "confidence": 0.995,
        "overall": make_comparison(speedup),
        "workloads": {"small": make_comparison(speedup), "wide": make_comparison(speedup)},
    }
    return Decision(**{**values, **changes})


def make_attempt(number: int = 1, **changes) -> Attempt:
    values = {
        "attempt_id": f"a{number:04}",
        "round": 1,
        "lane": 0,
        "candidate_digest": DIGEST,
        "language": "cpp",
        "motivation": "because",
        "outcome": AttemptOutcome.MEASURED,
    }
    return Attempt(**{**values, **changes})


def make_lane(lane: int = 0, **changes) -> Lane:
    values = {"round": 1, "lane": lane, "attempt_id": f"a{lane + 1:04}", "status": "drafted"}
    return Lane(**{**values, **changes})


def make_state(*lanes: Lane, **changes) -> RunState:
    state = first_state()
    state["lanes"] = {str(lane.lane): lane for lane in lanes}
    return cast("RunState", {**state, **changes})


def make_check(rule: CheckRule = CheckRule.CORRECT_OVER_W, parameter: str = "") -> ExecutableCheck:
    return ExecutableCheck(rule=rule, parameter=parameter)


def make_plan(*pairs: tuple[ExecutableCheck, ExecutableCheck], **changes) -> Plan:
    chosen = pairs or (
        (make_check(CheckRule.REACHES_GOAL), make_check(CheckRule.WRONG_IS_REJECTED)),
    )
    tasks = tuple(
        TaskItem(
            task_id=f"t{number}",
            text="make it fast",
            criterion=Criterion(
                criterion_id=f"ac{number}", text="it is fast", positive=(yes,), negative=(no,)
            ),
        )
        for number, (yes, no) in enumerate(chosen, start=1)
    )
    values = {
        "reason": "first plan",
        "language": Language.CPP,
        "language_reason": "a compiler is there",
        "strategy": "one pass",
        "tasks": tasks,
    }
    return Plan(**{**values, **changes})


def make_research(**changes) -> Research:
    values = {
        "findings": ("memory bound",),
        "routes": ("fuse",),
        "suspected_bottlenecks": ("memory",),
        "benchmark_priorities": ("wide",),
    }
    return Research(**{**values, **changes})


def make_draft(text: str = "// us=80", **changes) -> Draft:
    values = {
        "candidate": make_candidate(text=text),
        "family": "row",
        "recipe": "online",
        "motivation": "one pass",
    }
    return Draft(**{**values, **changes})


def make_digest(**changes) -> Digest:
    edit = Edit(
        path="kernel.cpp",
        symbol="kp_run",
        change="vectorise the inner loop",
        why_others_are_weaker="they are not hot",
        expected=Movement(metric="speedup", direction="up", factor=1.2),
        validation="bench",
    )
    values = {
        "bottleneck": "not_vectorised",
        "confidence": 0.8,
        "evidence": ("no vector instructions",),
        "inference": ("scalar code is slow",),
        "next_edit": edit,
    }
    return Digest(**{**values, **changes})


def make_review(**changes) -> Review:
    return Review(**{"verdict": "ADVANCED", "criteria": (), **changes})


def make_remark(**changes) -> Remark:
    values = {
        "lane": "blocking",
        "severity": 2,
        "path": "kernel.cpp",
        "line": 1,
        "text": "reads one row too far",
    }
    return Remark(**{**values, **changes})


def make_inspection(*remarks: Remark, summary: str = "as it should be") -> Inspection:
    return Inspection(remarks=remarks, summary=summary)


def make_admitted(job_id: str = "softmax-test-admit-t0") -> Admitted:
    return Admitted(
        job_id=job_id,
        margins={"torch eager": 20.0},
        caught=("zeros", "float16"),
        environment=make_environment(),
    )


def make_record(
    candidate_us: float = 80.0,
    against: dict[str, float] | None = None,
    *,
    sittings: int = 5,
    workloads: tuple[Workload, ...] | None = None,
    plan: TimingPlan | None = None,
    candidate_digest: str = DIGEST,
    problem_digest: str = DIGEST,
) -> BenchRecord:
    """A record whose times are the given ones with a small, fixed spread."""
    rivals = against or {"torch eager": 100.0}
    points = workloads or (make_workload(),)
    return BenchRecord(
        problem_digest=problem_digest,
        candidate_digest=candidate_digest,
        against=dict.fromkeys(rivals, DIGEST),
        workloads=points,
        plan=plan or TimingPlan(),
        environment=make_environment(),
        sittings=tuple(
            Sitting(
                index=index,
                started_at="2026-01-01T00:00:00+00:00",
                key_digest=DIGEST,
                pressure_percent=0.0,
                verified_outputs=40,
                series=tuple(
                    _series(point.name, name, candidate_us, us, index)
                    for point in points
                    for name, us in rivals.items()
                ),
            )
            for index in range(sittings)
        ),
    )


def _series(workload: str, against: str, candidate_us: float, us: float, index: int) -> Series:
    spread = [1 + 0.002 * ((pair * 7 + index * 3) % 5 - 2) for pair in range(12)]
    mine = tuple(candidate_us * factor for factor in spread)
    other = tuple(us * factor for factor in reversed(spread))
    return Series(
        workload=workload,
        against=against,
        slots=1,
        candidate_us=mine,
        against_us=other,
        candidate_cpu_us=mine,
        against_cpu_us=other,
    )
