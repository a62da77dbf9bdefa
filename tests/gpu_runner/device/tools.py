"""Doubles of NVIDIA's programs and of NVML, which a machine without a device does not have."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gpu_runner.device.machine import DeviceFacts, DeviceState

DATA = Path(__file__).parents[2] / "data"
UUID = "GPU-00000000-1111-2222-3333-444444444444"


def write_tool(folder: Path, name: str, body: str) -> Path:
    """Put an executable Python program on disk under the name of a tool."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}")
    path.chmod(0o755)
    return path


def make_state(**changes) -> DeviceState:
    """An idle device with nothing wrong."""
    values = {
        "uuid": UUID,
        "driver": "580.1",
        "sm_mhz": 345,
        "max_sm_mhz": 1980,
        "memory_mhz": 3201,
        "max_memory_mhz": 3201,
        "power_w": 79.0,
        "power_limit_w": 700.0,
        "temperature_c": 39,
        "throttles": (),
        "ecc_uncorrected": 0,
        "is_remap_pending": False,
        "has_remap_failed": False,
    }
    return DeviceState(**{**values, **changes})


def make_facts(**changes) -> DeviceFacts:
    """An H200."""
    values = {
        "index": 0,
        "uuid": UUID,
        "name": "NVIDIA H200",
        "arch": "sm_90a",
        "memory_bytes": 150_109_880_320,
        "multiprocessors": 132,
        "l2_bytes": 62_914_560,
        "cuda": "13.0",
        "state": make_state(),
    }
    return DeviceFacts(**{**values, **changes})


class NvmlError(Exception):
    """What the binding raises."""


class Nvml:
    """The part of `pynvml` that is used; each device is a dictionary of answers."""

    NVMLError = NvmlError
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    nvmlEventTypeXidCriticalError = 8  # noqa: N815 - the binding's name

    def __init__(self, *devices: dict[str, Any]) -> None:
        self.devices = list(devices)
        self.xids: list[int] = []
        self.started = 0
        self.refuses_events = False

    def nvmlInit(self):  # noqa: N802 - the binding's name, as all below
        self.started += 1

    def nvmlShutdown(self):  # noqa: N802 - NVML's name
        self.started -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802 - NVML's name
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802 - NVML's name
        if self.devices[index].get("is_lost"):
            raise NvmlError("GPU is lost")
        return self.devices[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802 - NVML's name
        return next(d for d in self.devices if d["uuid"] == uuid)

    def nvmlDeviceGetUUID(self, device):  # noqa: N802 - NVML's name
        return device["uuid"]

    def nvmlSystemGetDriverVersion(self):  # noqa: N802 - NVML's name
        return b"580.1"

    def _answer(self, device, name):
        if name not in device:
            raise NvmlError("Not Supported")
        return device[name]

    def nvmlDeviceGetClockInfo(self, device, kind):  # noqa: N802 - NVML's name
        return self._answer(device, f"clock{kind}")

    def nvmlDeviceGetMaxClockInfo(self, device, kind):  # noqa: N802 - NVML's name
        return self._answer(device, f"max_clock{kind}")

    def nvmlDeviceGetPowerUsage(self, device):  # noqa: N802 - NVML's name
        return self._answer(device, "milliwatts")

    def nvmlDeviceGetTemperature(self, device, kind):  # noqa: N802 - NVML's name
        return self._answer(device, "temperature")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device):  # noqa: N802 - NVML's name
        return self._answer(device, "throttles")

    def nvmlDeviceGetTotalEccErrors(self, device, kind, counter):  # noqa: N802 - NVML's name
        return self._answer(device, "ecc")

    def nvmlDeviceGetRemappedRows(self, device):  # noqa: N802 - NVML's name
        return self._answer(device, "rows")

    def nvmlEventSetCreate(self):  # noqa: N802 - NVML's name
        return "events"

    def nvmlDeviceRegisterEvents(self, device, kind, events):  # noqa: N802 - NVML's name
        if self.refuses_events:
            raise NvmlError("Not Supported")

    def nvmlEventSetWait_v2(self, events, milliseconds):  # noqa: N802 - NVML's name
        if not self.xids:
            raise NvmlError("Timeout")
        return SimpleNamespace(eventData=self.xids.pop(0))

    def nvmlEventSetFree(self, events):  # noqa: N802 - NVML's name
        pass


def make_device(**changes) -> dict[str, Any]:
    """What NVML answers for one sound device."""
    values = {
        "uuid": UUID,
        "clock1": 1980,
        "clock2": 3201,
        "max_clock1": 1980,
        "max_clock2": 3201,
        "milliwatts": 79_083,
        "temperature": 39,
        "throttles": 0x1,
        "ecc": 0,
        "rows": (0, 0, 0, 0),
    }
    return {**values, **changes}
