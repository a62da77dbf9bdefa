"""Builders of views, contexts and replies for the tests of teams."""

from agents.contexts import PastAttempt, RunView
from agents.lessons import Lesson, Scope
from agents.replies import (
    CheckRule,
    Criterion,
    Draft,
    Edit,
    ExecutableCheck,
    Movement,
    Plan,
    Review,
    TaskItem,
)
from gpu_runner.candidate import Candidate, Language
from gpu_runner.problem import Axis, DType, Problem, Tensor
from gpu_runner.records import Comparison, Decision, Verdict
from tests.builders import make_candidate, make_problem, make_workload

AVX512 = ("avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8")
UP = Movement(metric="speedup", direction="up", factor=1.1)


NOW = "2026-06-01T00:00:00+00:00"
HERE = Scope(arch="x86_64", family="softmax", language=Language.CPP, toolchain="g++ 13")


def make_view(**changes) -> RunView:
    """A fresh run of softmax on a machine with AVX-512."""
    values = {
        "run_id": "r",
        "seed": 7,
        "problem": make_problem(),
        "workloads": (make_workload(),),
        "tier": "cpu",
        "arch": "x86_64",
        "isa": AVX512,
        "threads": 1,
        "languages": (Language.CPP,),
        "goal_speedup": 1.1,
        "goal_against": "torch eager",
        "round": 0,
    }
    return RunView(**{**values, **changes})


def make_past(number: int = 0, **changes) -> PastAttempt:
    """A measured attempt."""
    values = {
        "attempt_id": f"a{number:04d}",
        "round": number // 2,
        "lane": number % 2,
        "candidate_digest": f"{number:064x}",
        "outcome": "measured",
        "vs_baseline": 1.0,
    }
    return PastAttempt(**{**values, **changes})


def past_of(draft: Draft, number: int, **changes) -> PastAttempt:
    """The attempt that a draft became."""
    return make_past(
        number,
        family=draft.family,
        recipe=draft.recipe,
        parameters=draft.parameters,
        candidate_digest=draft.candidate.digest,
        **changes,
    )


def make_plan(**changes) -> Plan:
    """One task, accepted when the kernel is right."""
    criterion = Criterion(
        criterion_id="ac1",
        text="right",
        positive=(ExecutableCheck(rule=CheckRule.CORRECT_OVER_W),),
        negative=(ExecutableCheck(rule=CheckRule.WRONG_IS_REJECTED),),
    )
    values = {
        "reason": "first",
        "language": Language.CPP,
        "language_reason": "only one",
        "strategy": "try",
        "tasks": (TaskItem(task_id="t1", text="write", criterion=criterion),),
    }
    return Plan(**{**values, **changes})


def make_draft(candidate: Candidate | None = None, **changes) -> Draft:
    """A right softmax."""
    values = {"candidate": candidate or make_candidate(), "motivation": "start"}
    return Draft(**{**values, **changes})


def make_edit(**changes) -> Edit:
    """An edit that names no recipe."""
    values = {
        "path": "kernel.cpp",
        "symbol": "row",
        "change": "unroll",
        "why_others_are_weaker": "no fact",
        "expected": UP,
        "validation": "a sitting",
    }
    return Edit(**{**values, **changes})


def make_review(**changes) -> Review:
    """A round that advanced."""
    return Review(**{"verdict": "ADVANCED", "criteria": (), **changes})


def make_decision(verdict: Verdict = Verdict.FASTER, **changes) -> Decision:
    """A claim over one workload."""
    part = Comparison(
        verdict=verdict, speedup=1.2, low=1.1, high=1.3, candidate_us=10.0, against_us=12.0
    )
    values = {
        "against": "torch eager",
        "record_id": "0123456789abcdef",
        "basis": "claim",
        "sittings": 5,
        "clock": "wall",
        "margin": 0.02,
        "confidence": 0.99,
        "overall": part,
        "workloads": {"small": part},
    }
    return Decision(**{**values, **changes})


def problem_of(
    name: str,
    inputs: dict[str, str],
    outputs: dict[str, str],
    *,
    reference: str = "def run(*a): return a",
    expressions: dict[str, str] | None = None,
    **changes,
) -> Problem:
    """A float32 problem from `{"x": "M K"}` shapes; int8 where a shape ends in `!`."""
    expressions = expressions or {}
    shapes = [*inputs.values(), *outputs.values()]
    axes = dict.fromkeys(axis for shape in shapes for axis in shape.rstrip("!").split())
    made = [
        Axis(name=axis, kind="expr", expression=expressions[axis])
        if axis in expressions
        else Axis(name=axis, kind="var")
        for axis in axes
    ]
    return Problem(
        name=name,
        axes=tuple(made),
        inputs=tuple(_tensor(n, shape) for n, shape in inputs.items()),
        outputs=tuple(_tensor(n, shape) for n, shape in outputs.items()),
        reference=reference,
        **changes,
    )


def _tensor(name: str, shape: str) -> Tensor:
    dtype = DType.INT8 if shape.endswith("!") else DType.FLOAT32
    return Tensor(name=name, shape=tuple(shape.rstrip("!").split()), dtype=dtype)


def make_lesson(**changes) -> Lesson:
    values = {
        "scope": HERE,
        "problem": "softmax",
        "recipe": "online",
        "parameters": {"unroll": 4},
        "finding": "fast",
        "speedup": 1.8,
        "of_best": 1.0,
        "evidence": ("run1:r1",),
        "learnt_at": NOW,
    }
    return Lesson(**{**values, **changes})
