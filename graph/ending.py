"""The result of a run that stops before its end, from its directory alone."""

import logging
from collections.abc import Iterable

from graph.economics import effort_to
from graph.events import AnyEvent, IncumbentChanged, Promoted
from graph.ledger import ExitReason, RunResult
from graph.meter import Meter
from graph.run_files import RunFiles

logger = logging.getLogger(__name__)


def broken_off(
    files: RunFiles, reason: ExitReason, message: str, meter: Meter | None = None
) -> RunResult:
    """Return how a run stands that stops here and can be driven on.

    Args:
        files: of the run.
        reason: one of `OPEN_ENDINGS`.
        message: why; how to go on is added.
        meter: of the process that drove it; without one the log says what was spent.
    """
    run_id = files.read_manifest().run_id
    logger.warning("run broken off run=%s reason=%s", run_id, reason.value)
    attempts = files.attempts()
    ended_rounds = max((attempt.round for attempt in attempts), default=0)
    spent = (meter or Meter(files.events.read(), lambda: 0.0)).spent(ended_rounds)
    best = incumbent_of(files.events.read())
    return RunResult(
        run_id=run_id,
        exit_reason=reason,
        message=f"{message}; `kernelpilot resume {run_id}` goes on",
        rounds=spent.rounds,
        attempts=len(attempts),
        wall_s=round(spent.wall_s, 3),
        job_s=round(spent.job_s, 3),
        tokens=spent.tokens,
        usd=round(spent.usd, 6),
        to_best=effort_to(files.events.read(), best),
        best_attempt=best or None,
    )


def incumbent_of(events: Iterable[AnyEvent]) -> str:
    """Return the attempt id that the log leaves as the incumbent; empty: none."""
    changes = [e.attempt_id for e in events if isinstance(e, Promoted | IncumbentChanged)]
    return changes[-1] if changes else ""
