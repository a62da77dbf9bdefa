"""The gate of a round: what was claimed is promoted or not, and the rules say what follows."""

from dataclasses import dataclass

from langgraph.runtime import Runtime

from agents.contexts import Alignment, ReviewContext
from agents.replies import CriterionStatus, Plan, Review
from gpu_runner.jobs import Admitted
from gpu_runner.records import Decision
from graph import budget, criteria, economics, rules
from graph.events import BudgetRead, DecisionTaken, Promoted, Reviewed
from graph.ledger import INCUMBENT, Attempt, AttemptOutcome
from graph.nodes.common import contract_of, plan_in_force, veto_of
from graph.reviewing import reviewed
from graph.routing import current
from graph.rows import decisions_on, draft_of, interval, outcomes_of, write_row
from graph.services import Services
from graph.state import Lane, RunState, Update
from graph.tracker import alignment, is_alignment
from graph.tracking import save, track
from graph.view import difference


@dataclass(frozen=True)
class _Round:
    """What the round left to judge."""

    plan: Plan
    claimed: Lane | None
    claims: tuple[Decision, ...]
    is_promotable: bool


async def review(state: RunState, runtime: Runtime[Services]) -> Update:
    """Have the round reviewed, settle its claim, count, and rule on what follows."""
    services = runtime.context
    async with services.stage("review", state):
        judged = _judged(services, state)
        reply = await _ask(services, state, judged)
        objections = rules.blocking(reply)
        veto = veto_of(services, judged.claimed) if judged.claimed else ""
        promoted = _settle(services, judged, reply, objections, veto)
        found = promoted.attempt_id if promoted else state["incumbent"]
        incumbent = services.steering.settled(found)
        statuses = criteria.evaluate(judged.plan, ledger_of(services, incumbent))
        facts = _facts(services, state, judged, reply, promoted, incumbent, statuses)
        ruling = rules.rule(state, facts, services.target.budget, services.target.goal)
        _tell(services, state, reply, objections, statuses, ruling)
        save(services.files, track(services.files, services.target, statuses, state["round"]))
        ended = state["round"]
        return Update(
            **rules.as_update(ruling),
            round=ended + 1,
            review=f"r{ended:03}" if reply else state["review"],
            incumbent=incumbent,
            claimed="",
            promoted=state["promoted"] + (1 if promoted else 0),
            spent=services.meter.spent(ended),
            pace=services.meter.pace(ended),
        )


def ledger_of(
    services: Services,
    incumbent: str,
    extra: tuple[Attempt, ...] = (),
    plateau: tuple[str, ...] = (),
) -> criteria.Ledger:
    """Return what the criteria are evaluated over."""
    files = services.files
    admission = files.outcome(f"{services.job_id('admit')}-t0")
    for number in range(1, services.jobs.tries):
        admission = files.outcome(f"{services.job_id('admit')}-t{number}") or admission
    stops = tuple(
        event.key
        for event in files.events.read()
        if isinstance(event, DecisionTaken)
        and event.subject == "plateau"
        and event.choice == "stop"
    )
    return criteria.Ledger(
        target=services.target,
        attempts=(*files.attempts(), *extra),
        incumbent=incumbent,
        admission=admission if isinstance(admission, Admitted) else None,
        facts=files.facts(incumbent) if incumbent else None,
        plateau_events=(*stops, *plateau),
    )


def _judged(services: Services, state: RunState) -> _Round:
    claimed = [lane for lane in current(state) if lane.attempt_id == state["claimed"]]
    lane = claimed[0] if claimed else None
    claims: tuple[Decision, ...] = ()
    if lane is not None:
        claims = decisions_on(outcomes_of(services, lane).get("claim"), state["claim_tries"])
    rival = INCUMBENT if state["incumbent"] else services.target.baselines[0].name
    return _Round(
        plan=plan_in_force(services, state),
        claimed=lane,
        claims=claims,
        is_promotable=rules.is_promotable(claims, rival),
    )


async def _ask(services: Services, state: RunState, judged: _Round) -> Review | None:
    """Return the review; None where there is no time left for one."""
    subject = judged.claimed or next(iter(_measured(state)), None)
    diff = ""
    if subject is not None:
        incumbent = services.incumbent(state)
        diff = difference(
            incumbent.candidate if incumbent else None, draft_of(services, subject).candidate
        )
    statuses = criteria.evaluate(judged.plan, ledger_of(services, state["incumbent"]))
    feedback = tuple(
        attempt.feedback
        for attempt in services.files.attempts()
        if attempt.round == state["round"] and attempt.feedback is not None
    )
    context = ReviewContext(
        view=services.view(state),
        plan=judged.plan,
        diff=diff,
        decisions=(*judged.claims, *feedback),
        criteria=statuses,
        contract=contract_of(services, state),
        alignment=_alignment(services, state, statuses),
    )
    return await reviewed(services, state, context, is_claim=judged.is_promotable)


