"""What the last digest foretold, who made its edit, and what became of it."""

from dataclasses import dataclass

from agents.diagnosis.prediction import Score, score
from agents.replies import Digest, Draft, Edit
from gpu_runner.facts import Facts
from graph.events import PredictionScored, ProfileRead
from graph.routing import current
from graph.rows import draft_of
from graph.services import Services
from graph.state import Lane, RunState

_TIMES = frozenset({"speedup", "time_us"})
"""Metrics that a bench measures too."""


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """A digest's prediction that this round can tell about."""

    key: str
    """Of the digest."""
    digest: Digest
    profiled: str
    """The attempt it was made from."""
    before: Facts
    lanes: tuple[Lane, ...]
    """Those of the round that made its edit and have a time."""
    is_scored: bool
    """Whether a prediction of this rule was scored before."""

    @property
    def rule(self) -> str:
        """Under whose name the prediction is kept."""
        return self.digest.rule or self.digest.bottleneck

    @property
    def followers(self) -> frozenset[str]:
        """The attempts that made the edit."""
        return frozenset(lane.attempt_id for lane in self.lanes)


def prediction_at_hand(services: Services, state: RunState) -> Foretold | None:
    """Return the last digest's prediction where a measured lane of the round made its edit."""
    key = state["digest"]
    digest = services.files.reply(Digest, key) if key else None
    if digest is None or services.files.events.find(_event_key(key)) is not None:
        return None
    events = list(services.files.events.read())
    read = [e for e in events if isinstance(e, ProfileRead) and e.digest == key]
    before = services.files.facts(read[-1].attempt_id) if read else None
    measured = [lane for lane in current(state) if lane.status == "measured"]
    lanes = tuple(lane for lane in measured if makes(digest.next_edit, draft_of(services, lane)))
    if before is None or not lanes:
        return None
    rule = digest.rule or digest.bottleneck
    scored = (e.score for e in events if isinstance(e, PredictionScored))
    return Foretold(
        key=key,
        digest=digest,
        profiled=read[-1].attempt_id,
        before=before,
        lanes=lanes,
        is_scored=any(s.rule == rule and s.outcome != "unmeasured" for s in scored),
    )


def makes(edit: Edit, draft: Draft) -> bool:
    """Whether a draft is what an edit asked for.

    A recipe's edit is known by its parameters. Of a text that a model wrote nobody can tell from
    outside; the first lane works on the edit, so its draft counts where it says what it expects.
    """
    if edit.recipe:
        return draft.recipe == edit.recipe and draft.parameters == edit.parameters
    return draft.expected == edit.expected


def score_prediction(
    services: Services, foretold: Foretold, profiled: Lane | None, after: Facts | None
) -> None:
    """Log what became of a prediction, once.

    Args:
        services: of the run.
        foretold: the prediction.
        profiled: the lane that was profiled this round, if any.
        after: what that found.
    """
    lane = foretold.lanes[0]
    expected = foretold.digest.next_edit.expected
    speedup = _speedup(services, foretold.profiled, lane)
    if expected.metric in _TIMES and speedup is not None:
        result = _by_bench(foretold, speedup)  # in pairs; a profile's time is of a few calls
    elif profiled is not None and after is not None and profiled.attempt_id in foretold.followers:
        lane = profiled
        result = score(expected, foretold.before, after, rule=foretold.rule, speedup=speedup)
    else:
        return  # a later round may profile an attempt that made the edit
    services.tell(
        PredictionScored(
            key=_event_key(foretold.key),
            digest=foretold.key,
            attempt_id=lane.attempt_id,
            score=result,
        )
    )


def _speedup(services: Services, profiled: str, lane: Lane) -> float | None:
    """Return how much faster a lane is than the profiled attempt, where one rival tells of both."""
    if not lane.speedup:
        return None
    if lane.parent == profiled:
        return lane.speedup
    before = next((a for a in services.files.attempts() if a.attempt_id == profiled), None)
    rival = lane.parent or services.target.baselines[0].name
    if before is None or before.feedback is None or before.feedback.against != rival:
        return None
    return lane.speedup / before.feedback.overall.speedup


def _by_bench(foretold: Foretold, speedup: float) -> Score:
    """Score a time that the round's feedback sitting measured, relative to the profiled attempt."""
    expected = foretold.digest.next_edit.expected
    factor = speedup if expected.metric == "speedup" else 1 / speedup
    known = expected.model_copy(update={"metric": "speedup"})
    result = score(known, foretold.before, foretold.before, rule=foretold.rule, speedup=factor)
    return result.model_copy(update={"metric": expected.metric})


def _event_key(digest_key: str) -> str:
    return f"scored:{digest_key}"
