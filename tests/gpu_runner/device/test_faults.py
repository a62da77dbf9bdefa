import pytest

from gpu_runner.device.faults import candidates_fault
from gpu_runner.device.process import ProcessFailed
from gpu_runner.jobs import Reason


def failed(kind, name="X", message="what it said"):
    return ProcessFailed(kind, name, message, "the log")


def fault_of(error, role="launcher", timeout_s=9.0):
    fault = candidates_fault(error, role, timeout_s)
    assert fault is not None
    return fault


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("CUDA_ERROR_ILLEGAL_ADDRESS", "beyond its tensors"),
        ("CUDA_ERROR_MISALIGNED_ADDRESS", "aligned"),
        ("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "registers"),
        ("CUDA_ERROR_NEVER_HEARD_OF", "error list"),
    ],
)
def test_what_a_kernel_does_is_the_candidates_fault_and_said_in_words(name, word):
    fault = fault_of(failed("driver", name, f"cuStreamSynchronize: {name}"))
    assert fault.reason is Reason.CRASHED
    assert name in fault.message
    assert word in fault.message
    assert fault.log_tail == "the log"


@pytest.mark.parametrize(
    "name", ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_ECC_UNCORRECTABLE"]
)
def test_what_the_device_does_is_not(name):
    assert candidates_fault(failed("driver", name), "launcher", 9) is None


def test_a_kernel_that_does_not_end_is_told_the_time_it_had():
    fault = fault_of(failed("silent"), timeout_s=20.0)
    assert fault.reason is Reason.TIMED_OUT
    assert "20 s" in fault.message


def test_a_plan_that_cannot_be_lowered_is_told_in_its_own_words():
    fault = fault_of(failed("plan", message="plan 0, launch 1 ('reduce')"))
    assert fault.reason is Reason.LANGUAGE_MISMATCH
    assert fault.message == "plan 0, launch 1 ('reduce')"


@pytest.mark.parametrize("kind", ["internal", "runner", "gone"])
def test_our_own_code_is_ours_in_a_launcher_and_the_baselines_in_a_baseline(kind):
    assert candidates_fault(failed(kind), "launcher", 9) is None
    assert fault_of(failed(kind), "baseline").reason is Reason.CRASHED
