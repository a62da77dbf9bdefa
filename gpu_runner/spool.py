"""Outcomes on disk: what makes a job that has finished never run again.

One file per job, written by the job's own child before anybody is told, complete or absent. It is
kept until the run's directory goes: a broker, a worker or a client that was restarted is answered
from here.
"""

import hashlib
import json
import logging
import os
import secrets
from pathlib import Path

from pydantic import JsonValue

from gpu_runner.jobs import AnyOutcome
from gpu_runner.lock import lock_file
from gpu_runner.message import Digest, Message, canonical_json
from gpu_runner.outcomes import is_final

logger = logging.getLogger(__name__)

MOST_LISTED = 16_384
"""Newest outcomes told to a broker at registration: 16,384 ids are less than 1 MiB."""


class Spooled(Message):
    """The content of one file."""

    spec_digest: Digest
    """Of the job, so that an id used for another job is seen."""
    token: int
    """Of the lease under which it was run."""
    outcome: AnyOutcome
    outcome_digest: Digest
    """sha256 of the outcome's canonical JSON as it stands in the file."""


def write_outcome(
    path: Path, outcome: AnyOutcome, *, spec_digest: str, token: int, is_flushed: bool = True
) -> None:
    """Write a spool file so that it is complete or not there, whenever the machine stops.

    Args:
        path: of the file.
        outcome: what came of the job.
        spec_digest: of the job.
        token: of the lease.
        is_flushed: wait for the disk. Else a machine that stops may lose the file or leave a
            damaged one, which is found: a worker keeps such files in a log (`spool_log.py`).

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    content = encode_outcome(outcome, spec_digest=spec_digest, token=token)
    write_file(path, content, is_flushed=is_flushed)


def encode_outcome(outcome: AnyOutcome, *, spec_digest: str, token: int) -> bytes:
    """Return the content of a spool file."""
    body = outcome.model_dump(mode="json")
    content = {
        "spec_digest": spec_digest,
        "token": token,
        "outcome": body,
        "outcome_digest": _digest(body),
    }
    return json.dumps(content, allow_nan=False).encode()


def parse_outcome(content: bytes, job_id: str) -> Spooled:
    """Return what a spool file of this job says.

    Raises:
        ValueError, RecursionError: it is damaged, or another job's.
    """
    spooled = Spooled.model_validate_json(content)
    if spooled.outcome_digest != _digest(json.loads(content)["outcome"]):
        msg = "its content does not match its digest"
        raise ValueError(msg)
    if spooled.outcome.job_id != job_id:
        msg = f"it belongs to job {spooled.outcome.job_id!r}"
        raise ValueError(msg)
    return spooled


def write_file(path: Path, content: bytes, *, is_flushed: bool = True) -> None:
    """Replace a file by `content` in one step; with `is_flushed`, on disk before this returns.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    draft = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content)
            if is_flushed:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    if not is_flushed:
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Spool:
    """The outcomes of one workspace."""

    def __init__(self, workspace: Path) -> None:
        self.folder = workspace / "spool"
        """Of the files; workers keep their locks and logs there too."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def lock(self, worker: str, *, patience_s: float) -> int:
        """Make this process the only worker of that name here; return the lock's descriptor.

        Raises:
            PoolError: another worker, or a child of it, has it for longer than `patience_s`.
        """
        return lock_file(self.folder / f"{worker}.lock", patience_s=patience_s)

    def path(self, job_id: str) -> Path:
        """Return where a job's outcome is, or would be."""
        return self.folder / f"{job_id}.json"

    def job_ids(self) -> tuple[str, ...]:
        """Return the ids that have a file, newest last, at most MOST_LISTED."""
        dated = sorted((path.stat().st_mtime_ns, path.stem) for path in self.folder.glob("*.json"))
        return tuple(job_id for _, job_id in dated[-MOST_LISTED:])

    def find(self, job_id: str) -> Spooled | None:
        """Return what ended the job for good; None when it has to run.

        An `Unserved` ends nothing: the next submission is a new try.
        """
        spooled = self.read(job_id)
        return spooled if spooled is not None and is_final(spooled.outcome) else None

    def read(self, job_id: str) -> Spooled | None:
        """Return the job's file; one that is truncated or corrupt is moved to `quarantine/`."""
        text = self.content(job_id)
        if text is None:
            return None
        try:
            return parse_outcome(text, job_id)
        except (ValueError, RecursionError) as error:
            self._quarantine(self.path(job_id), error)
            return None

    def content(self, job_id: str) -> bytes | None:
        """Return the job's file as it is, None where there is none."""
        try:
            return self.path(job_id).read_bytes()
        except FileNotFoundError:
            return None

    def _quarantine(self, path: Path, error: Exception) -> None:
        place = self.folder / "quarantine"
        place.mkdir(exist_ok=True)
        target = place / f"{path.name}.{secrets.token_hex(4)}"
        path.replace(target)
        logger.warning("spool file is damaged, moved to %s; the job runs again: %s", target, error)


def _digest(body: JsonValue) -> str:
    return hashlib.sha256(canonical_json(body)).hexdigest()
