"""What a run teaches: lessons out of its ledger, losses among them. Pure.

Only what was measured is a lesson. The time of a lesson is that of the run's beginning, so that a
run that ends twice, after a kill, teaches the same lines.
"""

from collections.abc import Iterable

from agents.contexts import PastAttempt
from agents.errors import NothingFits
from agents.lessons import Lesson, Scope
from agents.playbook.device_families import detect_on_device
from agents.playbook.families import detect
from gpu_runner.candidate import Language
from gpu_runner.records import Decision
from graph.ledger import Attempt, AttemptOutcome, RunManifest
from graph.view import past_attempts

BEHIND = 0.9
"""A recipe whose best attempt has less of the run's best speed is slow."""
_LONGEST = 240


def family_of(manifest: RunManifest) -> str:
    """Return the family that the run's problem belongs to; its name where none is known."""
    target = manifest.target
    recognise = detect if target.hardware.device == "cpu" else detect_on_device
    try:
        return recognise(target.problem).family
    except NothingFits:
        return target.problem.name


def scope_of(manifest: RunManifest, language: Language) -> Scope:
    """Return where the run learns."""
    return Scope(
        arch=manifest.target.hardware.arch or manifest.environment.arch,
        family=family_of(manifest),
        language=language,
        toolchain=manifest.environment.compiler,
    )


def lessons_of(
    manifest: RunManifest,
    attempts: tuple[Attempt, ...],
    best: str | None,
    final: tuple[Decision, ...] = (),
) -> tuple[Lesson, ...]:
    """Return what a run's ledger teaches.

    Args:
        manifest: problem, machine and time.
        attempts: every row.
        best: attempt id of the kernel it ended with.
        final: its claims made after it was selected: the choice flatters those before.
    """
    past = {p.attempt_id: p for p in past_attempts(attempts, manifest.target.baselines[0].name)}
    top = past[best].vs_baseline if best in past else None
    first = manifest.target.baselines[0].name
    last = tuple(claim for claim in final if claim.against == first)
    if best in past and last:
        top = last[0].overall.speedup
        past[best] = past[best].model_copy(update={"vs_baseline": top})
    found = [
        _fast(manifest, row, past[row.attempt_id], top, last if row.attempt_id == best else ())
        for row in attempts
        if _won(row)
    ]
    for rows in _by_recipe(attempts):
        lesson = _negative(manifest, rows, past, top)
        if lesson is not None:
            found.append(lesson)
    return tuple(found)


def _won(row: Attempt) -> bool:
    return row.outcome is AttemptOutcome.PROMOTED and not row.mends  # the mended one has the idea


def _by_recipe(attempts: Iterable[Attempt]) -> list[list[Attempt]]:
    """Return the rows of each recipe that a playbook tried; a model's ideas have none."""
    groups: dict[tuple[str, str], list[Attempt]] = {}
    for row in attempts:
        if row.recipe and row.outcome is not AttemptOutcome.UNSERVED:
            groups.setdefault((row.language, row.recipe), []).append(row)
    return list(groups.values())


def _fast(
    manifest: RunManifest,
    row: Attempt,
    past: PastAttempt,
    top: float | None,
    final: tuple[Decision, ...],
) -> Lesson:
    records = tuple(claim.record_id for claim in final or row.claims) or (row.attempt_id,)
    return _lesson(manifest, row, "fast", records, past.vs_baseline, top)


def _negative(
    manifest: RunManifest,
    rows: list[Attempt],
    past: dict[str, PastAttempt],
    top: float | None,
) -> Lesson | None:
    """Return what a recipe's losses teach; None where it won, or too little was measured."""
    if any(_won(row) for row in rows):
        return None
    timed = [row for row in rows if past[row.attempt_id].vs_baseline is not None]
    if not timed:
        last = rows[-1]
        return _lesson(manifest, last, "refused", (last.attempt_id,), None, None)
    ahead = max(timed, key=lambda row: past[row.attempt_id].vs_baseline or 0.0)
    speedup = past[ahead.attempt_id].vs_baseline
    if top is None or speedup is None or speedup >= BEHIND * top:
        return None
    record = ahead.feedback.record_id if ahead.feedback else ahead.attempt_id
    return _lesson(manifest, ahead, "slow", (record,), speedup, top)


def _lesson(
    manifest: RunManifest,
    row: Attempt,
    finding: str,
    evidence: tuple[str, ...],
    speedup: float | None,
    top: float | None,
) -> Lesson:
    reason = row.reason.value if row.reason else ""
    return Lesson.model_validate(
        {
            "scope": scope_of(manifest, Language(row.language)),
            "problem": manifest.target.problem.name,
            "recipe": row.recipe,
            "parameters": row.parameters,
            "idea": row.motivation[:_LONGEST],
            "finding": finding,
            "speedup": speedup,
            "of_best": speedup / top if speedup and top else None,
            "why": f"{reason}: {row.message}".strip(": ")[:_LONGEST] if reason else "",
            "evidence": tuple(f"{manifest.run_id}:{one}" for one in evidence),
            "learnt_at": manifest.created_at,
        }
    )
