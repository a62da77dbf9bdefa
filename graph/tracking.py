"""Keeps the goal tracker in the run directory: `tracker.json`, `tracker.md`, `contracts/`."""

from collections.abc import Iterable

from agents.contexts import Contract
from agents.replies import CriterionStatus, Plan, Review
from gpu_runner.message import digest_of
from graph.durable import write_bytes
from graph.run_files import RunFiles
from graph.target import Target
from graph.tracker import (
    ALIGN_EVERY,
    KEPT,
    Issue,
    PlanVersion,
    Tracker,
    contract_for,
    criteria_digest,
    criteria_of,
    issues_of,
)

MARKDOWN = "tracker.md"


def track(
    files: RunFiles, target: Target, statuses: tuple[CriterionStatus, ...], upto: int
) -> Tracker:
    """Return where a run stands after the reviews of the rounds up to `upto`."""
    plans = files.replies(Plan)
    first = next(iter(plans.values()))
    reviews = {_round_of(key): reply for key, reply in files.replies(Review).items()}
    goal = target.goal
    return Tracker(
        goal=f"{goal.speedup:g} times the speed of {goal.against}, {goal.kind}",
        round=upto,
        criteria=criteria_of(first),
        criteria_digest=criteria_digest(criteria_of(first)),
        statuses=statuses,
        versions=tuple(
            PlanVersion(
                version=plan.version,
                round=_round_of(key),
                reason=plan.reason,
                digest=digest_of(plan),
            )
            for key, plan in plans.items()
            if f"{key}{KEPT}" not in plans
        ),
        issues=issues_of({n: review for n, review in reviews.items() if n <= upto}),
        contracts=tuple(c for c in files.contracts() if c.round <= upto + 1),
    )


def contract_in_force(files: RunFiles, plan: Plan, number: int) -> Contract:
    """Return the contract of a round, made when it is first asked for; from then on it stays."""
    known = files.contract(number)
    if known is not None:
        return known
    before = files.tracker()
    statuses, issues = (before.statuses, before.issues) if before else ((), ())
    made = contract_for(number, plan, statuses, issues)
    files.save_contract(made)
    return made


def save(files: RunFiles, tracker: Tracker) -> None:
    """Write the tracker, for programs and for people."""
    files.save_tracker(tracker)
    write_bytes(files.root / MARKDOWN, markdown(tracker).encode())


def _round_of(key: str) -> int:
    return int(key[1:4])


def markdown(tracker: Tracker) -> str:
    """Return the tracker as Markdown; generated, and never read back."""
    parts = [
        f"# Goal: {_cell(tracker.goal)}",
        f"After round {tracker.round}. Generated from the run's answers and records.",
        f"## Criteria (immutable, {tracker.criteria_digest[:12]})",
        _table(
            ("criterion", "accepted when", "status", "evidence"),
            (
                (one.criterion_id, one.text, found.status, ", ".join(found.evidence))
                for one in tracker.criteria
                for found in [tracker.standing(one.criterion_id)]
            ),
        ),
        "## Plan evolution",
        _table(
            ("version", "round", "reason"),
            ((str(v.version), str(v.round), v.reason) for v in tracker.versions),
        ),
        "## Blocking issues",
        _issues(tracker.open("blocking")),
        "## Mainline gaps",
        _issues(tracker.open("mainline")),
        f"## Queued issues (looked at every {ALIGN_EVERY} rounds)",
        _issues(tracker.open("queued")),
        "## Round contracts",
        _table(
            ("round", "plan", "objective", "criteria", "success"),
            (
                (str(c.round), str(c.plan_version), c.objective, ", ".join(c.criteria), c.success)
                for c in tracker.contracts
            ),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _issues(issues: tuple[Issue, ...]) -> str:
    rows = [(f"P{i.severity}", str(i.opened), str(i.times), i.text) for i in issues]
    return _table(("severity", "since round", "named", "what"), rows) if rows else "None."


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines)


_LONGEST = 300


def _cell(text: str) -> str:
    """Return text that stays in its cell, whoever wrote it."""
    return " ".join(text.split()).replace("|", "\\|")[:_LONGEST]
