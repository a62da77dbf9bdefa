"""What a reviewed round leads to: promotion, counters, the next route, or the end of the run.

Pure. A model's review can block a promotion and ask for a route; everything else is arithmetic.
"""

from typing import Literal

from agents.replies import Review
from gpu_runner.message import Message
from gpu_runner.records import Decision, Verdict
from graph.ledger import INCUMBENT, ExitReason
from graph.state import RunState, Update
from graph.target import Budget, Goal

Route = Literal["write", "research", "plan", "stop"]


class RoundFacts(Message):
    """What the round came to."""

    promoted: bool
    attempts: int
    """Rows of the ledger that this round added and that were the candidates' own doing."""
    exhausted: str = ""
    """What the lanes said, where none had anything left to propose."""
    has_drafts: bool
    has_ledger: bool = True
    """The run tried something, in this round or before."""
    is_complete: bool
    """Every criterion of the plan is met."""
    is_complete_at_plateau: bool
    """It would be, once the decision to stop at a plateau is recorded."""
    goal_met: bool
    verdict: str = ""
    """Of the review; empty where there was none."""
    measured: int | None = None
    """Candidates of the round that have a time; None: not known."""
    fastest: float = 0.0
    """The largest speed-up of the round's feedback; 0: none."""
    wish: str = ""
    """The route the review asks for."""
    budget: ExitReason | None = None
    """Why no further round may begin."""
    hopeless: str = ""
    """Why the attempts promise too little, before there are enough of them for a plateau."""
    overpriced: str = ""
    """Why the next round is not worth its price."""


class Taken(Message):
    """A decision to log."""

    subject: str
    choice: str
    reason: str


class Ruling(Message):
    """Counters and route after the round, and what was decided on the way."""

    route: Route
    exit_reason: ExitReason | None = None
    exit_message: str = ""
    idle_attempts: int
    idle_rounds: int
    pivots: int
    stalled: int
    claim_tries: int
    why_again: str = ""
    decisions: tuple[Taken, ...] = ()


def is_promotable(claims: tuple[Decision, ...], rival: str) -> bool:
    """Whether a claim says FASTER than the rival: the incumbent, or the first baseline."""
    return any(
        claim.against == rival
        and claim.basis == "claim"
        and claim.overall.verdict is Verdict.FASTER
        for claim in claims
    )


def unfit_to_replace(claims: tuple[Decision, ...], first: str) -> str:
    """Return why a mended kernel may not take the incumbent's place; empty where it may.

    It need not be faster. It must be beyond doubt no slower than the margin on the whole, slower
    beyond doubt on no workload, and faster than the first baseline as the incumbent is.
    """
    by_name = {claim.against: claim for claim in claims if claim.basis == "claim"}
    rival, baseline = by_name.get(INCUMBENT), by_name.get(first)
    if rival is None or baseline is None:
        return "it was not claimed against the kernel it mends and the first baseline"
    if rival.overall.low < 1 - rival.margin:
        return f"it may be slower: {rival.overall.speedup:.3f}x, at least {rival.overall.low:.3f}x"
    slower = [name for name, c in rival.workloads.items() if c.verdict is Verdict.SLOWER]
    if rival.overall.verdict is Verdict.SLOWER or slower:
        return f"it is slower on {', '.join(slower) or 'the whole'}"
    if baseline.overall.verdict is not Verdict.FASTER:
        return f"its claim does not say FASTER than {first}"
    return ""


def blocking(review: Review | None) -> tuple[str, ...]:
    """Return the texts of the findings that stop a promotion."""
    return tuple(f.text for f in review.findings if f.lane == "blocking") if review else ()


def rule(state: RunState, facts: RoundFacts, limits: Budget, goal: Goal) -> Ruling:
    """Return what follows from a round; the first rule that applies decides."""
    counted = _count(state, facts)
    ended = _end(facts, counted, limits, goal)
    if ended is not None:
        return ended
    if counted.stalled == limits.stalled_reviews - 1:
        reason = f"{counted.stalled} rounds in a row made no headway"
        return _go(counted, "plan", Taken(subject="replan", choice="plan", reason=reason))
    plateau = _plateau(counted, facts, limits)
    if plateau:
        pivot = Taken(subject="plateau", choice="pivot", reason=plateau)
        changed = counted.model_copy(update={"idle_attempts": 0, "pivots": 1})
        return _go(changed, "research", pivot)
    return _granted(counted, facts.wish)


def _granted(counted: Ruling, wish: str) -> Ruling:
    """Follow the route that the review asks for, but never out of the loop."""
    routes: dict[str, Route] = {"replan": "plan", "research": "research"}
    if wish in routes:
        taken = Taken(subject="route", choice=routes[wish], reason="the review asks for it")
        return _go(counted, routes[wish], taken)
    if wish == "autotune":
        reason = "the review asks to finish, but not every criterion is met"
        refused = Taken(subject="route", choice="write", reason=reason)
        return counted.model_copy(update={"decisions": (*counted.decisions, refused)})
    return counted


def _count(state: RunState, facts: RoundFacts) -> Ruling:
    if facts.promoted:
        taken: tuple[Taken, ...] = ()
        if facts.verdict in {"STALLED", "REGRESSED"}:
            reason = f"the review says {facts.verdict}, the measurements say FASTER"
            taken = (Taken(subject="review", choice="overruled", reason=reason),)
        return Ruling(
            route="write",
            idle_attempts=0,
            idle_rounds=0,
            pivots=0,
            stalled=0,
            claim_tries=0,
            decisions=taken,
        )
    is_stalled = facts.verdict == "STALLED" or not facts.has_drafts
    return Ruling(
        route="write",
        idle_attempts=state["idle_attempts"] + facts.attempts,
        idle_rounds=state["idle_rounds"] + 1,
        pivots=state["pivots"],
        stalled=state["stalled"] + 1 if is_stalled else 0,
        claim_tries=state["claim_tries"],
        decisions=_flags(facts),
    )


