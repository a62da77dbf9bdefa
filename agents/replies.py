"""What the five roles answer: Plan, Research, Draft, Digest, Review, Inspection. Nouns only.

Every reply is a schema; a reply never decides a measured fact.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from agents.diagnosis.vocabulary import Bottleneck
from gpu_runner.candidate import Candidate, Language
from gpu_runner.message import Message

TaskId = Annotated[str, StringConstraints(pattern=r"^t[0-9]+$")]
CriterionId = Annotated[str, StringConstraints(pattern=r"^ac[0-9]+$")]


class CheckRule(StrEnum):
    """Executable checks; the orchestrator evaluates them over the ledger, no model does."""

    CORRECT_OVER_W = "correct_over_w"
    """A promoted attempt passed every public and hidden case."""
    FASTER_THAN_BASELINE = "faster_than_baseline"
    """A claim against `parameter` (contender name) says FASTER."""
    REACHES_GOAL = "reaches_goal"
    """The goal of the target is met by a claim."""
    ROOFLINE_REACHED = "roofline_reached"
    """fraction_reached of the incumbent is at least `parameter` on every public workload."""
    ATTEMPTS_MADE = "attempts_made"
    """At least `parameter` attempts were measured."""
    WRONG_IS_REJECTED = "wrong_is_rejected"
    """Negative: the admission gate refused every planted wrong implementation."""
    NO_REGRESSION = "no_regression"
    """Negative: no public workload is SLOWER than the baseline in the incumbent's claim."""
    PLATEAU_RECORDED = "plateau_recorded"
    """More work is unjustified: the plateau decision is in the event log."""


class ExecutableCheck(Message):
    """One rule with its parameter."""

    rule: CheckRule
    parameter: str = ""


class Criterion(Message):
    """An acceptance criterion; at least one positive and one negative executable check."""

    criterion_id: CriterionId
    text: str
    positive: tuple[ExecutableCheck, ...] = Field(min_length=1)
    negative: tuple[ExecutableCheck, ...] = Field(min_length=1)


class TaskItem(Message):
    """A task with the criterion that accepts it: one pair of P = {(t_i, ac_i)}."""

    task_id: TaskId
    text: str
    criterion: Criterion


class OpenQuestion(Message):
    """A choice that is the user's. Nobody is asked during a run: the plan goes by `default`."""

    question: str = Field(min_length=1, max_length=300)
    options: tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...] = Field(
        min_length=2, max_length=5
    )
    default: str
    """One of the options, the one that a careful user would find easiest to take back."""
    reason: str = Field(min_length=1, max_length=300)
    """Why this one."""

    @model_validator(mode="after")
    def _goes_by_an_option(self) -> Self:
        if self.default not in self.options:
            msg = f"default {self.default!r} is none of the options {list(self.options)}"
            raise ValueError(msg)
        return self


class Plan(Message):
    """The planner's answer; `version` grows when the plan is replaced, with its reason."""

    version: int = 1
    reason: str
    """Why this plan, or why it replaces the one before."""
    language: Language
    language_reason: str
    strategy: str
    tasks: tuple[TaskItem, ...] = Field(min_length=1)
    open_questions: tuple[OpenQuestion, ...] = Field(default=(), max_length=5)


class Citation(Message):
    """A passage something rests on."""

    source: str
    """Path, URL or record id that resolves."""
    lines: str = ""
    licence: str = ""
    note: str = ""


class Research(Message):
    """The researcher's digest before a lineage."""

    findings: tuple[str, ...]
    routes: tuple[str, ...]
    """Candidate directions, best first."""
    suspected_bottlenecks: tuple[str, ...]
    benchmark_priorities: tuple[str, ...]
    citations: tuple[Citation, ...] = ()
    route_log: tuple[str, ...] = ()
    """Which sources were asked, with what, and how much came back."""


class Movement(Message):
    """A prediction: which metric moves which way, by how much."""

    metric: str
    """`speedup`, `time_us`, `fraction_reached`, `spills`, or a signal: `sector_use`."""
    direction: Literal["up", "down"]
    factor: float = Field(gt=0)
    """Expected new over old."""


class Draft(Message):
    """The writer's answer: a candidate and why."""

    candidate: Candidate
    family: str = ""
    recipe: str = ""
    parameters: dict[str, int | float | str | bool] = Field(default_factory=dict)
    """What the recipe was rendered with; empty when a model wrote the text."""
    motivation: str
    expected: Movement | None = None
    provenance: tuple[Citation, ...] = ()


class Edit(Message):
    """Exactly one next edit."""

    path: str
    symbol: str
    change: str
    why_others_are_weaker: str
    expected: Movement
    validation: str
    recipe: str = ""
    """Where a recipe makes the edit: its name."""
    parameters: dict[str, int | float | str | bool] = Field(default_factory=dict)


class Digest(Message):
    """The profiler's answer: class, evidence, chain of inference, one next edit."""

    bottleneck: Bottleneck
    confidence: float = Field(ge=0, le=1)
    evidence: tuple[str, ...]
    """`expf called from a loop`, each from a fact."""
    against_parent: tuple[str, ...] = ()
    against_baseline: tuple[str, ...] = ()
    inference: tuple[str, ...]
    next_edit: Edit
    query: str = ""
    """What to ask the researcher."""
    rule: str = ""
    """Under whose name the prediction is scored; the bottleneck's where no rule made it."""


class CriterionStatus(Message):
    """How a criterion stands, with evidence ids that resolve to records or attempts."""

    criterion_id: CriterionId
    status: Literal["MET", "PARTIAL", "NOT_MET"]
    evidence: tuple[str, ...] = ()


class Finding(Message):
    """A reviewer's objection; only the blocking lane stops a promotion."""

    lane: Literal["mainline", "blocking", "queued"]
    severity: int = Field(ge=0, le=9)
    text: str


class Review(Message):
    """The reviewer's answer: it can block, route and advise, never promote."""

    verdict: Literal["ADVANCED", "STALLED", "REGRESSED"]
    criteria: tuple[CriterionStatus, ...]
    findings: tuple[Finding, ...] = ()
    route: Literal["refine", "research", "replan", "autotune"] = "refine"
    advice: str = ""


MOST_REMARKS = 12


class Remark(Message):
    """One thing that is wrong with a kernel as code, and where."""

    lane: Literal["blocking", "simplify", "note"]
    """`blocking` and `simplify` go back to the writer; what comes back is measured."""
    severity: int = Field(ge=0, le=9)
    path: str
    """Of the candidate's sources."""
    line: int = Field(ge=1)
    text: str = Field(min_length=1, max_length=600)


class Inspection(Message):
    """The reviewer's reading of the final kernel as code. It is shown; it can claim nothing."""

    remarks: tuple[Remark, ...] = Field(max_length=MOST_REMARKS)
    """Required, also where there are none: silence is no approval."""
    summary: str = Field(min_length=1)


AnyReply = Plan | Research | Draft | Digest | Review | Inspection
