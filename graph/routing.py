"""Where the state machine goes next: pure functions of the state, one per node that branches.

Numbers and reasons are put into the state by nodes; here they only choose. Each answer is a
literal (or the `Send`s of a fan-out), so the drawn graph is complete.
"""

import re
from itertools import count
from typing import Literal

from gpu_runner.records import Verdict
from graph.state import Lane, Order, RunState

ATTEMPT_NAME = re.compile(r"a[0-9]{4}")


def attempt_name(number: int) -> str:
    """Return the attempt id of a number: `a0007`."""
    return f"a{number:04}"


def attempt_number(name: str) -> int:
    """Return the number of an attempt id."""
    return int(name[1:])


def orders(state: RunState, lanes: int) -> tuple[Order, ...]:
    """Return what every lane of the round at hand has to write."""
    return tuple(
        Order(
            round=state["round"],
            lane=lane,
            attempt_id=attempt_name(state["issued"] + lane + 1),
        )
        for lane in range(lanes)
    )


def repairs(state: RunState, most: int) -> tuple[Order, ...]:
    """Return the lanes to write again without using up a round.

    A lane is repaired where the reply was malformed or the sources did not compile, at most `most`
    times a round. A candidate that was built once is a row of the ledger, so its repair has an
    attempt id of its own; a malformed reply is none, and its id is used again.
    """
    broken = [lane for lane in current(state) if lane.repair < most]
    numbers = count(state["issued"] + 1)
    return tuple(
        Order(
            round=lane.round,
            lane=lane.lane,
            attempt_id=attempt_name(next(numbers)) if is_row else lane.attempt_id,
            repair=lane.repair + 1,
            repair_of=lane.attempt_id if is_row else "",
        )
        for lane in broken
        for is_row in [lane.status == "rejected"]
        if is_row or lane.status == "undrafted"
    )


def current(state: RunState) -> tuple[Lane, ...]:
    """Return the lanes of the round at hand."""
    return tuple(lane for lane in state["lanes"].values() if lane.round == state["round"])


def having(state: RunState, status: str) -> tuple[Lane, ...]:
    """Return the round's lanes that stand at `status`."""
    return tuple(lane for lane in current(state) if lane.status == status)


def best_lane(state: RunState) -> Lane | None:
    """Return the round's lane worth a claim: the fastest of those that feedback calls FASTER."""
    faster = [lane for lane in current(state) if lane.verdict is Verdict.FASTER]
    return max(faster, key=lambda lane: (lane.speedup, -lane.lane), default=None)


def after_admit(state: RunState) -> Literal["plan", "finish"]:
    """An unfit target is not planned for."""
    return "finish" if state["exit_reason"] else "plan"


def after_plan(state: RunState) -> Literal["research", "inspect", "finish"]:
    """Research opens a lineage under every plan."""
    return ending(state) or "research"


def after_research(state: RunState) -> Literal["write", "inspect", "finish"]:
    """Write, unless the time ran out meanwhile."""
    return ending(state) or "write"


def is_ending(state: RunState) -> bool:
    """Whether the search is over: what is written from here on mends the final kernel."""
    return bool(state["exit_reason"])


def after_build(
    state: RunState, most_repairs: int
) -> Literal["write", "check", "review", "finalize"]:
    """Repair what did not compile, check what did."""
    if repairs(state, most_repairs):
        return "write"
    if having(state, "built"):
        return "check"
    return "finalize" if is_ending(state) else "review"


def after_check(state: RunState) -> Literal["bench", "review", "finalize"]:
    """Only right candidates are timed."""
    if is_ending(state):
        return "finalize"
    return "bench" if having(state, "checked") else "review"


def after_bench(state: RunState) -> Literal["claim", "profile"]:
    """Feedback that says FASTER earns a claim."""
    return "claim" if best_lane(state) else "profile"


def after_review(
    state: RunState,
) -> Literal["write", "research", "plan", "inspect", "finish"]:
    """Go on as the review's rules say, or end."""
    ended = ending(state)
    if ended:
        return ended
    route = state["route"]
    return "write" if route == "stop" else route


def after_inspect(state: RunState) -> Literal["write", "autotune"]:
    """Mend what the reading found, where that is still to be tried; else tune."""
    return "write" if state["route"] == "write" else "autotune"


def ending(state: RunState) -> Literal["inspect", "finish"] | None:
    """Return how a run with an exit reason ends; what was promoted is read and tuned first."""
    if not is_ending(state):
        return None
    return "inspect" if state["incumbent"] else "finish"
