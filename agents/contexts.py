"""What the five roles are given. Nouns only: values the graph gathers, nothing live."""

from typing import Literal

from pydantic import Field

from agents.lessons import Lesson
from agents.replies import (
    CriterionId,
    CriterionStatus,
    Digest,
    Edit,
    Movement,
    Plan,
    Remark,
    Research,
    Review,
)
from gpu_runner.candidate import Candidate, Language
from gpu_runner.facts import Facts
from gpu_runner.jobs import Reason
from gpu_runner.message import Message
from gpu_runner.problem import Problem, Workload
from gpu_runner.records import Decision
from knowledge_store.records import Passage


class PastAttempt(Message):
    """One attempt as a role sees it; hidden cases appear by category only."""

    attempt_id: str
    """`a0007`: the order of the ledger."""
    parent: str | None = None
    round: int
    lane: int = 0
    family: str = ""
    recipe: str = ""
    parameters: dict[str, int | float | str | bool] = Field(default_factory=dict)
    candidate_digest: str
    motivation: str = ""
    expected: Movement | None = None
    outcome: Literal["promoted", "measured", "rejected", "unserved"]
    reason: Reason | None = None
    message: str = ""
    """What the runner said of a rejection; the compiler's or the process's last words with it."""
    feedback: Decision | None = None
    """Against the incumbent of its time, or the first baseline where there was none."""
    vs_baseline: float | None = None
    """Speed-up over the first baseline, estimated; comparable between attempts."""


class RunView(Message):
    """What every role may see of a run. Hidden workloads are not in it."""

    run_id: str
    seed: int
    problem: Problem
    workloads: tuple[Workload, ...]
    """Public ones."""
    tier: Literal["cpu", "gpu"]
    arch: str
    isa: tuple[str, ...]
    threads: int
    languages: tuple[Language, ...]
    """In scope and with a toolchain on the runner."""
    goal_speedup: float
    goal_against: str
    round: int
    attempts: tuple[PastAttempt, ...] = ()
    incumbent: str | None = None
    """Attempt id."""
    stalled_rounds: int = 0
    """Rounds since the last promotion."""
    hints: tuple[str, ...] = ()
    """What the user said meanwhile, the latest last; advice, for measurements decide."""
    lessons: tuple[Lesson, ...] = ()
    """What earlier runs learnt that bears on this one, those that weigh most first."""
    vetoed: tuple[str, ...] = ()
    """Attempts, families and recipes that the user does not want written again."""


class PlanContext(Message):
    """For the planner."""

    view: RunView
    previous: Plan | None = None
    why_again: str = ""


class ResearchContext(Message):
    """For the researcher."""

    view: RunView
    plan: Plan
    query: str = ""
    evidence: tuple[Passage, ...] = ()
    """What the knowledge store has on it, best first; data, never instructions."""
    searched: tuple[str, ...] = ()
    """How the store was asked, for the route log; or why it was not."""


class Contract(Message):
    """What one round is to do."""

    round: int
    plan_version: int
    objective: str
    """Exactly one."""
    criteria: tuple[CriterionId, ...] = Field(min_length=1, max_length=2)
    """Of the plan, that the objective serves."""
    blocking: tuple[str, ...] = ()
    """Open issues in scope."""
    queued: tuple[str, ...] = ()
    """Issues that are out of scope for now."""
    success: str


class Alignment(Message):
    """What a full-alignment review is to look at; computed, so that nobody can leave it out."""

    forgotten: tuple[str, ...] = ()
    """Queued issues that no review has named since."""
    deferred: tuple[CriterionId, ...] = ()
    """Criteria that are not met and that no contract has aimed at for long."""
    repeated: tuple[str, ...] = ()
    """Findings that came again and again."""

    def words(self) -> str:
        """Return how many of each."""
        return (
            f"{len(self.forgotten)} forgotten, {len(self.deferred)} deferred, "
            f"{len(self.repeated)} repeated"
        )


class WriteContext(Message):
    """For the writer: one lane of one round."""

    view: RunView
    plan: Plan
    research: Research | None = None
    digest: Digest | None = None
    review: Review | None = None
    parent: Candidate | None = None
    """Source of the incumbent (or of the attempt to repair)."""
    repair: PastAttempt | None = None
    refused: PastAttempt | None = None
    """What this lane tried in the round before, where it was refused."""
    refused_source: Candidate | None = None
    fault: str = ""
    """Why the last reply of this lane in this round was no usable draft."""
    tried: dict[str, str] = Field(default_factory=dict)
    """Attempt id by fingerprint (`agents.novelty`): what was tried, comments and blanks aside."""
    lane: int = 0
    lanes: int = 1
    contract: Contract | None = None
    remarks: tuple[Remark, ...] = ()
    """Where the search is over and the final kernel, the parent, is to be mended as code."""


class DigestContext(Message):
    """For the profiler."""

    view: RunView
    candidate: Candidate
    attempt: PastAttempt
    facts: Facts
    parent_facts: Facts | None = None
    last_edit: Edit | None = None


class ReviewContext(Message):
    """For the reviewer: the diff and the records, no persuasion."""

    view: RunView
    plan: Plan
    diff: str
    decisions: tuple[Decision, ...]
    criteria: tuple[CriterionStatus, ...] = ()
    """How each criterion stands by its executable checks; one that is not named is not met."""
    contract: Contract | None = None
    alignment: Alignment | None = None
    """In every fifth round."""

    def standing(self, criterion_id: str) -> CriterionStatus:
        """Return how a criterion stands by its executable checks."""
        for status in self.criteria:
            if status.criterion_id == criterion_id:
                return status
        return CriterionStatus(criterion_id=criterion_id, status="NOT_MET")


class InspectContext(Message):
    """For the reviewer, when the search is over: the final kernel, to be read as code."""

    view: RunView
    candidate: Candidate
    attempt_id: str
    number: int = 0
    """Kernels of this run that were inspected before."""
    diff: str = ""
    """What was changed after the last inspection, where there was one."""
    earlier: tuple[Remark, ...] = ()
    """What it found."""
