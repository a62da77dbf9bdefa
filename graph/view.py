"""What the roles are shown of a run: the public part of the target, and the attempts so far.

Pure. Hidden workloads never get here; a mismatch in one arrives by category only, from the runner.
"""

import difflib
from collections.abc import Iterable

from agents.contexts import PastAttempt, RunView
from agents.lessons import Lesson
from gpu_runner.candidate import Candidate, Language
from gpu_runner.message import Message
from gpu_runner.records import Environment
from graph.devices import is_gpu
from graph.ledger import Attempt, RunManifest
from graph.state import RunState


class Told(Message):
    """What the roles are told beside what this run measured."""

    hints: tuple[str, ...] = ()
    vetoed: tuple[str, ...] = ()
    lessons: tuple[Lesson, ...] = ()


_NOTHING = Told()


def make_view(
    manifest: RunManifest,
    attempts: tuple[Attempt, ...],
    state: RunState,
    told: Told = _NOTHING,
) -> RunView:
    """Return the view that every role's context carries."""
    target = manifest.target
    return RunView(
        run_id=manifest.run_id,
        seed=manifest.seed,
        problem=target.problem,
        workloads=target.public,
        tier="cpu" if target.hardware.device == "cpu" else "gpu",
        arch=target.hardware.arch or manifest.environment.arch,
        isa=manifest.environment.isa,
        threads=target.hardware.threads,
        languages=usable_languages(target.scope.languages, manifest.environment),
        goal_speedup=target.goal.speedup,
        goal_against=target.goal.against,
        round=state["round"],
        attempts=past_attempts(attempts, target.baselines[0].name),
        incumbent=state["incumbent"] or None,
        stalled_rounds=state["idle_rounds"],
        hints=told.hints,
        vetoed=told.vetoed,
        lessons=told.lessons,
    )


def usable_languages(
    wanted: tuple[Language, ...], environment: Environment
) -> tuple[Language, ...]:
    """Return the languages in scope that the runner has a toolchain for, in order of preference.

    A worker of a GPU names the compilers it has beside its driver's; CUDA C++ it can always build.
    """
    tools = environment.compiler
    needs = {Language.CPP: bool(tools)}
    if is_gpu(environment):
        needs[Language.TRITON] = "triton" in tools
    return tuple(language for language in wanted if needs.get(language, True))


def past_attempts(attempts: Iterable[Attempt], first_baseline: str) -> tuple[PastAttempt, ...]:
    """Return the ledger as roles see it, each with its estimated speed-up over the baseline."""
    estimates: dict[str, float] = {}
    past = []
    for attempt in attempts:
        estimate = _over_baseline(attempt, estimates, first_baseline)
        if estimate is not None:
            estimates[attempt.attempt_id] = estimate
        past.append(past_attempt(attempt, estimate))
    return tuple(past)


def past_attempt(attempt: Attempt, vs_baseline: float | None = None) -> PastAttempt:
    """Return one row of the ledger as roles see it."""
    return PastAttempt(
        attempt_id=attempt.attempt_id,
        parent=attempt.parent,
        round=attempt.round,
        lane=attempt.lane,
        family=attempt.family,
        recipe=attempt.recipe,
        parameters=attempt.parameters,
        candidate_digest=attempt.candidate_digest,
        motivation=attempt.motivation,
        expected=attempt.expected,
        outcome=attempt.outcome.value,
        reason=attempt.reason,
        message=attempt.message,
        feedback=attempt.feedback,
        vs_baseline=vs_baseline,
    )


def _over_baseline(
    attempt: Attempt, estimates: dict[str, float], first_baseline: str
) -> float | None:
    """Estimate the speed-up over the first baseline, where need be through the parent's."""
    for decision in (*attempt.claims, attempt.feedback):
        if decision is not None and decision.against == first_baseline:
            return decision.overall.speedup
    parent = estimates.get(attempt.parent or "")
    if attempt.feedback is None or parent is None:
        return None
    return attempt.feedback.overall.speedup * parent


def difference(old: Candidate | None, new: Candidate, context: int = 3) -> str:
    """Return the unified diff from one candidate's sources to another's."""
    before = {source.path: source.text for source in old.sources} if old else {}
    after = {source.path: source.text for source in new.sources}
    lines: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        lines += difflib.unified_diff(
            before.get(path, "").splitlines(),
            after.get(path, "").splitlines(),
            f"parent/{path}",
            f"candidate/{path}",
            n=context,
            lineterm="",
        )
    if old is not None and old.plans != new.plans:
        lines.append("launch plans differ")
    return "\n".join(lines)
