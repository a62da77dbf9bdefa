"""The folder between an orchestrator and its archives: what waits to go, and what has come back.

    pending/<job-id>.json    a job that nobody has an outcome of
    spool/<job-id>.json      an outcome, exactly as the worker of the other machine wrote it
    environment.json         the machine of the last results

A job leaves `pending/` when its outcome is in `spool/`. Every step may be repeated.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gpu_runner.archive_content import ResultArchive, read_results, write_jobs
from gpu_runner.child import is_disk_full
from gpu_runner.errors import ArchiveError
from gpu_runner.jobs import JOB, AnyJob, AnyOutcome, Unserved
from gpu_runner.message import digest_of
from gpu_runner.outcomes import is_final
from gpu_runner.records import Environment
from gpu_runner.spool import Spool, Spooled, write_file

_PENDING = "pending"


@dataclass(frozen=True)
class Imported:
    """What an import brought."""

    origin: str
    new: tuple[AnyOutcome, ...]
    known: int
    """Outcomes that were here before."""
    waiting: int
    """Jobs that still have no outcome."""
    machine_before: str
    """Machine of earlier results, where it is another one."""
    environment: Environment

    @property
    def unserved(self) -> tuple[Unserved, ...]:
        """New outcomes that end nothing."""
        return tuple(outcome for outcome in self.new if isinstance(outcome, Unserved))


class Exchange:
    """One exchange folder; it is made when something is put into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pending = folder / _PENDING

    @property
    def is_there(self) -> bool:
        """Whether a job was ever put here."""
        return self._pending.is_dir()

    def put(self, job: AnyJob) -> None:
        """Let a job wait for its outcome.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self._path(job.job_id)
        content = job.model_dump_json().encode()
        if not path.exists() or path.read_bytes() != content:
            self._pending.mkdir(parents=True, exist_ok=True)
            write_file(path, content)

    def outcome(self, job: AnyJob) -> AnyOutcome | None:
        """Return how a job ended, also where it was not served; None while it waits.

        Raises:
            ArchiveError: there is an outcome, of another job of this id.
        """
        spooled = self._spool().read(job.job_id)
        if spooled is None:
            return None
        if spooled.spec_digest != digest_of(job):
            raise _not_this_job(job.job_id, self.folder)
        return spooled.outcome

    def take(self, job: AnyJob) -> AnyOutcome | None:
        """Return how a job ended, and let it wait no more; see `outcome`."""
        outcome = self.outcome(job)
        if outcome is not None:
            self._path(job.job_id).unlink(missing_ok=True)
        return outcome

    def pending(self) -> tuple[AnyJob, ...]:
        """Return the jobs that have to run, in order of their ids.

        Raises:
            ArchiveError: one cannot be read.
        """
        jobs = (self._read(path) for path in sorted(self._pending.glob("[!.]*.json")))
        spool = self._spool()
        return tuple(job for job in jobs if spool.find(job.job_id) is None)

    def environment(self) -> Environment | None:
        """Return the machine of the last results; None before any."""
        try:
            return Environment.model_validate_json((self.folder / "environment.json").read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error
        except ValidationError as error:
            msg = f"{self.folder / 'environment.json'} is damaged; import the results again"
            raise ArchiveError(msg) from error

    def export(self, path: Path, origin: str) -> tuple[AnyJob, ...]:
        """Write what is pending into an archive; return it.

        Raises:
            ArchiveError: nothing is pending, or the archive cannot be written.
        """
        jobs = self.pending()
        if not jobs:
            msg = (
                f"no job of {origin} waits in {self.folder}; "
                "a run whose results are all here goes on with `kernelpilot resume`"
            )
            raise ArchiveError(msg)
        write_jobs(path, origin, jobs)
        return jobs

    def take_in(self, path: Path) -> Imported:
        """Take in the results of jobs that went out from here; again has no effect.

        Everything is verified before anything is written.

        Raises:
            ArchiveError: the archive is damaged, or has an outcome of a job that is not ours;
                nothing was taken in. Or the disk is full; import it again.
        """
        results = read_results(path)
        new = self._new(path, results)
        before = self.environment() or results.environment
        try:
            for job_id in new:
                self._keep(job_id, results)
            self.folder.mkdir(parents=True, exist_ok=True)
            content = results.environment.model_dump_json().encode()
            write_file(self.folder / "environment.json", content)
        except OSError as error:
            msg = f"cannot write into {self.folder}: {error.strerror}; then import {path} again"
            raise ArchiveError(msg) from error
        return Imported(
            origin=results.origin,
            new=tuple(results.outcomes[job_id].outcome for job_id in new),
            known=len(results.outcomes) - len(new),
            waiting=len(self.pending()),
            machine_before="" if before.machine == results.environment.machine else before.machine,
            environment=results.environment,
        )

    def _new(self, path: Path, results: ResultArchive) -> tuple[str, ...]:
        """Return the ids whose outcomes are worth keeping; refuse one that answers another job."""
        new = []
        spool = self._spool()
        for job_id, result in results.outcomes.items():
            is_pending = self._path(job_id).exists()
            here = spool.read(job_id)
            if is_pending:
                expected = digest_of(self._read(self._path(job_id)))
            elif here is not None:
                expected = here.spec_digest
            else:
                msg = f"{path} has an outcome of {job_id}, which never went out from {self.folder}"
                raise ArchiveError(msg)
            if result.spec_digest != expected:
                raise _not_this_job(job_id, path)
            if is_pending and _is_better(result, here):
                new.append(job_id)
        return tuple(new)

    def _keep(self, job_id: str, results: ResultArchive) -> None:
        write_file(self._spool().path(job_id), results.contents[job_id])
        if is_final(results.outcomes[job_id].outcome):
            self._path(job_id).unlink(missing_ok=True)

    def _read(self, path: Path) -> AnyJob:
        try:
            return JOB.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            msg = f"{path} is damaged; delete it and resume the run, which writes it again"
            raise ArchiveError(msg) from error

    def _path(self, job_id: str) -> Path:
        return self._pending / f"{job_id}.json"

    def _spool(self) -> Spool:
        try:
            return Spool(self.folder)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> ArchiveError:
        return ArchiveError(f"exchange folder {self.folder}: {error.strerror}; name another")


def origin_in(path: Path) -> str:
    """Return the name of the run or batch whose results an archive holds.

    Raises:
        ArchiveError: the archive cannot be used.
    """
    return read_results(path).origin


def _is_better(result: Spooled, here: Spooled | None) -> bool:
    """Whether a result says more of a pending job than what is here."""
    if here is None:
        return True
    return not is_final(here.outcome) and result.outcome_digest != here.outcome_digest


def _not_this_job(job_id: str, place: Path) -> ArchiveError:
    return ArchiveError(
        f"the outcome of {job_id} in {place} is of another job of this id: its candidate, shapes "
        "or plan differ, or another version of kernelpilot ran it; results go back to where their "
        "jobs came from, with one version on both ends"
    )
