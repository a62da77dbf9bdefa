"""The machine measurements are made on: what it is, how busy it is, what it lacks."""

import functools
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.host import native, sandbox
from gpu_runner.records import Environment

_ALLOWED = frozenset(os.sched_getaffinity(0))
"""Processors this process was started with; later pinning of the supervisor does not change it."""
_ISA = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512dq"),
    *("avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
)
_VERSION_S = 10.0
_BUSY_PERCENT = 5.0
_PARANOID = 2
"""Above this the kernel lets no unprivileged process count events."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One line of the doctor command."""

    name: str
    is_ok: bool
    detail: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""


@functools.cache
def environment() -> Environment:
    """Return what a measurement record says of this machine."""
    return Environment(
        machine=_cpu_field("model name", "Model") or platform.processor() or platform.machine(),
        arch=platform.machine(),
        cores=len(_ALLOWED),
        isa=_isa(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        compiler=_version(("g++", "c++", "clang++")),
        python=platform.python_version(),
        torch=_torch_version(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        huge_pages=_chosen(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        sandbox=sandbox.active_layers(),
    )


def cpu_pressure_percent() -> float:
    """Return how much of the last ten seconds some task waited for a processor, 0 to 100.

    Where the kernel does not say (CONFIG_PSI), the share by which the load of the last minute
    exceeds the processors stands in for it.
    """
    match = re.search(r"^some avg10=([\d.]+)", _read("/proc/pressure/cpu"), re.MULTILINE)
    if match:
        return float(match.group(1))
    cores = os.cpu_count() or 1
    return min(100.0, max(0.0, 100.0 * (os.getloadavg()[0] - cores) / cores))


def pick_cpus(threads: int) -> tuple[frozenset[int], frozenset[int]]:
    """Return the processors of the supervisor and of a subject.

    The subject gets the last `threads` ones: the first serves interrupts. Where that leaves none,
    the supervisor shares all of them; it blocks while a subject runs.
    """
    ordered = sorted(_ALLOWED)
    subject = frozenset(ordered[-threads:])
    return _ALLOWED - subject or _ALLOWED, subject


def doctor_lines() -> tuple[Diagnosis, ...]:
    """Return what both tiers have and lack here."""
    from gpu_runner.device.doctor import device_lines  # noqa: PLC0415 - it builds on this module

    layers = tuple(_of_layer(layer) for layer in sandbox.probe())
    processor = (*_compilers(), *layers, _torch(), _pressure(), _counters(), _governor())
    return (*processor, *device_lines())


def _of_layer(layer: sandbox.Layer) -> Diagnosis:
    remedies = {
        "bubblewrap": "install bubblewrap; in a container, allow user namespaces",
        "user": "raise user.max_user_namespaces, or allow it in the container's profile",
        "seccomp": "use a kernel with CONFIG_SECCOMP_FILTER on x86_64 or aarch64",
        "cgroup": "delegate a cgroup to this user (systemd: Delegate=yes)",
    }
    remedy = "" if layer.is_active else remedies.get(layer.name, "")
    return Diagnosis(
        name=f"sandbox: {layer.name}", is_ok=layer.is_active, detail=layer.detail, remedy=remedy
    )


def _compilers() -> tuple[Diagnosis, ...]:
    cpp = _version(("g++",))
    c = native.find_compiler()
    return (
        Diagnosis(
            name="C++ compiler",
            is_ok=bool(cpp),
            detail=cpp or "g++ is not on PATH",
            remedy="" if cpp else "install g++; candidates in C++ need it",
        ),
        Diagnosis(
            name="C compiler",
            is_ok=c is not None,
            detail=c or f"none of {', '.join(native.COMPILERS)} is on PATH",
            remedy="" if c else "install gcc; the host of C++ candidates is built with it",
        ),
    )


def _torch() -> Diagnosis:
    version = _torch_version()
    return Diagnosis(
        name="torch",
        is_ok=bool(version),
        detail=version or "not installed beside this interpreter",
        remedy="" if version else "install torch; candidates and baselines in Python need it",
    )


def _pressure() -> Diagnosis:
    percent = cpu_pressure_percent()
    is_quiet = percent <= _BUSY_PERCENT
    return Diagnosis(
        name="processor pressure",
        is_ok=is_quiet,
        detail=f"some avg10 {percent:.1f} %",
        remedy="" if is_quiet else "stop other work: single-threaded ranks use processor time now",
    )


def _counters() -> Diagnosis:
    level = _read("/proc/sys/kernel/perf_event_paranoid")
    is_allowed = level.lstrip("-").isdigit() and (os.geteuid() == 0 or int(level) <= _PARANOID)
    has_tool = shutil.which("perf") is not None
    detail = f"perf {'found' if has_tool else 'not on PATH'}, paranoid level {level or 'unknown'}"
    return Diagnosis(
        name="hardware counters",
        is_ok=is_allowed and has_tool,
        detail=detail,
        remedy=""
        if is_allowed and has_tool
        else "install perf and set kernel.perf_event_paranoid to 2 or less; profiles do without",
    )


def _governor() -> Diagnosis:
    governor = environment().governor
    is_steady = governor in ("", "performance")
    return Diagnosis(
        name="frequency governor",
        is_ok=is_steady,
        detail=governor or "not visible (virtual machine)",
        remedy="" if is_steady else "cpupower frequency-set -g performance",
    )


def _isa() -> tuple[str, ...]:
    present = set(_cpu_field("flags", "Features").split())
    return tuple(name for name in _ISA if name in present)


def _cpu_field(*names: str) -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in names:
            return value.strip()
    return ""


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _version(commands: tuple[str, ...]) -> str:
    """Return the first line the first command found says of its version, or nothing."""
    path = next((found for name in commands if (found := shutil.which(name))), None)
    if path is None:
        return ""
    try:
        finished = subprocess.run(
            [path, "--version"], capture_output=True, timeout=_VERSION_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return finished.stdout.decode(errors="replace").partition("\n")[0].strip()


def _chosen(text: str) -> str:
    """Return the word in brackets of a kernel setting: `always [madvise] never`."""
    match = re.search(r"\[(\w+)\]", text)
    return match.group(1) if match else text


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
