"""What archives carry: jobs on the way out, their outcomes and the machine on the way back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gpu_runner.archive import Contents, pack, program_version, unpack
from gpu_runner.errors import ArchiveError
from gpu_runner.jobs import JOB, AnyJob
from gpu_runner.records import Environment
from gpu_runner.spool import Spooled, parse_outcome

_ENVIRONMENT = "environment.json"
_JOBS = "jobs/"
_OUTCOMES = "outcomes/"
_SUFFIX = ".json"
_ORDER = ("admit", "build", "check", "sanitize", "bench", "profile")


@dataclass(frozen=True)
class JobArchive:
    """Jobs to run."""

    origin: str
    kernelpilot: str
    """Version of the program that wrote them."""
    jobs: tuple[AnyJob, ...]
    """In the order to run them: what is quick and may refuse a candidate first."""


@dataclass(frozen=True)
class ResultArchive:
    """Outcomes of jobs."""

    origin: str
    environment: Environment
    outcomes: Mapping[str, Spooled]
    """By job id."""
    contents: Mapping[str, bytes]
    """The same, as the bytes of spool files."""


def write_jobs(path: Path, origin: str, jobs: Iterable[AnyJob]) -> int:
    """Write an archive of jobs; return its bytes.

    Raises:
        ArchiveError: it cannot be written.
    """
    members = {f"{_JOBS}{job.job_id}{_SUFFIX}": job.model_dump_json().encode() for job in jobs}
    return pack(path, Contents.JOBS, origin, members)


def read_jobs(path: Path) -> JobArchive:
    """Return the jobs of an archive.

    Raises:
        ArchiveError: it cannot be used; says why.
    """
    archive = unpack(path, Contents.JOBS)
    by = archive.manifest.kernelpilot
    jobs = tuple(
        _job(path, _id_of(path, name, _JOBS), content, by)
        for name, content in archive.members.items()
    )
    ordered = sorted(jobs, key=lambda job: (_ORDER.index(job.kind), job.job_id))
    return JobArchive(archive.manifest.origin, by, tuple(ordered))


def write_results(
    path: Path, origin: str, environment: Environment, outcomes: Mapping[str, bytes]
) -> int:
    """Write an archive of results; return its bytes.

    Args:
        path: the file.
        origin: of the jobs.
        environment: the machine that ran them.
        outcomes: contents of spool files by job id.

    Raises:
        ArchiveError: it cannot be written.
    """
    members = {f"{_OUTCOMES}{job_id}{_SUFFIX}": content for job_id, content in outcomes.items()}
    members[_ENVIRONMENT] = environment.model_dump_json().encode()
    return pack(path, Contents.RESULTS, origin, members)


def read_results(path: Path) -> ResultArchive:
    """Return the outcomes of an archive, each verified against its own digest.

    Raises:
        ArchiveError: it cannot be used; says why.
    """
    archive = unpack(path, Contents.RESULTS)
    by = archive.manifest.kernelpilot
    contents = dict(archive.members)
    try:
        environment = Environment.model_validate_json(contents.pop(_ENVIRONMENT))
    except (KeyError, ValidationError) as error:
        raise _unreadable(path, _ENVIRONMENT, by) from error
    named = {_id_of(path, name, _OUTCOMES): content for name, content in contents.items()}
    outcomes = {job_id: _outcome(path, job_id, text, by) for job_id, text in named.items()}
    return ResultArchive(archive.manifest.origin, environment, outcomes, named)


def _job(path: Path, job_id: str, content: bytes, by: str) -> AnyJob:
    try:
        job = JOB.validate_json(content)
    except ValidationError as error:
        raise _unreadable(path, f"job {job_id}", by) from error
    if job.job_id != job_id:
        raise _unreadable(path, f"job {job_id} (it says {job.job_id})", by)
    return job


def _outcome(path: Path, job_id: str, content: bytes, by: str) -> Spooled:
    try:
        return parse_outcome(content, job_id)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"outcome of {job_id}", by) from error


def _id_of(path: Path, name: str, folder: str) -> str:
    if not name.startswith(folder):
        msg = f"{path} has {name} among its {folder.rstrip('/')}; it was not written by kernelpilot"
        raise ArchiveError(msg)
    return name.removeprefix(folder).removesuffix(_SUFFIX)


def _unreadable(path: Path, what: str, by: str) -> ArchiveError:
    mine = program_version()
    remedy = "make the archive again"
    if by != mine:
        remedy = f"it was written by kernelpilot {by}, this is {mine}: use one version on both ends"
    return ArchiveError(f"{path}: {what} cannot be read; {remedy}")
