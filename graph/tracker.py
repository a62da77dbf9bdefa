"""Where a run stands against its goal: criteria, plan versions, issues by lane, contracts. Pure.

Computed from answers and measurements, never asked for: what a reviewer forgot is found by looking,
and a criterion is as the first plan put it, whatever later plans say.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from agents.contexts import Alignment, Contract
from agents.replies import Criterion, CriterionStatus, Plan, Review, TaskItem
from gpu_runner.message import Digest, Message, digest_of

ALIGN_EVERY = 5
"""Rounds from one full-alignment review to the next; also how long an item may lie."""
KEPT = "-kept"
"""Ends the key of a plan whose criteria were put back; the one that was answered keeps its own."""
_MOST_SHOWN = 8

IssueLane = Literal["mainline", "blocking", "queued"]


class PlanVersion(Message):
    """One entry of the plan's evolution."""

    version: int
    round: int
    reason: str
    digest: Digest


class Issue(Message):
    """A finding, from the round that raised it to the one that let it go."""

    lane: IssueLane
    severity: int
    text: str
    opened: int
    last: int
    """The last round whose review named it."""
    closed: int | None = None
    times: int = 1


class Tracker(Message):
    """All of it, after a round."""

    goal: str
    round: int
    """The last one that was reviewed."""
    criteria: tuple[Criterion, ...]
    """Of the first plan; later plans cannot change them."""
    criteria_digest: Digest
    statuses: tuple[CriterionStatus, ...]
    versions: tuple[PlanVersion, ...]
    issues: tuple[Issue, ...]
    contracts: tuple[Contract, ...]

    def standing(self, criterion_id: str) -> CriterionStatus:
        """Return how a criterion stands; not met where nobody looked yet."""
        found = (status for status in self.statuses if status.criterion_id == criterion_id)
        return next(found, CriterionStatus(criterion_id=criterion_id, status="NOT_MET"))

    def open(self, lane: IssueLane) -> tuple[Issue, ...]:
        """Return the open issues of a lane, the most severe first."""
        found = [issue for issue in self.issues if issue.lane == lane and issue.closed is None]
        return tuple(sorted(found, key=lambda issue: (issue.severity, issue.opened)))


class _Criteria(Message):
    criteria: tuple[Criterion, ...]


def criteria_of(plan: Plan) -> tuple[Criterion, ...]:
    """Return the criteria of a plan."""
    return tuple(task.criterion for task in plan.tasks)


def criteria_digest(criteria: tuple[Criterion, ...]) -> Digest:
    """Return what names exactly these criteria."""
    return digest_of(_Criteria(criteria=criteria))


def kept(first: Plan, made: Plan) -> tuple[Plan, tuple[str, ...]]:
    """Return a new plan with the criteria of the first one, and what had to be put back.

    A plan may change strategy, language and tasks. What accepts the work may not change while the
    work is done: a criterion that was dropped or reworded is put back, a new one is left out.
    """
    known = {task.criterion.criterion_id: task for task in first.tasks}
    changes: list[str] = []
    tasks: list[TaskItem] = []
    for task in made.tasks:
        name = task.criterion.criterion_id
        if name not in known:
            changes.append(f"{name} is new and left out")
            continue
        if task.criterion != known[name].criterion:
            changes.append(f"{name} was changed and is put back")
        tasks.append(task.model_copy(update={"criterion": known[name].criterion}))
    present = {task.criterion.criterion_id for task in tasks}
    for name, task in known.items():
        if name not in present:
            changes.append(f"{name} was dropped and is put back")
            tasks.append(task)
    if not changes:
        return made, ()
    return made.model_copy(update={"tasks": tuple(tasks)}), tuple(changes)


def issues_of(reviews: Mapping[int, Review]) -> tuple[Issue, ...]:
    """Return every finding once.

    A blocking or mainline issue is closed by the first review that names it no more. A queued one
    waits: it is closed by the alignment review that had it before it and did not take it up again.

    Args:
        reviews: by round.
    """
    found: dict[tuple[IssueLane, str], Issue] = {}
    for number in sorted(reviews):
        named: set[tuple[IssueLane, str]] = set()
        for finding in reviews[number].findings:
            key = (finding.lane, " ".join(finding.text.lower().split()))
            named.add(key)
            before = found.get(key)
            found[key] = Issue(
                lane=finding.lane,
                severity=finding.severity,
                text=finding.text,
                opened=before.opened if before else number,
                last=number,
                times=before.times + 1 if before else 1,
            )
        for key, issue in found.items():
            waits = issue.lane == "queued" and not is_alignment(number)
            if issue.closed is None and key not in named and not waits:
                found[key] = issue.model_copy(update={"closed": number})
    return tuple(sorted(found.values(), key=lambda issue: (issue.opened, issue.severity)))


def is_alignment(number: int) -> bool:
    """Whether a round's review is one of full alignment."""
    return number % ALIGN_EVERY == 0


def alignment(number: int, tracker: Tracker) -> Alignment:
    """Return what a full-alignment review is to look at.

    Args:
        number: of the round under review.
        tracker: as the reviews before it left it.
    """
    aims = {name: c.round for c in tracker.contracts for name in c.criteria}
    unmet = [s.criterion_id for s in tracker.statuses if s.status != "MET"]
    began = tracker.contracts[0].round if tracker.contracts else number
    forgotten = [i for i in tracker.open("queued") if i.last < number - 1]
    return Alignment(
        forgotten=tuple(_told(issue) for issue in forgotten[:_MOST_SHOWN]),
        deferred=tuple(name for name in unmet if number - aims.get(name, began - 1) >= ALIGN_EVERY),
        repeated=tuple(
            _told(issue) for issue in tracker.issues if issue.times >= ALIGN_EVERY // 2 + 1
        )[:_MOST_SHOWN],
    )


def _told(issue: Issue) -> str:
    return f"P{issue.severity} of round {issue.opened}: {issue.text}"


def contract_for(
    number: int, plan: Plan, statuses: Iterable[CriterionStatus], issues: Iterable[Issue]
) -> Contract:
    """Return what a round is to do: one objective, the criteria it serves, what is out of scope.

    An open blocking issue comes first; then the first task whose criterion is not met; with all of
    them met the round looks for more of the last.
    """
    met = {status.criterion_id for status in statuses if status.status == "MET"}
    open_ = [issue for issue in issues if issue.closed is None]
    blocking = tuple(_told(issue) for issue in open_ if issue.lane == "blocking")[:_MOST_SHOWN]
    queued = tuple(_told(issue) for issue in open_ if issue.lane == "queued")[:_MOST_SHOWN]
    left = [task for task in plan.tasks if task.criterion.criterion_id not in met]
    task = left[0] if left else plan.tasks[-1]
    objective = task.text if left else f"Hold what is met, and look for more: {task.text}"
    if blocking:
        objective = f"Resolve what blocks: {blocking[0]}"
    return Contract(
        round=number,
        plan_version=plan.version,
        objective=objective,
        criteria=(task.criterion.criterion_id,),
        blocking=blocking,
        queued=queued,
        success=task.criterion.text,
    )
