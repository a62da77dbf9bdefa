"""What the report shows beside the ledger, read from a run directory: answers, events, records.

Reads only. Measurement records are read one at a time: a long run has more than fit in memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agents.lessons import Lesson
from agents.replies import CriterionStatus, Inspection, Plan, Research, Review
from gpu_runner.candidate import Source
from gpu_runner.jobs import Admitted
from gpu_runner.records import BenchRecord
from graph import criteria
from graph.events import (
    BudgetRead,
    Controlled,
    DecisionTaken,
    IncumbentChanged,
    PredictionScored,
    ProfileRead,
    StageEnded,
)
from graph.inspecting import inspection_of
from graph.ledger import Attempt
from graph.report.roofline import Profiled
from graph.run_files import RunFiles
from graph.target import Target


@dataclass(frozen=True, kw_only=True)
class RecordLine:
    """A measurement record in one line."""

    record_id: str
    candidate: str
    """Attempt id, or the start of the digest of what no attempt has."""
    against: tuple[str, ...]
    started_at: str
    sittings: int
    pairs: int
    verified_outputs: int
    pressure_percent: float
    """The highest over the sittings."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All of it."""

    plan: Plan | None
    statuses: dict[str, CriterionStatus]
    """Criterion id to how it stands by the ledger, whatever a reviewer said of it."""
    review: Review | None
    inspection: Inspection | None
    """The reading of the best kernel as code."""
    research: Research | None
    profiles: tuple[ProfileRead, ...]
    predictions: tuple[PredictionScored, ...]
    decisions: tuple[DecisionTaken, ...]
    lessons: tuple[Lesson, ...]
    """What the run recalled when it began."""
    controls: tuple[Controlled, ...]
    """What users said to the run."""
    changes: tuple[IncumbentChanged, ...]
    """What came of their vetoes and pins."""
    budget: BudgetRead | None
    stage_s: dict[str, float]
    """Stage to its wall clock."""
    profiled: tuple[Profiled, ...]
    records: tuple[RecordLine, ...]
    sources: tuple[Source, ...]
    """Of the best kernel."""
    events: int


def gather(
    files: RunFiles, target: Target, attempts: tuple[Attempt, ...], best: Attempt | None
) -> Evidence:
    """Read what a report shows.

    Raises:
        RunDamaged: a file of the run cannot be read; names it.
    """
    plans = list(files.replies(Plan).values())
    reviews = list(files.replies(Review).values())
    researches = list(files.replies(Research).values())
    events = list(files.events.read())
    budgets = [event for event in events if isinstance(event, BudgetRead)]
    decisions = tuple(event for event in events if isinstance(event, DecisionTaken))
    plan = plans[-1] if plans else None
    ledger = _ledger(files, target, attempts, best, decisions)
    return Evidence(
        plan=plan,
        statuses={s.criterion_id: s for s in criteria.evaluate(plan, ledger)} if plan else {},
        review=reviews[-1] if reviews else None,
        inspection=inspection_of(files, best.attempt_id) if best else None,
        research=researches[-1] if researches else None,
        profiles=tuple(event for event in events if isinstance(event, ProfileRead)),
        predictions=tuple(event for event in events if isinstance(event, PredictionScored)),
        decisions=decisions,
        lessons=files.lessons() or (),
        controls=tuple(event for event in events if isinstance(event, Controlled)),
        changes=tuple(event for event in events if isinstance(event, IncumbentChanged)),
        budget=budgets[-1] if budgets else None,
        stage_s=_stage_seconds(event for event in events if isinstance(event, StageEnded)),
        profiled=tuple(_profiled(files, attempts, best)),
        records=tuple(sorted(_records(files, attempts), key=lambda line: line.started_at)),
        sources=_sources(files, best),
        events=len(events),
    )


def _ledger(
    files: RunFiles,
    target: Target,
    attempts: tuple[Attempt, ...],
    best: Attempt | None,
    decisions: tuple[DecisionTaken, ...],
) -> criteria.Ledger:
    """Return what the criteria of the plan are evaluated over."""
    jobs = [job for d in decisions if d.subject == "admission" for job in d.evidence]
    admitted = [outcome for job in jobs if isinstance(outcome := files.outcome(job), Admitted)]
    result = files.result()
    return criteria.Ledger(
        target=target,
        attempts=attempts,
        incumbent=best.attempt_id if best else "",
        admission=admitted[-1] if admitted else None,
        facts=files.facts(best.attempt_id) if best else None,
        final=result.best if result else (),
        plateau_events=tuple(
            d.key for d in decisions if d.subject == "plateau" and d.choice == "stop"
        ),
    )


def _stage_seconds(ended: Iterable[StageEnded]) -> dict[str, float]:
    """Return the wall clock of each stage, the longest first."""
    total: dict[str, float] = {}
    for event in ended:
        total[event.stage] = total.get(event.stage, 0.0) + event.seconds
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _profiled(
    files: RunFiles, attempts: tuple[Attempt, ...], best: Attempt | None
) -> Iterator[Profiled]:
    for attempt in attempts:
        facts = files.facts(attempt.attempt_id)
        if facts is not None and facts.roofline:
            yield Profiled(
                attempt_id=attempt.attempt_id,
                version=attempt.version,
                is_best=best is not None and attempt.attempt_id == best.attempt_id,
                roofline=facts.roofline,
            )


def _records(files: RunFiles, attempts: tuple[Attempt, ...]) -> Iterator[RecordLine]:
    owners = {attempt.candidate_digest: attempt.attempt_id for attempt in attempts}
    for path in sorted((files.root / "records").glob("[!.]*.json")):
        record = files.record(path.stem)
        owner = owners.get(record.candidate_digest, record.candidate_digest[:12])
        yield _record_line(path.stem, record, owner)


def _record_line(record_id: str, record: BenchRecord, candidate: str) -> RecordLine:
    return RecordLine(
        record_id=record_id,
        candidate=candidate,
        against=tuple(record.against),
        started_at=min((s.started_at for s in record.sittings), default=""),
        sittings=len(record.sittings),
        pairs=sum(len(series.candidate_us) for s in record.sittings for series in s.series),
        verified_outputs=sum(s.verified_outputs for s in record.sittings),
        pressure_percent=max((s.pressure_percent for s in record.sittings), default=0.0),
    )


def _sources(files: RunFiles, best: Attempt | None) -> tuple[Source, ...]:
    if best is None or not (files.root / "blobs" / best.candidate_digest).is_file():
        return ()
    return files.candidate(best.candidate_digest).sources
