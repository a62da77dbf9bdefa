"""The GPUs of this machine: what they are, and how they do at this moment.

What a device is comes from the CUDA driver, asked by a program of its own (`probe.py`) so that no
process here holds a context; how it does comes from NVML, else from nvidia-smi, else from nobody.
What nobody says is None, never zero. Nothing here changes a setting of a device.
"""

import csv
import functools
import importlib
import importlib.metadata
import json
import logging
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_runner.device import ncu
from gpu_runner.host import machine as host_machine
from gpu_runner.message import Message
from gpu_runner.records import Environment

logger = logging.getLogger(__name__)

PROBE = Path(__file__).with_name("probe.py")
PROBE_TIMEOUT_S = 30.0
_SMI_TIMEOUT_S = 20.0
_ARCH_SPECIFIC_SINCE = 9
"""From this major version on code is built for the very chip: `sm_90a` has what `sm_90` lacks."""

_THROTTLES = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of the clock event reasons that slow a device down. Source: nvml.h."""

_SMI_FIELDS = {
    "uuid": "uuid",
    "name": "name",
    "driver_version": "driver",
    "clocks.sm": "sm_mhz",
    "clocks.max.sm": "max_sm_mhz",
    "clocks.mem": "memory_mhz",
    "clocks.max.mem": "max_memory_mhz",
    "power.draw": "power_w",
    "power.limit": "power_limit_w",
    "temperature.gpu": "temperature_c",
    "clocks_throttle_reasons.active": "throttles",
    "ecc.errors.uncorrected.volatile.total": "ecc_uncorrected",
    "remapped_rows.pending": "is_remap_pending",
    "remapped_rows.failure": "has_remap_failed",
}


class DeviceState(Message):
    """How a device does now; None where neither NVML nor nvidia-smi says."""

    uuid: str
    driver: str = ""
    sm_mhz: int | None = None
    max_sm_mhz: int | None = None
    memory_mhz: int | None = None
    max_memory_mhz: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: int | None = None
    throttles: tuple[str, ...] | None = None
    """What slows it down, in words; empty: nothing does."""
    ecc_uncorrected: int | None = None
    """Uncorrected memory errors since the driver was loaded."""
    is_remap_pending: bool | None = None
    """Memory rows wait to be replaced by spare ones at the next reset."""
    has_remap_failed: bool | None = None


class DeviceFacts(Message):
    """One GPU that CUDA programs of this environment see."""

    index: int
    """CUDA ordinal."""
    uuid: str
    name: str
    arch: str
    """`sm_90a`."""
    memory_bytes: int
    multiprocessors: int
    l2_bytes: int
    cuda: str
    """Newest CUDA version that the driver serves."""
    state: DeviceState | None = None


@functools.cache
def identities() -> tuple[DeviceFacts, ...]:
    """Return the devices CUDA sees, without their state; empty where there is no driver."""
    try:
        said = subprocess.run(
            [sys.executable, "-I", "-B", str(PROBE)],
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        logger.warning("the CUDA driver does not answer within %.0f s", PROBE_TIMEOUT_S)
        return ()
    if said.returncode != 0:
        logger.info("no device: %s", said.stderr.strip()[-300:])
        return ()
    return tuple(_identity(values) for values in json.loads(said.stdout))


def devices() -> tuple[DeviceFacts, ...]:
    """Return the devices CUDA sees, with their state of now, in CUDA's order."""
    known = identities()
    states = states_by_uuid() if known else {}
    return tuple(facts.model_copy(update={"state": states.get(facts.uuid)}) for facts in known)


def states_by_uuid() -> dict[str, DeviceState]:
    """Return the state of every device of the machine, also of those hidden from CUDA."""
    from_nvml = _nvml_states()
    return _smi_states() if from_nvml is None else from_nvml


@functools.cache
def device_environment() -> Environment | None:
    """Return what a record says of the first device and of the machine around it.

    None without a device. The processor's fields stay those of the processor; clocks are the
    device's highest, since those of now are no property of the machine.
    """
    known = devices()
    if not known:
        return None
    facts, host = known[0], host_machine.environment()
    return host.model_copy(
        update={
            "machine": facts.name,
            "arch": facts.arch,
            "memory_bytes": facts.memory_bytes,
            "kernel": _kernel_line(facts),
            "compiler": _tools_line(),
            "torch": _version_of("torch"),
            "governor": _clocks_line(facts.state),
        }
    )


def arch_of(major: int, minor: int) -> str:
    """Return the architecture to compile for: `sm_80`, `sm_90a`."""
    return f"sm_{major}{minor}{'a' if major >= _ARCH_SPECIFIC_SINCE else ''}"


def nvml() -> Any:
    """Return the NVML binding, initialised, or None where there is none."""
    try:
        library = importlib.import_module("pynvml")
        library.nvmlInit()
    except ImportError:
        return None
    except library.NVMLError as error:
        logger.info("NVML does not start: %s", error)
        return None
    return library


