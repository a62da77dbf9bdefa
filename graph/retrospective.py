"""What a run's effort bought: gain by idea, where the time went, what to change next time. Pure.

Arithmetic over ledger and log. The advice comes from a short table of rules, each with the numbers
that it rests on; where none applies there is none.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agents.diagnosis.prediction import tally
from gpu_runner.message import Message
from graph.events import (
    AnyEvent,
    DecisionTaken,
    JobFinished,
    PredictionScored,
    Replied,
    StageEnded,
)
from graph.ledger import INCUMBENT, Attempt, AttemptOutcome, RunResult
from graph.target import Target

_LATE = 0.5
_REFUSED = 0.3
_WAITING = 0.5
_WRONG = 0.6
_LEAST = 4
"""Fewer cases are no rate."""


class Idea(Message):
    """One family of ideas: a recipe, or what models wrote in one language."""

    name: str
    attempts: int
    promoted: int
    refused: int
    gain: float
    """Product of its promotions' speed-ups, each over the incumbent of its time; 1 is none."""
    rounds: int
    """Rounds that it took part in."""
    job_s: float
    usd: float
    """Of its drafts."""

    @property
    def gain_per_round(self) -> float:
        """Return the log speed-up for each round that it took part in, as a factor."""
        return math.exp(math.log(self.gain) / self.rounds) if self.rounds else 1.0

    @property
    def gain_per_usd(self) -> float | None:
        """Return the log speed-up for each dollar of its drafts, as a factor; None: it cost none.

        What a dollar would bring at that pace, which may be far beyond what can be had.
        """
        if self.usd <= 0:
            return None
        return math.exp(min(_MOST_LOG, math.log(self.gain) / self.usd))


_MOST_LOG = 50.0


class Retrospective(Message):
    """All of it."""

    rounds: int
    best_round: int
    """In which the best attempt was written; 0: there is none."""
    ideas: tuple[Idea, ...]
    """The largest gain first."""
    stage_s: dict[str, float]
    """The longest first."""
    role_s: dict[str, float]
    job_s: dict[str, float]
    wall_s: float
    usd: float
    shared_usd: float
    """Of plans, research, digests and reviews, which serve every idea."""
    advice: tuple[str, ...]


def retrospective(
    target: Target,
    attempts: tuple[Attempt, ...],
    events: Iterable[AnyEvent],
    result: RunResult | None,
) -> Retrospective:
    """Return what a run's effort bought.

    Args:
        target: whose budget the advice speaks of.
        attempts: every row of the ledger.
        events: the whole log.
        result: how it ended; None while it has not.
    """
    log = _Log()
    for event in events:
        log.add(event)
    best = result.best_attempt if result else None
    best_round = next((a.round for a in attempts if a.attempt_id == best), 0)
    rounds = max((attempt.round for attempt in attempts), default=0)
    ideas = tuple(sorted(_ideas(attempts, log), key=lambda idea: (-idea.gain, idea.name)))
    drafts_usd = sum(log.draft_usd.values())
    return Retrospective(
        rounds=rounds,
        best_round=best_round,
        ideas=ideas,
        stage_s=_longest_first(log.stage_s),
        role_s=_longest_first(log.role_s),
        job_s=_longest_first(log.job_s),
        wall_s=round(log.wall_s, 3),
        usd=round(log.usd, 6),
        shared_usd=round(max(0.0, log.usd - drafts_usd), 6),
        advice=tuple(_advice(target, attempts, log, rounds, best_round)),
    )


def _zeros() -> defaultdict[str, float]:
    return defaultdict(float)


def _zeros_by_place() -> defaultdict[tuple[int, int], float]:
    return defaultdict(float)


@dataclass
class _Log:
    """What the events add up to."""

    stage_s: defaultdict[str, float] = field(default_factory=_zeros)
    role_s: defaultdict[str, float] = field(default_factory=_zeros)
    job_s: defaultdict[str, float] = field(default_factory=_zeros)
    draft_usd: defaultdict[tuple[int, int], float] = field(default_factory=_zeros_by_place)
    """By round and lane."""
    usd: float = 0.0
    wall_s: float = 0.0
    unserved: int = 0
    jobs: int = 0
    repairs: int = 0
    scored: list[PredictionScored] = field(default_factory=list)

    def add(self, event: AnyEvent) -> None:
        self.wall_s = max(self.wall_s, event.elapsed_s)
        match event:
            case StageEnded():
                self.stage_s[event.stage] += event.seconds
            case Replied():
                self.role_s[event.role] += event.seconds
                self.usd += event.usd
                if event.role == "draft":
                    self.draft_usd[_place(event)] += event.usd
            case JobFinished():
                self.job_s[event.job] += event.seconds
                self.jobs += 1
                self.unserved += event.outcome == "unserved"
            case PredictionScored():
                self.scored.append(event)
            case DecisionTaken():
                self.repairs += event.subject == "repair"
            case _:
                pass


