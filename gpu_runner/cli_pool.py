"""Commands for whoever runs a pool: its state, its events, and orders to it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpu_runner.cli_keys import OwnKeys

if TYPE_CHECKING:
    from gpu_runner.operations import Event, Pruned, Quantiles, Surveyed

Endpoint = Annotated[
    str, typer.Option(help="Where the broker listens; see `broker`.", metavar="URL")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Patience = Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.1)]
Worker = Annotated[str, typer.Argument(help="Its name.", metavar="WORKER")]
Reason = Annotated[str, typer.Option(help="Why; shown by `status`.", metavar="TEXT")]
_PATIENCE_S = 10.0


def status(
    endpoint: Endpoint,
    *,
    as_json: AsJson = False,
    patience_s: Patience = _PATIENCE_S,
    keys: OwnKeys = None,
) -> None:
    """Say how a pool stands: workers, queue, how long jobs wait and run, what fails.

    What to do about it is in docs/runbook.md. Exit code: 3 when no broker answers.
    """
    from gpu_runner.console import Console  # noqa: PLC0415 - help loads nothing heavy

    with Console(endpoint, patience_s=patience_s, keys=keys) as console:
        surveyed = console.survey()
    typer.echo(surveyed.model_dump_json() if as_json else _state_in_words(surveyed))


def events(
    endpoint: Endpoint,
    *,
    follow: Annotated[bool, typer.Option(help="Go on with what happens from now on.")] = False,
    after: Annotated[
        int,
        typer.Option(help="Begin after this event. 0: with the oldest that is kept.", min=0),
    ] = 0,
    snapshot: Annotated[
        bool,
        typer.Option(help="Print the state of now first and begin after it, instead of --after."),
    ] = False,
    as_json: AsJson = False,
    patience_s: Patience = _PATIENCE_S,
    keys: OwnKeys = None,
) -> None:
    """Print what happened to jobs and workers, one line an event, each once and in order.

    Where events are not kept any more, a line says so: `history pruned`.
    """
    from gpu_runner.console import Console  # noqa: PLC0415 - help loads nothing heavy

    with Console(endpoint, patience_s=patience_s, keys=keys) as console:
        surveyed = console.survey()
        if snapshot:
            after = surveyed.last_seq
            typer.echo(surveyed.model_dump_json() if as_json else _state_in_words(surveyed))
        items = console.follow(after, surveyed.events) if follow else console.history(after)
        try:
            for item in items:
                typer.echo(item.model_dump_json() if as_json else _in_words(item))
        except KeyboardInterrupt:
            raise typer.Exit from None


def drain(
    worker: Worker,
    endpoint: Endpoint,
    *,
    reason: Reason = "",
    as_json: AsJson = False,
    patience_s: Patience = _PATIENCE_S,
    keys: OwnKeys = None,
) -> None:
    """Give a worker no further job; it finishes what it has. Undone by `release`."""
    _order("drain", worker, endpoint, patience_s, keys, reason=reason, as_json=as_json)


def quarantine(
    worker: Worker,
    endpoint: Endpoint,
    *,
    reason: Reason = "",
    as_json: AsJson = False,
    patience_s: Patience = _PATIENCE_S,
    keys: OwnKeys = None,
) -> None:
    """Give a worker no further job because it is suspected; see `drain`. Undone by `release`."""
    _order("quarantine", worker, endpoint, patience_s, keys, reason=reason, as_json=as_json)


def release(
    worker: Worker,
    endpoint: Endpoint,
    *,
    as_json: AsJson = False,
    patience_s: Patience = _PATIENCE_S,
    keys: OwnKeys = None,
) -> None:
    """Give a drained or quarantined worker jobs again."""
    _order("release", worker, endpoint, patience_s, keys, as_json=as_json)


def requeue(
    job: Annotated[str, typer.Argument(help="Its id.", metavar="JOB")],
    endpoint: Endpoint,
    *,
    as_json: AsJson = False,
    patience_s: Patience = _PATIENCE_S,
    keys: OwnKeys = None,
) -> None:
    """Run a job anew: one that runs is killed first, one that could not be served is queued again.

    A job that has a result is not run again.
    """
    _order("requeue", job, endpoint, patience_s, keys, as_json=as_json)


COMMANDS = (status, events, drain, quarantine, release, requeue)


def _order(
    action: str,
    subject: str,
    endpoint: str,
    patience_s: float,
    keys: Path | None,
    *,
    reason: str = "",
    as_json: bool,
) -> None:
    from pydantic import ValidationError  # noqa: PLC0415 - help loads nothing heavy

    from gpu_runner.console import Console  # noqa: PLC0415 - same
    from gpu_runner.operations import Action  # noqa: PLC0415 - same

    with Console(endpoint, patience_s=patience_s, keys=keys) as console:
        try:
            message = console.manage(Action(action), subject, reason)
        except ValidationError as error:
            raise typer.BadParameter(f"{subject!r} names no worker and no job") from error
    typer.echo(json.dumps({"message": message}) if as_json else message)


def _in_words(item: "Event | Pruned") -> str:
    if item.kind == "pruned":
        return (
            f"history pruned: of the events after {item.after_seq}, {item.first_seq} is the first"
        )
    at = datetime.fromtimestamp(item.at_s, UTC).isoformat(timespec="milliseconds")
    parts = [f"{item.seq} {at} {item.change}"]
    parts += [f"job={item.job_id}"] if item.job_id else []
    parts += [f"worker={item.worker}"] if item.worker else []
    parts += [f"({item.detail})"] if item.detail else []
    return " ".join(parts)


def _state_in_words(surveyed: "Surveyed") -> str:
    kept = "kept in a database" if surveyed.is_kept else "in memory"
    head = (
        f"broker: epoch {surveyed.epoch}, up {surveyed.up_s:.0f} s, jobs {kept}, "
        f"event {surveyed.last_seq}, {surveyed.unkept_messages} messages wait for the disk"
    )
    lines = [head]
    lines += [f"malformed messages: {n} ({reason})" for reason, n in surveyed.malformed.items()]
    lines.append(f"workers: {len(surveyed.workers)}")
    for worker in surveyed.workers:
        state = worker.restriction or ("draining" if worker.is_draining else "")
        state = state or ("expected" if not worker.machine else "")
        lines.append(
            f"  {worker.worker}: {len(worker.jobs)} of {worker.slots} slots, heard "
            f"{worker.silent_s:.1f} s ago, {' '.join(worker.tags)}{f' [{state}]' if state else ''}"
        )
    lines.append(f"waiting: {sum(line.jobs for line in surveyed.waiting)}")
    lines += [
        f"  {w.job} of priority {w.priority}: {w.jobs}, the oldest for {w.oldest_s:.1f} s"
        for w in surveyed.waiting
    ]
    lines.append(f"sessions with unfinished jobs: {len(surveyed.sessions)}")
    lines += [f"  {session.session}: {session.unfinished}" for session in surveyed.sessions]
    for served in surveyed.served:
        causes = ", ".join(f"{n} {cause}" for cause, n in sorted(served.causes.items()))
        lines.append(
            f"last {served.count} of {served.job}: waited {_spread(served.wait)}, ran "
            f"{_spread(served.run)}; {served.rejected_fraction:.1%} rejected, "
            f"{served.unserved_fraction:.1%} unserved{f' ({causes})' if causes else ''}"
        )
    return "\n".join(lines)


def _spread(quantiles: "Quantiles | None") -> str:
    if quantiles is None:
        return "-"
    return f"{quantiles.p50_s:.3g}/{quantiles.p90_s:.3g}/{quantiles.p99_s:.3g} s"
