"""Whose fault it is when a side's process fails: the candidate's, or ours. Pure."""

from typing import Final

from gpu_runner.device.process import ProcessFailed
from gpu_runner.errors import SubjectFailed
from gpu_runner.jobs import Reason

_OURS: Final = frozenset(
    {
        "CUDA_ERROR_OUT_OF_MEMORY",
        "CUDA_ERROR_NO_DEVICE",
        "CUDA_ERROR_NOT_INITIALIZED",
        "CUDA_ERROR_SYSTEM_NOT_READY",
        "CUDA_ERROR_DEVICES_UNAVAILABLE",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
    }
)
"""Driver errors that say nothing of a candidate."""
_MEANINGS: Final = {
    "CUDA_ERROR_ILLEGAL_ADDRESS": "it reached beyond its tensors, or wrote to an input",
    "CUDA_ERROR_MISALIGNED_ADDRESS": "an access was not aligned to its width; pointers are aligned"
    " to 16 bytes, rows need not be",
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": "too many registers or too much shared memory a block",
    "CUDA_ERROR_INVALID_VALUE": "the driver refused the launch: grid, block, cluster or shared"
    " memory",
    "CUDA_ERROR_INVALID_CLUSTER_SIZE": "the device cannot schedule clusters of this size",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "the cubin is for another architecture",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": "an instruction the device does not know, or `trap`",
}


def candidates_fault(error: ProcessFailed, role: str, timeout_s: float) -> SubjectFailed | None:
    """Return what the failure says of the side's candidate; None: it is our own.

    Args:
        error: how the process failed.
        role: `launcher` (cubins) or `baseline` (torch), whose own code may raise anything.
        timeout_s: what a call was given.
    """
    if error.kind == "plan":
        return SubjectFailed(Reason.LANGUAGE_MISMATCH, str(error))
    if error.kind == "silent":
        msg = f"a kernel did not end within {timeout_s:.0f} s"
        return SubjectFailed(Reason.TIMED_OUT, msg, error.log_tail)
    if error.kind == "driver" and error.name not in _OURS:
        meaning = _MEANINGS.get(error.name, "see the CUDA driver's error list")
        return SubjectFailed(Reason.CRASHED, f"{error}: {meaning}", error.log_tail)
    if role == "baseline":
        return SubjectFailed(Reason.CRASHED, str(error), error.log_tail)
    return None
