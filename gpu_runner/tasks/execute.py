"""The table of job kinds, and where a failure becomes an outcome with the right one at fault."""

import errno
from pathlib import Path
from typing import assert_never

from gpu_runner import languages
from gpu_runner.candidate import DEVICE_LANGUAGES
from gpu_runner.device.health import DeviceUnhealthy, healthy_device, unserved
from gpu_runner.device.session import DeviceTrouble
from gpu_runner.errors import DefinitionError, ReferenceFailed, SubjectFailed, ToolchainMissing
from gpu_runner.jobs import (
    Admit,
    AnyJob,
    AnyOutcome,
    Bench,
    Build,
    Check,
    Profile,
    Rejected,
    Sanitize,
    Stage,
    Unfit,
    Unserved,
)
from gpu_runner.oracle.admission import Unfitting
from gpu_runner.tasks.admit import admit_job
from gpu_runner.tasks.bench import bench
from gpu_runner.tasks.build import build_job
from gpu_runner.tasks.check import check
from gpu_runner.tasks.device_admit import device_admit
from gpu_runner.tasks.device_bench import device_bench
from gpu_runner.tasks.device_check import device_check
from gpu_runner.tasks.profile import profile
from gpu_runner.tasks.sanitize import sanitize
from gpu_runner.tasks.sides import ContenderFailed
from gpu_runner.tasks.verify import WrongResult

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def prepare() -> None:
    """Find out what many jobs ask for; a zygote of supervisors does it before it forks."""
    languages.prepare()


def execute(job: AnyJob, *, workspace: Path) -> AnyOutcome:
    """Run a job in this process and its subjects.

    Args:
        job: what to do.
        workspace: holds `cache/` (artefacts, hosts, ceilings) and `scratch/`; survives the job.

    Returns:
        The outcome; only a bug of ours leaves by an exception.
    """
    try:
        return _dispatch(job, workspace)
    except SubjectFailed as error:
        return Rejected(
            job_id=job.job_id,
            stage=Stage(job.kind),
            reason=error.reason,
            message=error.message,
            mismatch=error.mismatch if isinstance(error, WrongResult) else None,
            log_tail=error.log_tail,
        )
    except (DefinitionError, ReferenceFailed, Unfitting, ContenderFailed) as error:
        return Unfit(job_id=job.job_id, message=str(error))
    except (DeviceUnhealthy, DeviceTrouble, ToolchainMissing, OSError) as error:
        return _unserved(job, error, workspace)


def _unserved(
    job: AnyJob,
    error: DeviceUnhealthy | DeviceTrouble | ToolchainMissing | OSError,
    workspace: Path,
) -> Unserved:
    """Say what kept us from doing the job.

    Raises:
        OSError: a file problem that is a bug of ours, not a full disk.
    """
    if isinstance(error, DeviceUnhealthy):
        return unserved(job.job_id, error)
    if isinstance(error, ToolchainMissing):
        return Unserved(job_id=job.job_id, cause="no_tool", message=str(error), is_retryable=False)
    if isinstance(error, DeviceTrouble):
        msg = str(error)
        return Unserved(job_id=job.job_id, cause="internal_error", message=msg, is_retryable=True)
    if error.errno not in _NO_SPACE:
        raise error
    msg = f"no space left for {error.filename or workspace}; free some and resume"
    return Unserved(job_id=job.job_id, cause="no_space", message=msg, is_retryable=True)


def _on_device(job: Admit | Check | Bench, workspace: Path) -> AnyOutcome:
    with healthy_device():
        match job:
            case Admit():
                return device_admit(job, workspace=workspace)
            case Check():
                return device_check(job, workspace=workspace)
            case Bench():
                return device_bench(job, workspace=workspace)
            case _:
                assert_never(job)


def _dispatch(job: AnyJob, workspace: Path) -> AnyOutcome:  # noqa: PLR0911 - a table of kinds
    match job:
        case Admit(device="cuda"):
            return _on_device(job, workspace)
        case Check() | Bench() if job.candidate.language in DEVICE_LANGUAGES:
            return _on_device(job, workspace)
        case Admit():
            return admit_job(job, workspace=workspace)
        case Build():
            return build_job(job, workspace=workspace)
        case Check():
            return check(job, workspace=workspace)
        case Bench():
            return bench(job, workspace=workspace)
        case Profile():
            return profile(job, workspace=workspace)
        case Sanitize():
            return sanitize(job, workspace=workspace)
        case _:
            assert_never(job)
