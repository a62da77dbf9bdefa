"""The build job."""

from pathlib import Path

from gpu_runner.jobs import Build, Built
from gpu_runner.tasks.sides import build_for


def build_job(job: Build, *, workspace: Path) -> Built:
    """Build into the cache.

    Raises:
        SubjectFailed: the builder refused the candidate.
        ToolchainMissing: nothing here can build this language.
    """
    artefact = build_for(job.problem, job.candidate, workspace=workspace, timeout_s=job.timeout_s)
    return Built(
        job_id=job.job_id,
        artefact_digest=artefact.digest,
        compiler=artefact.compiler,
        seconds=artefact.seconds,
        is_cached=artefact.is_cached,
        log_tail=artefact.log_tail,
    )
