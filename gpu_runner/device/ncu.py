"""Nsight Compute: whether it may be used here, its command line, and one capture.

Clocks are left alone (`--clock-control none`): they belong to whoever owns the machine, and locking
them to base would measure another device than the one that is timed.
"""

import functools
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.device.ncu_csv import ProfiledLaunch, parse_raw
from gpu_runner.device.replay import RANGE, has_ranges
from gpu_runner.device.watched import Ended, find_tool, run_watched
from gpu_runner.errors import ToolchainMissing

SECTIONS = (
    "SpeedOfLight",
    "LaunchStats",
    "Occupancy",
    "WarpStateStats",
    "MemoryWorkloadAnalysis",
    "MemoryWorkloadAnalysis_Tables",
    "ComputeWorkloadAnalysis",
    "SchedulerStats",
    "SourceCounters",
)
"""Those that the facts are read from; fewer sections are fewer passes."""
METRICS = ("dram__bytes_read.sum", "dram__bytes_write.sum")
"""Asked for beside the sections, whose tables hold rates alone."""
_DRIVER_PARAMETERS = Path("/proc/driver/nvidia/params")
_ADMIN_ONLY = re.compile(r"^RmProfilingAdminOnly:\s*1\s*$", re.MULTILINE)
_VERSION = re.compile(r"Version (\d+(?:\.\d+)+)")
_VERSION_TIMEOUT_S = 30.0
_NOT_PERMITTED = "ERR_NVGPUCTRPERM"
PERMISSION_REMEDY = (
    "load the nvidia module with NVreg_RestrictProfilingToAdminUsers=0, or run the worker with "
    "CAP_SYS_ADMIN"
)


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What can be had of the tool on this machine."""

    path: str = ""
    version: str = ""
    """`2025.3.1.0`; empty where there is no tool."""
    refusal: str = ""
    """Why it cannot be used, with the remedy; empty: it can, as far as one sees from outside."""


@functools.cache
def capability() -> Capability:
    """Look for the tool and for the right to read counters; a capture may still be refused."""
    path = find_tool("ncu")
    if path is None:
        return Capability(refusal="ncu is not installed; install Nsight Compute")
    version = _version(path)
    if not version:
        return Capability(path=path, refusal=f"{path} --version fails; reinstall Nsight Compute")
    if is_admin_only(_driver_parameters()) and os.geteuid() != 0:
        refusal = f"counters are for administrators here; {PERMISSION_REMEDY}"
        return Capability(path=path, version=version, refusal=refusal)
    return Capability(path=path, version=version)


def is_admin_only(parameters: str) -> bool:
    """Whether the driver keeps counters to administrators, from its parameter file."""
    return _ADMIN_ONLY.search(parameters) is not None


def command(
    ncu: str, program: Sequence[str], *, launches: int, uses_ranges: bool | None = None
) -> list[str]:
    """Return the command line that profiles the marked part of a program.

    Args:
        ncu: path of the tool.
        program: what to run under it.
        launches: of one call. Each is measured in several passes. With a single one the caches are
            emptied before every pass, as they are when calls are timed; otherwise a later pass
            would find in the L2 what an earlier one has read. A plan of several launches hands
            results on in the L2: emptying it before each would charge the second with reads that
            it does not do, so there the caches are left alone.
        uses_ranges: by default whether the program can mark an NVTX range.
    """
    ranges = has_ranges() if uses_ranges is None else uses_ranges
    marks = ["--nvtx", "--nvtx-include", f"{RANGE}/"] if ranges else ["--profile-from-start", "off"]
    return [
        *(ncu, *marks, "--target-processes", "application-only"),
        *("--clock-control", "none"),
        *("--cache-control", "all" if launches == 1 else "none"),
        *(word for section in SECTIONS for word in ("--section", section)),
        *("--metrics", ",".join(METRICS)),
        *("--csv", "--page", "raw", "--print-units", "base"),
        *program,
    ]


def report_command(ncu: str, program: Sequence[str], *, report: Path) -> list[str]:
    """Return the command line that leaves a whole report of the marked part of a program.

    With every section and the source, which takes some forty passes a launch. The caches are
    emptied before each, so one launch must not rely on what another has left there.
    """
    return [
        *(ncu, "--profile-from-start", "off", "--target-processes", "application-only"),
        *("--clock-control", "none", "--cache-control", "all"),
        *("--set", "full", "--import-source", "on"),
        *("--force-overwrite", "--export", str(report)),
        *program,
    ]


def capture(
    program: Sequence[str], *, launches: int, timeout_s: float, folder: Path
) -> tuple[ProfiledLaunch, ...]:
    """Profile the marked part of a program.

    Raises:
        ToolchainMissing: the tool is not there, may not read counters, or does not end in time.
        CaptureUnreadable: it said nothing that can be read.
    """
    tool = capability()
    if tool.refusal:
        raise ToolchainMissing(tool.refusal)
    ended = run_watched(
        command(tool.path, program, launches=launches), timeout_s=timeout_s, folder=folder
    )
    return read(ended, timeout_s=timeout_s)


def read(ended: Ended, *, timeout_s: float) -> tuple[ProfiledLaunch, ...]:
    """Return the launches a finished capture holds.

    Raises:
        ToolchainMissing: counters may not be read, or the tool was killed.
        CaptureUnreadable: there is no table.
    """
    if _NOT_PERMITTED in ended.output + ended.errors:
        raise ToolchainMissing(f"{_NOT_PERMITTED}: {PERMISSION_REMEDY}")
    if ended.returncode is None:
        raise ToolchainMissing(f"ncu did not end within {timeout_s:.0f} s; give smaller workloads")
    return parse_raw(ended.output.splitlines())


def _version(path: str) -> str:
    try:
        said = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = _VERSION.search(said.stdout)
    return match.group(1) if match else ""


def _driver_parameters() -> str:
    try:
        return _DRIVER_PARAMETERS.read_text()
    except OSError:
        return ""
