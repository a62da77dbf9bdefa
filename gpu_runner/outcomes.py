"""What outcomes mean to the bus. Pure."""

from gpu_runner.jobs import AnyOutcome, Unserved


def is_final(outcome: AnyOutcome | None) -> bool:
    """Whether an outcome ends its job for good.

    `Unserved` does not: it was our fault, so a later submission of the job is a new try.
    """
    return outcome is not None and not isinstance(outcome, Unserved)


def cancelled(job_id: str) -> Unserved:
    """Return the outcome of a cancelled job; submitting it again runs it."""
    message = f"job {job_id!r} was cancelled"
    return Unserved(job_id=job_id, cause="cancelled", message=message, is_retryable=True)
