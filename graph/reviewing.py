"""Asks the reviewer, and never waits for one that cannot answer.

A reply that stays malformed is asked for afresh a few times. Then a round without a winner is
judged by what it measured; with one, the run pauses, because a promotion needs an independent
review and a claim that was paid for must not be lost: `resume` asks again.
"""

import asyncio

from agents.contexts import ReviewContext
from agents.errors import MalformedReply, NothingFits
from agents.replies import Review
from graph.errors import OutOfTime, RunPaused
from graph.services import Services
from graph.state import RunState


async def reviewed(
    services: Services, state: RunState, context: ReviewContext, *, is_claim: bool
) -> Review | None:
    """Return the review of a round; None where there is no time or money left for one.

    Args:
        services: of the run.
        state: of the round.
        context: what the reviewer is shown.
        is_claim: a claim says FASTER, so that the review decides a promotion.

    Raises:
        RunPaused: the reviewer cannot answer, and there is a claim to review.
    """
    key = f"r{state['round']:03}"
    pause_s = services.loop.review_pause_s
    tries = services.loop.review_tries
    fault = ""
    for number in range(tries):
        try:
            return await services.ask(Review, key, services.team.review(context), state)
        except (NothingFits, OutOfTime) as error:
            services.decide("review", "none", str(error), at=key)
            return None
        except MalformedReply as error:
            fault = str(error)
            await asyncio.sleep(pause_s * 2**number if number + 1 < tries else 0)
    if is_claim:
        raise RunPaused(
            f"the reviewer gave no usable review of a claim that says FASTER ({fault}); set "
            "another model with --set models.reviewer.model=NAME"
        )
    services.decide("review", "computed", f"the reviewer failed {tries} times: {fault}", at=key)
    reply = computed(context)
    services.files.save_reply(key, reply)
    return reply


def computed(context: ReviewContext) -> Review:
    """Return the review that the measurements give: a verdict, and nothing that only eyes see."""
    latest = max((attempt.round for attempt in context.view.attempts), default=0)
    measured = any(
        attempt.outcome == "measured" and attempt.round == latest == context.view.round
        for attempt in context.view.attempts
    )
    return Review(
        verdict="ADVANCED" if measured else "STALLED",
        criteria=tuple(context.standing(t.criterion.criterion_id) for t in context.plan.tasks),
        advice="computed from the measurements: the reviewer gave no usable reply",
    )