def smi_states(table: str) -> dict[str, DeviceState]:
    """Read `nvidia-smi --query-gpu=... --format=csv,noheader,nounits`; pure."""
    found = {}
    for row in csv.reader(table.splitlines(), skipinitialspace=True):
        if len(row) != len(_SMI_FIELDS):
            continue
        values = dict(zip(_SMI_FIELDS.values(), row, strict=True))
        values.pop("name")
        state = DeviceState(
            uuid=values.pop("uuid"),
            driver=values.pop("driver"),
            throttles=_throttles(_number(values.pop("throttles"), lambda text: int(text, 16))),
            is_remap_pending=_claim(values.pop("is_remap_pending")),
            has_remap_failed=_claim(values.pop("has_remap_failed")),
            power_w=_number(values.pop("power_w"), float),
            power_limit_w=_number(values.pop("power_limit_w"), float),
            **{name: _number(text, int) for name, text in values.items()},
        )
        found[state.uuid] = state
    return found


def _identity(values: Mapping[str, Any]) -> DeviceFacts:
    rest = {name: value for name, value in values.items() if name not in {"major", "minor"}}
    return DeviceFacts(arch=arch_of(values["major"], values["minor"]), **rest)


@dataclass(frozen=True)
class _Asking:
    """Asks NVML about one device; what it does not serve here is None."""

    library: Any
    handle: Any

    def __call__(self, name: str, *arguments: Any) -> Any:
        ask = getattr(self.library, name, None)
        if ask is None:
            return None
        try:
            return ask(self.handle, *arguments)
        except self.library.NVMLError:
            return None


def _nvml_states() -> dict[str, DeviceState] | None:
    library = nvml()
    if library is None:
        return None
    try:
        found = {}
        for index in range(library.nvmlDeviceGetCount()):
            state = _nvml_state(library, index)
            if state is not None:
                found[state.uuid] = state
    finally:
        library.nvmlShutdown()
    return found


def _nvml_state(library: Any, index: int) -> DeviceState | None:
    """Return a device's state, or None for one that is there no more."""
    try:
        handle = library.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(library.nvmlDeviceGetUUID(handle))
    except library.NVMLError as error:
        logger.warning("device %d does not answer: %s", index, error)
        return None
    ask = _Asking(library, handle)
    milliwatts = ask("nvmlDeviceGetPowerUsage")
    limit = ask("nvmlDeviceGetEnforcedPowerLimit")
    rows = ask("nvmlDeviceGetRemappedRows")
    return DeviceState(
        uuid=uuid,
        driver=_text(library.nvmlSystemGetDriverVersion()),
        sm_mhz=ask("nvmlDeviceGetClockInfo", library.NVML_CLOCK_SM),
        max_sm_mhz=ask("nvmlDeviceGetMaxClockInfo", library.NVML_CLOCK_SM),
        memory_mhz=ask("nvmlDeviceGetClockInfo", library.NVML_CLOCK_MEM),
        max_memory_mhz=ask("nvmlDeviceGetMaxClockInfo", library.NVML_CLOCK_MEM),
        power_w=None if milliwatts is None else milliwatts / 1e3,
        power_limit_w=None if limit is None else limit / 1e3,
        temperature_c=ask("nvmlDeviceGetTemperature", library.NVML_TEMPERATURE_GPU),
        throttles=_throttles(ask("nvmlDeviceGetCurrentClocksThrottleReasons")),
        ecc_uncorrected=ask(
            "nvmlDeviceGetTotalEccErrors",
            library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            library.NVML_VOLATILE_ECC,
        ),
        is_remap_pending=None if rows is None else bool(rows[2]),
        has_remap_failed=None if rows is None else bool(rows[3]),
    )


def _smi_states() -> dict[str, DeviceState]:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return {}
    try:
        said = subprocess.run(
            [smi, f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_SMI_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {}
    return smi_states(said.stdout) if said.returncode == 0 else {}


def _throttles(bits: int | None) -> tuple[str, ...] | None:
    if bits is None:
        return None
    return tuple(name for bit, name in _THROTTLES.items() if bits & bit)


def _number(text: str, read: Callable[[str], Any]) -> Any:
    """Return the number, or None for `[N/A]`, `[Not Supported]` and their like."""
    try:
        return read(text)
    except ValueError:
        return None


def _claim(text: str) -> bool | None:
    return {"yes": True, "no": False, "1": True, "0": False}.get(text.lower())


def _text(value: str | bytes) -> str:
    """Older bindings answer with bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _kernel_line(facts: DeviceFacts) -> str:
    driver = facts.state.driver if facts.state else ""
    parts = [platform.release(), f"driver {driver}" if driver else "", f"CUDA {facts.cuda}"]
    return ", ".join(part for part in parts if part)


def _tools_line() -> str:
    found = {name: _version_of(package) for name, package in _PACKAGES.items()}
    tool = ncu.capability()
    found["ncu"] = "" if tool.refusal else tool.version
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


_PACKAGES = {
    "nvrtc": "nvidia-cuda-nvrtc",
    "triton": "triton",
    "cuda-bindings": "cuda-bindings",
}


def _clocks_line(state: DeviceState | None) -> str:
    if state is None or state.max_sm_mhz is None:
        return ""
    memory = "" if state.max_memory_mhz is None else f", memory {state.max_memory_mhz} MHz"
    return f"at most SM {state.max_sm_mhz} MHz{memory}"


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
