"""The plan and the review of the playbook: fixed tasks with executable checks, and rules. Pure."""

from agents.contexts import PastAttempt, PlanContext, ReviewContext, RunView
from agents.playbook.families import Match
from agents.playbook.search import Search
from agents.replies import (
    CheckRule,
    Criterion,
    ExecutableCheck,
    Finding,
    Plan,
    Review,
    TaskItem,
)
from gpu_runner.candidate import Language
from gpu_runner.records import Verdict

_ATTEMPTS = 16
_RESEARCH_AFTER = 4
_REPLAN_AFTER = 8


_LANGUAGE_REASONS = {
    Language.CPP: (
        "the recipes of this family are C++ behind a C interface: no dispatcher and no "
        "allocation in the call, and the compiler's remarks and the machine code can be read"
    ),
    Language.CUDA: (
        "CUDA C++ says which bytes are in flight and where a row is kept, which decides kernels "
        "bound by memory; recipes in Triton, where the target allows them, are searched beside it"
    ),
    Language.TRITON: (
        "the recipes of this family are Triton: tiles and pipelines are the compiler's, what is "
        "searched are block sizes, warps and stages"
    ),
}


def plan_for(context: PlanContext, match: Match, search: Search) -> Plan:
    """Return the task-acceptance pairs: right, faster, searched."""
    view = context.view
    names = ", ".join(recipe.name for recipe in search.recipes)
    attempts = min(_ATTEMPTS, max(2, search.size // 2))
    previous = context.previous
    reason = f"{view.problem.name} is a {match.family} problem; recipes: {names}"
    if previous is not None and context.why_again:
        reason = f"replanned: {context.why_again}; {reason}"
    return Plan(
        version=previous.version + 1 if previous else 1,
        reason=reason,
        language=search.recipes[0].language,
        language_reason=_LANGUAGE_REASONS[search.recipes[0].language],
        strategy=(
            f"open with the portable recipe and the best-known one, let the profile choose the "
            f"next change, search {search.size} sets of parameters with Optuna around the best; "
            f"every {view.tier} measurement decides, nothing is promoted on a prediction"
        ),
        tasks=_tasks(view, attempts),
    )


def _tasks(view: RunView, attempts: int) -> tuple[TaskItem, ...]:
    goal = view.goal_against
    right = Criterion(
        criterion_id="ac1",
        text="A kernel is right on every public and hidden shape and profile.",
        positive=(ExecutableCheck(rule=CheckRule.CORRECT_OVER_W),),
        negative=(ExecutableCheck(rule=CheckRule.WRONG_IS_REJECTED),),
    )
    faster = Criterion(
        criterion_id="ac2",
        text=f"The kernel is faster than {goal} by a claim, and slower on no public shape.",
        positive=(ExecutableCheck(rule=CheckRule.FASTER_THAN_BASELINE, parameter=goal),),
        negative=(ExecutableCheck(rule=CheckRule.NO_REGRESSION),),
    )
    searched = Criterion(
        criterion_id="ac3",
        text=f"At least {attempts} candidates were measured, so the result is no first guess.",
        positive=(ExecutableCheck(rule=CheckRule.ATTEMPTS_MADE, parameter=str(attempts)),),
        negative=(ExecutableCheck(rule=CheckRule.WRONG_IS_REJECTED),),
    )
    return (
        TaskItem(task_id="t1", text="Write a kernel that is right everywhere.", criterion=right),
        TaskItem(task_id="t2", text=f"Make it faster than {goal}.", criterion=faster),
        TaskItem(task_id="t3", text="Search the recipes' parameters.", criterion=searched),
    )


def review_of(context: ReviewContext, search: Search) -> Review:
    """Judge the last round by what it measured, and by what the search has left."""
    return review_by_facts(context, is_spent=search.is_spent())


def review_by_facts(context: ReviewContext, *, is_spent: bool = False) -> Review:
    """Judge the last round by what it measured.

    A round that measured something new has advanced, faster or not: most candidates of a search
    lose. STALLED says that nothing could be measured, REGRESSED that a claim went backwards.
    """
    view = context.view
    latest = max((a.round for a in view.attempts), default=0)
    attempts = [a for a in view.attempts if a.round == latest]
    statuses = tuple(context.standing(t.criterion.criterion_id) for t in context.plan.tasks)
    is_met = all(status.status == "MET" for status in statuses)
    claims = [d for d in context.decisions if d.basis == "claim"]
    if any(d.overall.verdict is Verdict.SLOWER for d in claims):
        verdict = "REGRESSED"
    elif any(a.outcome in {"promoted", "measured"} for a in attempts):
        verdict = "ADVANCED"
    else:
        verdict = "STALLED"
    stalled = view.stalled_rounds
    if is_spent or (is_met and stalled >= _RESEARCH_AFTER):
        route = "autotune"
    elif stalled and stalled % _REPLAN_AFTER == 0:
        route = "replan"
    elif stalled and stalled % _RESEARCH_AFTER == 0:
        route = "research"
    else:
        route = "refine"
    return Review.model_validate(
        {
            "verdict": verdict,
            "criteria": statuses,
            "findings": _findings(context, attempts),
            "route": route,
            "advice": _advice(route, is_spent=is_spent, stalled=stalled),
        }
    )


def _findings(context: ReviewContext, attempts: list[PastAttempt]) -> tuple[Finding, ...]:
    found = [
        Finding(
            lane="queued",
            severity=4,
            text=f"{a.attempt_id} ({a.recipe}) was rejected: {a.reason}: {a.message}"[:500],
        )
        for a in attempts
        if a.outcome == "rejected"
    ]
    for decision in context.decisions:
        for name, comparison in decision.workloads.items():
            if comparison.verdict is Verdict.SLOWER:
                text = (
                    f"{name}: {comparison.speedup:.2f} times the speed of {decision.against} "
                    f"[{comparison.low:.2f}, {comparison.high:.2f}], record {decision.record_id}"
                )
                found.append(Finding(lane="mainline", severity=5, text=text))
    return tuple(found)


def _advice(route: str, *, is_spent: bool, stalled: int) -> str:
    if is_spent:
        return "every set of parameters of every recipe was tried; tune the dispatch and finish"
    return {
        "autotune": f"the plan is met and {stalled} rounds brought nothing; tune the dispatch",
        "replan": f"{stalled} rounds without a promotion; state again what is left to gain",
        "research": f"{stalled} rounds without a promotion; read the notes again for a new route",
        "refine": "go on with the profiler's edit and the search",
    }[route]
