"""The build job."""

from pathlib import Path
from typing import Final

from gpu_runner.jobs import Build, Built, BuiltFile
from gpu_runner.languages import Artefact
from gpu_runner.tasks.sides import build_for

DEVICE_CODE: Final = ("*.cubin", "kernels.json")
"""What runs wherever the device is the same; a shared object belongs to the processor it is of."""
MOST_FILE_BYTES: Final = 8 * 1024 * 1024
"""Of all files together: as text they fit into one message of the bus."""


def build_job(job: Build, *, workspace: Path) -> Built:
    """Build into the cache.

    Raises:
        SubjectFailed: the builder refused the candidate.
        ToolchainMissing: nothing here can build this language.
    """
    artefact = build_for(job.problem, job.candidate, workspace=workspace, timeout_s=job.timeout_s)
    files, withheld = _device_code(artefact) if job.returns_files else ((), "")
    return Built(
        job_id=job.job_id,
        artefact_digest=artefact.digest,
        compiler=artefact.compiler,
        seconds=artefact.seconds,
        is_cached=artefact.is_cached,
        log_tail=artefact.log_tail,
        files=files,
        files_withheld=withheld,
    )


def _device_code(artefact: Artefact) -> tuple[tuple[BuiltFile, ...], str]:
    """Return the files of an artefact that a repository keeps, or why it cannot have them."""
    paths = sorted(path for pattern in DEVICE_CODE for path in artefact.path.glob(pattern))
    size = sum(path.stat().st_size for path in paths)
    if size > MOST_FILE_BYTES:
        return (), (
            f"the device code has {size} bytes, and at most {MOST_FILE_BYTES} are sent; compile "
            "it where it is used"
        )
    return tuple(BuiltFile.of(path.name, path.read_bytes()) for path in paths), ""
