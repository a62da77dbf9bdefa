"""What the GPU tier has and lacks on this machine, and what to do about it. No CUDA here."""

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from gpu_runner.device import ncu, sanitizer
from gpu_runner.device.health import fault, read_device
from gpu_runner.device.machine import DeviceFacts, devices, nvml
from gpu_runner.errors import ToolchainMissing
from gpu_runner.host.machine import Diagnosis
from gpu_runner.languages import cuda, triton

_EXTRA = "pip install 'kernelpilot[gpu]'"
_TORCH_CUDA = re.compile(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", re.MULTILINE)
_GIB = 1 << 30


def device_lines() -> tuple[Diagnosis, ...]:
    """Return one line for each thing that jobs on a GPU need."""
    known = devices()
    return (
        *_devices(known),
        _package("CUDA bindings", "cuda.bindings", "launchers, baselines and replays need them"),
        _compiler("CUDA compiler", cuda.missing, "NVRTC or nvcc"),
        _compiler("Triton compiler", triton.missing, "triton"),
        _torch(),
        _nvml(),
        _ncu(),
        _sanitizer(),
    )


def torch_cuda(version_file: str) -> str:
    """Return the CUDA version a torch build is for, from its `version.py`; empty: for none."""
    match = _TORCH_CUDA.search(version_file)
    return match.group(1) if match else ""


def _devices(known: tuple[DeviceFacts, ...]) -> Iterator[Diagnosis]:
    if not known:
        yield Diagnosis(
            name="GPU",
            is_ok=False,
            detail="no device answers",
            remedy="install the NVIDIA driver; in a container, pass the device in",
        )
    for facts in known:
        yield Diagnosis(name=f"GPU {facts.index}", is_ok=True, detail=_summary(facts))
        reason = fault(None, read_device(facts.uuid))
        slowed = ", ".join((facts.state.throttles or ()) if facts.state else ())
        yield Diagnosis(
            name=f"GPU {facts.index} state",
            is_ok=not (reason or slowed),
            detail=reason or (f"slowed down: {slowed}" if slowed else _state(facts)),
            remedy="see `nvidia-smi -q`; times are not trusted before it is mended"
            if reason or slowed
            else "",
        )


def _summary(facts: DeviceFacts) -> str:
    driver = f", driver {facts.state.driver}" if facts.state else ""
    return (
        f"{facts.name}, {facts.arch}, {facts.memory_bytes / _GIB:.0f} GiB, "
        f"{facts.multiprocessors} multiprocessors{driver}, CUDA {facts.cuda}"
    )


def _state(facts: DeviceFacts) -> str:
    state = facts.state
    if state is None:
        return "nobody says: neither NVML nor nvidia-smi"
    clocks = f"SM {state.sm_mhz} of {state.max_sm_mhz} MHz"
    return f"{clocks}, {state.power_w} W, {state.temperature_c} degrees"


def _package(name: str, package: str, why: str) -> Diagnosis:
    is_there = _has(package)
    return Diagnosis(
        name=name,
        is_ok=is_there,
        detail="installed" if is_there else "not installed",
        remedy="" if is_there else f"{_EXTRA}; {why}",
    )


def _compiler(name: str, missing: Callable[[], str | None], what: str) -> Diagnosis:
    reason = missing()
    return Diagnosis(
        name=name, is_ok=reason is None, detail=reason or f"{what} found", remedy=reason or ""
    )


def _torch() -> Diagnosis:
    built_for = _installed_torch_cuda()
    return Diagnosis(
        name="torch with CUDA",
        is_ok=bool(built_for),
        detail=f"built for CUDA {built_for}" if built_for else "not installed, or built without",
        remedy="" if built_for else f"{_EXTRA}; baselines and the oracle on a GPU need it",
    )


def _nvml() -> Diagnosis:
    library = nvml()
    if library is not None:
        library.nvmlShutdown()
    return Diagnosis(
        name="NVML",
        is_ok=library is not None,
        detail="answers" if library else "nvidia-ml-py is not installed, or there is no driver",
        remedy="" if library else f"{_EXTRA}; without it Xid reports go unseen",
    )


def _ncu() -> Diagnosis:
    tool = ncu.capability()
    return Diagnosis(
        name="Nsight Compute",
        is_ok=not tool.refusal,
        detail=f"ncu {tool.version}" if tool.version else "not found",
        remedy=tool.refusal,
    )


def _sanitizer() -> Diagnosis:
    try:
        detail, remedy = f"compute-sanitizer {sanitizer.version()}", ""
    except ToolchainMissing as error:
        detail, remedy = "not found", str(error)
    return Diagnosis(name="compute-sanitizer", is_ok=not remedy, detail=detail, remedy=remedy)


def _installed_torch_cuda() -> str:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        return torch_cuda(Path(spec.origin).with_name("version.py").read_text())
    except OSError:
        return ""


def _has(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
