"""What earlier runs learnt, and which of it bears on a new one. Pure.

A lesson is a proposal: it may name what to try first and what to try last, and nothing is promoted
or ruled out by it. What it says was measured, on the scope that it names.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from gpu_runner.candidate import Language
from gpu_runner.message import Message, canonical_json

MOST_RECALLED = 12
_MOST_EVIDENCE = 8
_HALF_LIFE_DAYS = 90.0
_LEAST_WEIGHT = 0.05
_OTHER_TOOLCHAIN = 0.7
_SAME_GENERATION = 0.9
"""`sm_90` and `sm_90a`."""
_OTHER_ARCH = 0.3
_GENERATION = len("sm_90")
_DAY_S = 86400.0


class Scope(Message):
    """Where something was learnt."""

    arch: str
    family: str
    language: Language
    toolchain: str = ""


class Lesson(Message):
    """One thing that was measured."""

    scope: Scope
    problem: str
    recipe: str = ""
    """Empty where a model wrote the kernel; then the idea tells it apart."""
    parameters: dict[str, int | float | str | bool] = Field(default_factory=dict)
    idea: str = ""
    finding: Literal["fast", "slow", "refused"]
    """`fast`: it was promoted; `slow`: the best of its recipe, and far behind the run's best."""
    speedup: float | None = None
    """Over the run's first baseline; None where nothing was timed."""
    of_best: float | None = None
    """Its speed for one of the run's best kernel."""
    why: str = ""
    """Of a refusal: the reason."""
    evidence: tuple[str, ...] = Field(min_length=1)
    """`run:record` or `run:attempt`, the latest last."""
    learnt_at: str
    """UTC, ISO 8601."""
    times: int = Field(default=1, ge=1)
    """How often runs found so."""

    @property
    def lesson_id(self) -> str:
        """Name what was tried where, whatever was found: the same in every run."""
        what: dict[str, JsonValue] = {
            "scope": self.scope.model_dump(mode="json"),
            "recipe": self.recipe,
            "parameters": dict(self.parameters),
            "idea": "" if self.recipe else self.idea,
        }
        return "l" + hashlib.sha256(canonical_json(what)).hexdigest()[:10]

    def words(self) -> str:
        """Return it in a sentence, for prompts and reports."""
        named = ", ".join(f"{key}={value}" for key, value in sorted(self.parameters.items()))
        what = f"{self.recipe}({named})" if self.recipe else self.idea
        found = {
            "fast": f"was promoted at {self.speedup or 0:.2f} times the baseline",
            "slow": f"was the best of its kind, and {self.of_best or 0:.2f} of the run's best",
            "refused": f"was refused: {self.why}",
        }[self.finding]
        where = f"{self.scope.family}, {self.scope.language.value}, {self.scope.arch}"
        return f"{what} {found} ({where}; {self.problem})"


class Recalled(NamedTuple):
    """A lesson with what it weighs here and now."""

    weight: float
    lesson: Lesson


def merged(lessons: Iterable[Lesson]) -> tuple[Lesson, ...]:
    """Return each lesson once, in the order of its first telling.

    Told again it counts once more and keeps the evidence of both; where a later run found
    otherwise, the later one holds and counts from one.

    Args:
        lessons: in the order they were learnt.
    """
    known: dict[str, Lesson] = {}
    for lesson in lessons:
        before = known.get(lesson.lesson_id)
        if before is None:
            known[lesson.lesson_id] = lesson
            continue
        agrees = before.finding == lesson.finding
        evidence = tuple(dict.fromkeys((*before.evidence, *lesson.evidence)))
        known[lesson.lesson_id] = lesson.model_copy(
            update={
                "times": before.times + lesson.times if agrees else lesson.times,
                "evidence": evidence[-_MOST_EVIDENCE:] if agrees else lesson.evidence,
            }
        )
    return tuple(known.values())


def recalled(
    lessons: Iterable[Lesson], here: Scope, languages: Iterable[Language], now: str
) -> tuple[Lesson, ...]:
    """Return the lessons that bear on a run, those that weigh most first.

    Args:
        lessons: each once.
        here: arch, family and toolchain of the run.
        languages: that the run may use; the language of `here` does not matter.
        now: UTC, ISO 8601.
    """
    spoken = set(languages)
    found = [
        Recalled(weight(lesson, here, now), lesson)
        for lesson in lessons
        if lesson.scope.family == here.family and lesson.scope.language in spoken
    ]
    kept = [one for one in found if one.weight >= _LEAST_WEIGHT]
    kept.sort(key=lambda one: (-one.weight, -(one.lesson.speedup or 0.0), one.lesson.lesson_id))
    return tuple(one.lesson for one in kept[:MOST_RECALLED])


def weight(lesson: Lesson, here: Scope, now: str) -> float:
    """Return how much a lesson says here and now, 0 to 1: by age, machine and toolchain."""
    age_s = _time(now) - _time(lesson.learnt_at)
    share: float = 0.5 ** (max(0.0, age_s) / _DAY_S / _HALF_LIFE_DAYS)
    if lesson.scope.arch != here.arch:
        is_near = lesson.scope.arch[:_GENERATION] == here.arch[:_GENERATION]
        share *= _SAME_GENERATION if is_near and here.arch.startswith("sm_") else _OTHER_ARCH
    if lesson.scope.toolchain != here.toolchain:
        share *= _OTHER_TOOLCHAIN
    return share


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
