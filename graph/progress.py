"""A run as its events tell it: what is going on, the best so far, what is left. Pure.

Whatever shows a run (console, `status`) folds events into a `Progress` and prints that.
"""

from dataclasses import dataclass, field

from agents.diagnosis.prediction import Score, tally
from graph.control import Control
from graph.events import (
    AnyEvent,
    AttemptDecided,
    BudgetRead,
    BudgetWarned,
    Controlled,
    DecisionTaken,
    Exited,
    IncumbentChanged,
    Interval,
    JobFinished,
    JobSubmitted,
    LessonsRecalled,
    PredictionScored,
    ProfileRead,
    Promoted,
    Reviewed,
    RunStarted,
    StageStarted,
)
from graph.ledger import AttemptOutcome

_TOLD = {
    "admission",
    "evidence",
    "plateau",
    "replan",
    "stop",
    "autotune",
    "final",
    "repair",
    "claim",
    "plan",
    "question",
    "pin",
    "lesson",
    "request",
    "inspect",
    "finalize",
}
"""Subjects of decisions that a user is told of."""


@dataclass
class Progress:
    """What the events so far amount to."""

    run_id: str = ""
    target: str = ""
    team: str = ""
    stage: str = ""
    round: int = 0
    rounds: int = 0
    wall_s: float | None = None
    elapsed_s: float = 0.0
    attempts: int = 0
    promoted: int = 0
    rejected: int = 0
    version: str = ""
    best: dict[str, Interval] = field(default_factory=dict)
    """Contender to the incumbent's claim, the first baseline first."""
    jobs: dict[str, str] = field(default_factory=dict)
    """Running jobs: id to `bench of a0003`."""
    scores: list[Score] = field(default_factory=list)
    """What became of the digests' predictions."""
    controls: list[Control] = field(default_factory=list)
    """What users said, oldest first."""
    rounds_left: int | None = None
    exit_reason: str = ""
    message: str = ""

    def add(self, event: AnyEvent) -> None:  # noqa: C901 - one case a kind of event
        """Fold one event."""
        self.elapsed_s = max(self.elapsed_s, event.elapsed_s)
        match event:
            case RunStarted():
                self.run_id, self.target, self.team = event.run_id, event.target, event.team
                self.rounds, self.wall_s = event.rounds, event.wall_s
                self.exit_reason = self.message = ""
                self.jobs.clear()
            case StageStarted():
                self.stage, self.round = event.stage, event.round
            case JobSubmitted():
                whose = f" of {event.attempt_id}" if event.attempt_id else ""
                self.jobs[event.job_id] = f"{event.job}{whose}"
            case JobFinished():
                self.jobs.pop(event.job_id, None)
            case AttemptDecided():
                self.attempts += 1
                self.rejected += event.outcome is AttemptOutcome.REJECTED
            case Promoted():
                self.promoted += 1
                self.version = event.version
                self.best = {k: v for k, v in event.intervals.items() if k != "incumbent"}
            case IncumbentChanged():
                self.version = event.version
                self.best = {k: v for k, v in event.intervals.items() if k != "incumbent"}
            case Controlled():
                self.controls.append(event.control)
            case PredictionScored():
                self.scores.append(event.score)
            case BudgetRead():
                self.rounds_left = event.rounds_left
            case Exited():
                self.exit_reason, self.message = event.exit_reason.value, event.message
                self.stage = ""
            case _:
                pass

    def best_words(self) -> str:
        """Return the incumbent's speed-up over the first baseline, with its interval."""
        for against, interval in self.best.items():
            return f"best {self.version} {interval_words(interval)} vs {against}"
        if self.version:
            return f"best {self.version}, pinned and not claimed"
        return "nothing promoted yet"

    def control_words(self, waiting: tuple[Control, ...] = ()) -> str:
        """Return what users said; `waiting` was not picked up yet."""
        said = [one.words() for one in self.controls]
        return "; ".join((*said, *(f"{one.words()} (waiting)" for one in waiting)))

    def prediction_words(self) -> str:
        """Return how many predictions came true, and of which rules."""
        counts = [
            f"{row.rule}: {row.hits} hit, {row.misses} miss, {row.opposites} opposite"
            for row in tally(self.scores)
            if row.scored
        ]
        return "; ".join(counts)

    def left_words(self, elapsed_s: float | None = None) -> str:
        """Return what is left of the budget."""
        words = []
        if self.wall_s is not None:
            now = self.elapsed_s if elapsed_s is None else elapsed_s
            words.append(clock(max(0.0, self.wall_s - now)))
        if self.rounds:
            words.append(f"{max(0, self.rounds - self.round)} rounds")
        return f"{' and '.join(words)} left" if words else ""