def _alignment(
    services: Services, state: RunState, statuses: tuple[CriterionStatus, ...]
) -> Alignment | None:
    """Return what a full-alignment review is to look at, and log it; None in other rounds."""
    number = state["round"]
    if not is_alignment(number):
        return None
    found = alignment(number, track(services.files, services.target, statuses, number - 1))
    said = "; ".join((*found.forgotten, *found.deferred, *found.repeated)) or "nothing lies"
    services.decide("alignment", found.words(), said, at=f"r{number:03}")
    return found


def _measured(state: RunState) -> list[Lane]:
    lanes = [lane for lane in current(state) if lane.status == "measured"]
    return sorted(lanes, key=lambda lane: -lane.speedup)


def _settle(
    services: Services,
    judged: _Round,
    reply: Review | None,
    objections: tuple[str, ...],
    veto: str,
) -> Attempt | None:
    """Write the claimed lane's row; return it where it was promoted."""
    lane = judged.claimed
    if lane is None:
        return None
    if judged.is_promotable and reply is not None and not objections and not veto:
        row = write_row(services, lane, AttemptOutcome.PROMOTED, claims=judged.claims)
        services.tell(
            Promoted(
                key=f"promoted:{row.attempt_id}",
                attempt_id=row.attempt_id,
                version=row.version,
                intervals={claim.against: interval(claim) for claim in row.claims},
            )
        )
        return row
    if not judged.is_promotable:
        message = "the claim does not say FASTER"
    elif veto:
        message = f"the claim says FASTER, but it falls under {veto}"
    elif reply is None:
        message = "the claim says FASTER, but there was no time for a review"
    else:
        message = f"the claim says FASTER, but the review blocks it: {'; '.join(objections)}"
    write_row(services, lane, AttemptOutcome.MEASURED, claims=judged.claims, message=message)
    return None


def _facts(
    services: Services,
    state: RunState,
    judged: _Round,
    reply: Review | None,
    promoted: Attempt | None,
    incumbent: str,
    statuses: tuple[CriterionStatus, ...],
) -> rules.RoundFacts:
    lanes = current(state)
    ledger = ledger_of(services, incumbent, plateau=("decision:plateau",))
    spent = services.meter.spent(state["round"])
    reserve_s = services.reserve_s(state, state["promoted"] + (1 if promoted else 0))
    made = [row for row in services.files.attempts() if row.outcome is not AttemptOutcome.UNSERVED]
    attempts = sum(row.round == state["round"] for row in made)
    idle = 0 if promoted else state["idle_attempts"] + attempts
    limits = services.target.budget
    outlook = economics.outlook(made[len(made) - idle :], limits)
    usd, job_s = services.meter.price()
    price = economics.Price(usd=usd, job_s=job_s)
    keep = services.review_price().model_copy(
        update={"job_s": budget.job_reserve(limits, reserve_s)}
    )
    return rules.RoundFacts(
        promoted=promoted is not None,
        attempts=attempts,
        measured=sum(lane.status == "measured" for lane in lanes),
        fastest=max((lane.speedup for lane in lanes), default=0.0),
        exhausted=lanes[0].message
        if lanes and all(lane.status == "exhausted" for lane in lanes)
        else "",
        has_ledger=bool(services.files.attempts()),
        has_drafts=any(lane.digest for lane in lanes),
        is_complete=criteria.is_complete(statuses),
        is_complete_at_plateau=criteria.is_complete(criteria.evaluate(judged.plan, ledger)),
        goal_met=bool(criteria.goal_evidence(services.target, ledger.claims())),
        verdict=reply.verdict if reply else "",
        wish=reply.route if reply else "",
        budget=budget.exhausted(limits, spent, reserve_s, services.useful_s(state), keep),
        # Before the first promotion a search is often far below and on its way up.
        hopeless=economics.hopeless(outlook, idle, limits) if incumbent else "",
        overpriced=economics.overpriced(outlook, price, services.target.scope.lanes, limits),
    )


def _tell(
    services: Services,
    state: RunState,
    reply: Review | None,
    objections: tuple[str, ...],
    statuses: tuple[CriterionStatus, ...],
    ruling: rules.Ruling,
) -> None:
    number = state["round"]
    services.tell(
        Reviewed(
            key=f"reviewed:{number}",
            round=number,
            verdict=reply.verdict if reply else "",
            route=ruling.route,
            blocking=objections,
            met=sum(status.status == "MET" for status in statuses),
            criteria=len(statuses),
        )
    )
    for taken in ruling.decisions:
        services.decide(taken.subject, taken.choice, taken.reason, at=f"r{number:03}")
    left = budget.left(services.target.budget, services.meter.spent(number))
    services.tell(
        BudgetRead(
            key=f"budget:{number}",
            round=number,
            rounds_left=left.rounds,
            wall_left_s=left.wall_s,
            tokens_left=left.tokens,
            usd_left=left.usd,
            job_left_s=left.job_s,
            job_s=services.meter.spent(number).job_s,
        )
    )
