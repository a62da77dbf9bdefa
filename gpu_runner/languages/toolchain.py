"""What every builder needs: laying out sources, running a compiler in the sandbox, clean logs."""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_runner.candidate import Candidate
from gpu_runner.errors import ToolchainMissing
from gpu_runner.host.sandbox import Finished, Grants, run
from gpu_runner.jobs import Reason
from gpu_runner.languages.artefact import BuildRefused

SOURCE_FOLDER = "source"
_MEMORY_BYTES = 6 << 30
_VERSION_TIMEOUT_S = 30.0
_SEARCH_PATH = "/usr/local/cuda/bin:/usr/local/bin:/usr/bin:/bin"


class Deadline:
    """One time limit shared by the steps of a build."""

    def __init__(self, timeout_s: float) -> None:
        """Start the clock."""
        self._start = time.monotonic()
        self._timeout_s = timeout_s

    @property
    def elapsed_s(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._start

    @property
    def left_s(self) -> float:
        """Time left, never quite zero: a step that starts is told a limit it can be killed at."""
        return max(0.01, self._timeout_s - self.elapsed_s)

    def refusal(self) -> BuildRefused:
        """Say that the build took too long."""
        return BuildRefused(
            reason=Reason.BUILD_TIMED_OUT,
            message=f"the build took longer than {self._timeout_s:.0f} s; make the source smaller, "
            "or use fewer template instantiations",
        )


def write_sources(candidate: Candidate, folder: Path) -> None:
    """Write every source below `folder`."""
    for source in candidate.sources:
        path = folder / source.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.text)


def run_tool(
    argv: Sequence[str],
    *,
    cwd: Path,
    writable: Path,
    deadline: Deadline,
    readable: tuple[Path, ...] = (),
    environment: dict[str, str] | None = None,
    zygote: Path | None = None,
) -> Finished:
    """Run one step of a build in the sandbox: no network, one writable folder, plain locale."""
    grants = Grants(
        readable=readable,
        writable=(writable,),
        environment={
            "PATH": _SEARCH_PATH,
            "LC_ALL": "C.UTF-8",
            "TMPDIR": str(writable),
            "HOME": str(writable),
            **(environment or {}),
        },
        memory_bytes=_MEMORY_BYTES,
        may_spawn=True,
    )
    return run(argv, grants, timeout_s=deadline.left_s, cwd=cwd, zygote=zygote)


def run_step(argv: Sequence[str], scratch: Path, deadline: Deadline) -> str | BuildRefused:
    """Run one command of a build among its sources; return its log, or the refusal it leads to."""
    folder = scratch / SOURCE_FOLDER
    finished = run_tool(argv, cwd=folder, writable=scratch, deadline=deadline)
    if finished.returncode is None:
        return deadline.refusal()
    log = shortened(finished.output, folder, scratch)
    if finished.returncode == 0:
        return log
    return BuildRefused(
        reason=Reason.COMPILE_FAILED,
        message=f"{argv[0]} failed: {first_error(log) or f'exit code {finished.returncode}'}",
        log_tail=log,
    )


def shortened(log: str, *folders: Path) -> str:
    """Return the log with our own folders cut from paths: what is left is the candidate's."""
    for folder in sorted(folders, key=lambda f: -len(str(f))):
        log = log.replace(f"{folder}{os.sep}", "").replace(str(folder), ".")
    return log


def first_error(log: str) -> str:
    """Return the first line that names an error, for a one-sentence message; may be empty."""
    match = re.search(r"^.*\b(?:fatal error|error|undefined reference)\b.*$", log, re.MULTILINE)
    return match.group(0).strip()[:300] if match else ""


@functools.cache
def version_line(command: str, pattern: str = r"\d+\.\d+(?:\.\d+)?") -> str:
    """Return `command 12.2.0` as the tool on PATH says of itself.

    Raises:
        ToolchainMissing: it is not on PATH or does not run.
    """
    path = shutil.which(command)
    if path is None:
        raise ToolchainMissing(f"{command} is not on PATH; install it")
    finished = subprocess.run(
        [path, "--version"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_VERSION_TIMEOUT_S,
        check=False,
    )
    found = re.findall(pattern, finished.stdout)
    if finished.returncode != 0 or not found:
        raise ToolchainMissing(f"{path} --version failed; install a working {command}")
    return f"{command} {found[-1]}"


@functools.cache
def machine_isa() -> str:
    """Return a name of this processor's instruction set, for code built with -march=native."""
    wanted = ("flags", "Features", "cpu family", "model", "CPU part", "CPU implementer")
    try:
        first = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n", maxsplit=1)[0]
    except OSError:
        first = platform.processor()
    lines = [line for line in first.splitlines() if line.split(":")[0].strip() in wanted]
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return f"{platform.machine()}-{digest[:16]}"