def describe(event: AnyEvent) -> str | None:  # noqa: C901, PLR0911, PLR0912 - a case each
    """Return the line a user reads of an event; None: it is not worth one."""
    match event:
        case RunStarted():
            limit = f"{clock(event.wall_s)}, " if event.wall_s else ""
            again = "resumed" if event.is_resumed else "started"
            where = f" on {event.device}" if event.device else ""
            return (
                f"run {event.run_id} {again}: target {event.target}{where}, "
                f"team {event.team}, "
                f"budget {limit}{event.rounds} rounds of {event.lanes}"
            )
        case AttemptDecided():
            return _attempt_words(event)
        case Promoted():
            claims = ", ".join(
                f"{interval_words(interval)} vs {name}"
                for name, interval in event.intervals.items()
            )
            return f"{event.version} ({event.attempt_id}) PROMOTED: {claims}"
        case LessonsRecalled():
            return f"{len(event.lessons)} lessons of earlier runs: {event.words}"
        case Controlled():
            return f"{event.control.words()} ({event.effect})"
        case IncumbentChanged():
            now = f"{event.version} ({event.attempt_id})" if event.attempt_id else "the baseline"
            return f"{now} is the incumbent now: {event.because}"
        case PredictionScored():
            return _score_words(event)
        case ProfileRead():
            return f"{event.attempt_id} profiled: {event.bottleneck}; next: {event.next_edit}"
        case Reviewed():
            blocked = f"; blocked: {'; '.join(event.blocking)}" if event.blocking else ""
            verdict = event.verdict or "no review"
            met = f"{event.met} of {event.criteria} criteria met"
            return f"round {event.round} reviewed: {verdict}, {met}, next {event.route}{blocked}"
        case BudgetWarned():
            return f"budget: {event.used:g} of {event.limit:g} {event.budget} are used"
        case DecisionTaken() if event.subject in _TOLD:
            return f"{event.subject}: {event.choice} ({event.reason})"
        case Exited():
            return f"ended: {event.exit_reason.value}: {event.message}"
        case _:
            return None


def _score_words(event: PredictionScored) -> str:
    score = event.score
    head = f"prediction of {score.rule} about {event.attempt_id}: {score.outcome.upper()}"
    if score.before is None or score.after is None:
        return f"{head} ({score.metric} was not measured)"
    moved = f"{score.metric} {score.before:.4g} -> {score.after:.4g}"
    return f"{head} ({moved}, foretold {score.expected_factor:.2f} times)"


def _attempt_words(event: AttemptDecided) -> str:
    head = f"{event.attempt_id} {event.label}: {event.verdict.value}"
    if event.interval is not None:
        return f"{head} {interval_words(event.interval)} vs {event.against}"
    if event.outcome is AttemptOutcome.UNSERVED:
        return f"{event.attempt_id} {event.label}: not measured ({event.message})"
    reason = event.reason.value if event.reason else ""
    return f"{head} {reason}: {event.message}"


def interval_words(interval: Interval) -> str:
    """Return `1.84x [1.79, 1.90]`."""
    return f"{interval.speedup:.2f}x [{interval.low:.2f}, {interval.high:.2f}]"


def clock(seconds: float) -> str:
    """Return `4:07`, or `2:04:07` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
