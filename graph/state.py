"""What the state machine remembers between supersteps: ids, counters, short verdicts.

Sources, replies, outcomes and records are in the run directory under these ids. The only models in
state are `Lane` and `budget.Spent`; `checkpoints.py` lists them for the serializer.
"""

from typing import Annotated, Literal, TypedDict

from pydantic import Field

from gpu_runner.message import Message
from gpu_runner.records import Verdict
from graph.budget import Pace, Spent

GRAPH_VERSION = 2
"""Grows when a node or a channel changes its name or meaning: older checkpoints are refused."""

LaneStatus = Literal[
    "drafted", "undrafted", "exhausted", "built", "checked", "measured", "rejected", "unserved"
]


class Order(Message):
    """Payload of one `Send`: what one lane of a round has to write."""

    round: int
    lane: int
    attempt_id: str
    repair: int = 0
    """How often this lane was written again in this round."""
    repair_of: str = ""
    """Attempt id of the one to repair; empty where the reply itself was malformed."""


class Lane(Message):
    """How far one lane of the round is; later stages replace it."""

    round: int
    lane: int
    attempt_id: str
    repair: int = 0
    parent: str = ""
    """Attempt id of the incumbent when it was written."""
    mends: str = ""
    """Attempt id of the final kernel that it was written to replace, once the search is over."""
    digest: str = ""
    status: LaneStatus
    version: str = ""
    verdict: Verdict | None = None
    """Of the feedback sitting."""
    speedup: float = Field(default=0.0, ge=0)
    """Of the feedback sitting; 0 where there was none."""
    record_id: str = ""
    """Of the feedback sitting."""
    message: str = ""

    @property
    def draft_key(self) -> str:
        """Key of the writer's saved reply; sorts in order of time."""
        return f"r{self.round:03}-l{self.lane}-t{self.repair}"


def merge_lanes(old: dict[str, Lane], new: dict[str, Lane]) -> dict[str, Lane]:
    """Reduce concurrent updates: the later round wins whole, within a round each lane by itself."""
    latest = max((lane.round for lane in (*old.values(), *new.values())), default=0)
    kept = [(k, v) for lanes in (old, new) for k, v in lanes.items() if v.round == latest]
    return dict(sorted(dict(kept).items()))


class RunState(TypedDict):
    """Channels of the graph."""

    graph_version: int
    round: int
    """The round being worked on, or the next to begin; from 1."""
    issued: int
    """Attempt ids given out."""
    versions: int
    """Version names given out."""
    lanes: Annotated[dict[str, Lane], merge_lanes]
    plan: str
    """Key of the plan in force; likewise the next three. Empty: none yet."""
    research: str
    digest: str
    review: str
    why_again: str
    """Why the planner or the researcher is asked once more."""
    route: Literal["write", "research", "plan", "stop"]
    """What the last review (with the rules over it) asks for."""
    incumbent: str
    """Attempt id; empty before the first promotion."""
    claimed: str
    """Attempt id of this round's claim; empty where there was none."""
    claim_tries: int
    """Claims since the last promotion: the decision rule corrects for them."""
    idle_attempts: int
    """Attempts since the last promotion or pivot."""
    idle_rounds: int
    """Rounds since the last promotion."""
    pivots: int
    """Forced pivots since the last promotion."""
    stalled: int
    """Process stalls in a row."""
    promoted: int
    mends: int
    """Times the final kernel was to be mended; more than 0 only once the search is over."""
    spent: Spent
    pace: Pace
    exit_reason: str
    """An ExitReason, set once; empty while the run goes on."""
    exit_message: str
    is_done: bool
    """The finish node ran to its end."""


class LaneState(RunState):
    """What a fanned-out `write` is given: the state, and which lane it is."""

    order: Order


def first_state() -> RunState:
    """Return the state a run begins with."""
    return RunState(
        graph_version=GRAPH_VERSION,
        round=1,
        issued=0,
        versions=0,
        lanes={},
        plan="",
        research="",
        digest="",
        review="",
        why_again="",
        route="write",
        incumbent="",
        claimed="",
        claim_tries=0,
        idle_attempts=0,
        idle_rounds=0,
        pivots=0,
        stalled=0,
        promoted=0,
        mends=0,
        spent=Spent(),
        pace=Pace(),
        exit_reason="",
        exit_message="",
        is_done=False,
    )


class Update(TypedDict, total=False):
    """What a node may change: the same channels, each optional, so that a typo is a type error."""

    round: int
    issued: int
    versions: int
    lanes: dict[str, Lane]
    plan: str
    research: str
    digest: str
    review: str
    why_again: str
    route: Literal["write", "research", "plan", "stop"]
    incumbent: str
    claimed: str
    claim_tries: int
    idle_attempts: int
    idle_rounds: int
    pivots: int
    stalled: int
    promoted: int
    mends: int
    spent: Spent
    pace: Pace
    exit_reason: str
    exit_message: str
    is_done: bool