def _place(event: Replied) -> tuple[int, int]:
    """Return round and lane of a draft: its key is `r003-l1-t0`, also where the reply failed."""
    key = event.key.split(":")[2]
    number, lane, _ = key.split("-")
    return int(number[1:]), int(lane[1:])


def _longest_first(seconds: Mapping[str, float]) -> dict[str, float]:
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return {name: round(value, 3) for name, value in ordered}


def _ideas(attempts: tuple[Attempt, ...], log: _Log) -> Iterator[Idea]:
    groups: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        name = "/".join(word for word in (attempt.family, attempt.recipe) if word)
        groups.setdefault(name or f"written in {attempt.language}", []).append(attempt)
    for name, rows in groups.items():
        places = {(row.round, row.lane) for row in rows}
        yield Idea(
            name=name,
            attempts=len(rows),
            promoted=sum(row.outcome is AttemptOutcome.PROMOTED for row in rows),
            refused=sum(row.outcome is AttemptOutcome.REJECTED for row in rows),
            gain=math.prod(_gain(row) for row in rows),
            rounds=len({row.round for row in rows}),
            job_s=round(sum(sum(row.seconds.values()) for row in rows), 3),
            usd=round(sum(log.draft_usd[place] for place in places), 6),
        )


def _gain(row: Attempt) -> float:
    """Return what a promotion gained over the incumbent, or as the first over its baseline."""
    if row.outcome is not AttemptOutcome.PROMOTED or not row.claims:
        return 1.0
    over = next((claim for claim in row.claims if claim.against == INCUMBENT), row.claims[0])
    return over.overall.speedup


def _advice(
    target: Target, attempts: tuple[Attempt, ...], log: _Log, rounds: int, best_round: int
) -> Iterator[str]:
    after = rounds - best_round
    if best_round and rounds >= _LEAST and after / rounds > _LATE:
        yield (
            f"{after} of {rounds} rounds came after the best kernel was written: lower "
            f"plateau_attempts ({target.budget.plateau_attempts}) or widen what is tried"
        )
    reasons = Counter(row.reason.value for row in attempts if row.reason)
    refused = sum(reasons.values())
    if len(attempts) >= _LEAST and refused / len(attempts) > _REFUSED:
        reason, count = reasons.most_common(1)[0]
        yield (
            f"{refused} of {len(attempts)} attempts were refused, {count} of them for {reason}: "
            "say in a hint or a constraint what makes them so, or veto the recipe"
        )
    asked_s = sum(log.role_s.values())
    if log.wall_s and asked_s / log.wall_s > _WAITING and target.scope.lanes < _MOST_LANES:
        yield (
            f"{asked_s:.0f} s of {log.wall_s:.0f} s were spent waiting for answers: more lanes "
            f"a round (now {target.scope.lanes}) use the runner meanwhile"
        )
    if log.jobs >= _LEAST and log.unserved / log.jobs > _REFUSED / 3:
        yield f"{log.unserved} of {log.jobs} jobs were not served: look at the runner's log first"
    if log.repairs > len(attempts) // 2 and log.repairs >= _LEAST:
        yield f"{log.repairs} drafts were sent back before they cost a job: another writer model"
    for row in tally(event.score for event in log.scored):
        wrong = row.misses + row.opposites
        if row.scored >= _LEAST and wrong / row.scored > _WRONG:
            yield f"predictions of {row.rule} failed {wrong} times in {row.scored}: mistrust it"


_MOST_LANES = 8


def markdown(found: Retrospective) -> str:
    """Return it as Markdown."""
    usd = found.usd > 0
    heads = ["idea", "attempts", "promoted", "refused", "gain", "a round", "job s"]
    rows = [
        [
            _cell(idea.name),
            str(idea.attempts),
            str(idea.promoted),
            str(idea.refused),
            f"{idea.gain:.3f}x",
            f"{idea.gain_per_round:.3f}x",
            f"{idea.job_s:.1f}",
            *([f"{idea.usd:.4f}", _rate(idea.gain_per_usd)] if usd else []),
        ]
        for idea in found.ideas
    ]
    spent = f", ${found.usd:.4f} (${found.shared_usd:.4f} for all ideas together)" if usd else ""
    best = f"the best kernel in round {found.best_round}" if found.best_round else "no kernel won"
    parts = [
        "# Retrospective",
        f"{found.rounds} rounds, {best}, {found.wall_s:.0f} s of wall clock{spent}.",
        "Generated from the ledger and the log.",
        "## What each idea gained",
        _table([*heads, *(["USD", "a dollar"] if usd else [])], rows),
        "## Where the time went",
        _table(["stage", "s"], [[k, f"{v:.1f}"] for k, v in found.stage_s.items()]),
        _table(["job", "s"], [[k, f"{v:.1f}"] for k, v in found.job_s.items()]),
        _table(["answer", "s"], [[k, f"{v:.1f}"] for k, v in found.role_s.items()]),
        "## What to change",
        "\n".join(f"- {text}" for text in found.advice) or "Nothing that the numbers would show.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rate(factor: float | None) -> str:
    return f"{factor:.3f}x" if factor is not None else "-"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