def _flags(facts: RoundFacts) -> tuple[Taken, ...]:
    """Return where the review's verdict contradicts what the round measured; it changes nothing."""
    if facts.measured is None:
        return ()
    said = f"the review says {facts.verdict}"
    told = {
        "ADVANCED": "nothing was measured" if not facts.measured else "",
        "STALLED": f"{facts.measured} candidates were measured" if facts.measured else "",
        "REGRESSED": f"feedback says {facts.fastest:.2f}x" if facts.fastest >= 1 else "",
    }.get(facts.verdict, "")
    if not told:
        return ()
    return (Taken(subject="review", choice="flagged", reason=f"{said}, yet {told}"),)


def _end(facts: RoundFacts, counted: Ruling, limits: Budget, goal: Goal) -> Ruling | None:
    complete = _completion(facts, goal)
    if facts.is_complete and complete is not None:
        return _stop(counted, complete, "every criterion of the plan is met")
    if facts.exhausted:
        reason = ExitReason.PLATEAU if facts.has_ledger else ExitReason.INFEASIBLE
        return _stop_at_plateau(counted, facts, goal, reason, facts.exhausted)
    if facts.budget is not None:
        return _stop(counted, facts.budget, _BUDGET_WORDS[facts.budget])
    if counted.stalled >= limits.stalled_reviews:
        return _stop(
            counted, ExitReason.STALLED, f"{counted.stalled} rounds in a row made no headway"
        )
    plateau = _plateau(counted, facts, limits)
    message = f"{plateau} after the pivot" if plateau and counted.pivots else facts.overpriced
    if message:
        return _stop_at_plateau(counted, facts, goal, ExitReason.PLATEAU, message)
    return None


def _plateau(counted: Ruling, facts: RoundFacts, limits: Budget) -> str:
    """Return why a plateau is reached: by the number of attempts, or by what they promise."""
    made = f"{counted.idle_attempts} attempts without a promotion"
    if counted.idle_attempts >= limits.plateau_attempts:
        return made
    return f"{made}: {facts.hopeless}" if facts.hopeless else ""


def _completion(facts: RoundFacts, goal: Goal) -> ExitReason | None:
    """Return how a run whose criteria are met ends; None where a hard goal is still missed."""
    if facts.goal_met:
        return ExitReason.GOAL_MET
    return ExitReason.PLAN_COMPLETE if goal.kind == "trend" else None


def _stop_at_plateau(
    counted: Ruling, facts: RoundFacts, goal: Goal, reason: ExitReason, message: str
) -> Ruling:
    taken = Taken(subject="plateau", choice="stop", reason=message)
    complete = _completion(facts, goal)
    if facts.is_complete_at_plateau and complete is not None:
        reason = complete
        message = f"every criterion of the plan is met; {message}"
    stopped = _stop(counted, reason, message)
    return stopped.model_copy(update={"decisions": (taken, *stopped.decisions)})


def _stop(counted: Ruling, reason: ExitReason, message: str) -> Ruling:
    taken = Taken(subject="stop", choice=reason.value, reason=message)
    return counted.model_copy(
        update={
            "route": "stop",
            "exit_reason": reason,
            "exit_message": message,
            "decisions": (*counted.decisions, taken),
        }
    )


def _go(counted: Ruling, route: Route, taken: Taken) -> Ruling:
    return counted.model_copy(
        update={
            "route": route,
            "why_again": taken.reason,
            "decisions": (*counted.decisions, taken),
        }
    )


_BUDGET_WORDS = {
    ExitReason.BUDGET_ROUNDS: "all rounds of the budget are used",
    ExitReason.BUDGET_WALL: "the wall clock that is left is kept for the end of the run",
    ExitReason.BUDGET_TOKENS: "all tokens of the budget are used",
    ExitReason.BUDGET_USD: "the money of the budget is used",
    ExitReason.BUDGET_GPU: "the job seconds of the budget are used",
}


def as_update(ruling: Ruling) -> Update:
    """Return the channels a ruling sets."""
    return Update(
        route=ruling.route,
        idle_attempts=ruling.idle_attempts,
        idle_rounds=ruling.idle_rounds,
        pivots=ruling.pivots,
        stalled=ruling.stalled,
        claim_tries=ruling.claim_tries,
        why_again=ruling.why_again,
        exit_reason=ruling.exit_reason.value if ruling.exit_reason else "",
        exit_message=ruling.exit_message,
    )


def final_reason(
    stopped: ExitReason, message: str, goal: Goal, *, goal_confirmed: bool
) -> tuple[ExitReason, str]:
    """Return how the run ends, once the final kernel was measured afresh.

    A goal that the final claim confirms is met, whatever ended the search; one that it does not
    confirm is not, whatever an earlier claim said.
    """
    if goal_confirmed:
        if stopped in {ExitReason.GOAL_MET, ExitReason.CANCELLED, ExitReason.ERROR}:
            return stopped, message
        return ExitReason.GOAL_MET, f"the goal is met; the search ended because {message}"
    if stopped is ExitReason.GOAL_MET:
        words = f"the final claim does not confirm the goal of {goal.speedup:g}x; {message}"
        trend = goal.kind == "trend"
        return (ExitReason.PLAN_COMPLETE if trend else ExitReason.PLATEAU), words
    return stopped, message
