"""compute-sanitizer: its tools, their command lines, and what their words mean."""

import functools
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpu_runner.device.watched import find_tool
from gpu_runner.errors import ToolchainMissing

EXIT_FINDING = 86
"""What the tool ends with when it has found something."""
PADDING_BYTES = 4096
_MOST_FINDINGS = 20
_VERSION = re.compile(r"Version (\d+(?:\.\d+)+)")
_VERSION_TIMEOUT_S = 30.0
_PREFIX = re.compile(r"^=+ ?", re.MULTILINE)
_HEAD = re.compile(
    r"^(?:Error: )?(?P<what>"
    r"Invalid __\w+__ (?:read|write|atomic)[^\n]*|Invalid \w+ (?:read|write)[^\n]*"
    r"|Misaligned[^\n]*|Stack overflow[^\n]*|Invalid [^\n]*"
    r"|Race reported between[^\n]*|Potential [A-Z]{3} hazard[^\n]*"
    r"|Uninitialized __\w+__ memory read[^\n]*|Host API uninitialized memory access[^\n]*"
    r"|Barrier error detected[^\n]*|Invalid arguments[^\n]*)$"
)
_PLACE = re.compile(
    r"(?:\bat|access at|Device Frame:) (?P<kernel>[\w$.<>:, ]+?)(?:\([^)\n]*\))?\+0x[0-9a-fA-F]+"
    r"(?: in (?P<path>[^\s\[\]]+:\d+))?"
)
_NO_ERRORS = re.compile(r"^=+ RACECHECK SUMMARY: .*\(0 errors,", re.MULTILINE)
_FRAME = "Device Frame:"
_TOOLKIT_HEADER = re.compile(r"\.hpp:\d+$")
_BROKEN = re.compile(
    r"Internal Sanitizer Error|Device not supported|Unable to find injection library"
    r"|terminated before first instrumented API call|Failed to initialize"
)


class Tool(StrEnum):
    """The four tools, in the order they are run: cheap and common first."""

    MEMCHECK = "memcheck"
    INITCHECK = "initcheck"
    SYNCCHECK = "synccheck"
    RACECHECK = "racecheck"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault, with the first place named."""

    what: str
    """`Invalid __global__ write of size 4 bytes`."""
    kernel: str = ""
    place: str = ""
    """`kernel.cu:12`; empty where the code has no line information."""

    def __str__(self) -> str:
        """Return the finding in one sentence."""
        where = " at ".join(part for part in (self.kernel, self.place) if part)
        return f"{self.what} in {where}" if where else self.what


@functools.cache
def version() -> str:
    """Return the version of compute-sanitizer.

    Raises:
        ToolchainMissing: it is not there or does not run.
    """
    path = _path()
    try:
        said = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainMissing(f"{path} --version fails: {error}") from error
    match = _VERSION.search(said.stdout)
    if match is None:
        raise ToolchainMissing(f"{path} --version fails; reinstall the CUDA toolkit")
    return match.group(1)


def command(tool: Tool, program: Sequence[str]) -> list[str]:
    """Return the command line of one tool over a program.

    Raises:
        ToolchainMissing: it is not installed.
    """
    options = ["--padding", str(PADDING_BYTES)] if tool is Tool.MEMCHECK else []
    return [
        *(_path(), "--tool", tool.value, *options),
        # The host's frames are ours; unwinding them costs time and tells a writer nothing.
        *("--show-backtrace", "device"),
        *("--error-exitcode", str(EXIT_FINDING), "--print-limit", str(_MOST_FINDINGS)),
        *program,
    ]


def findings(log: str) -> tuple[Finding, ...]:
    """Return what a tool found, in its order, each fault once. Pure."""
    return tuple(dict.fromkeys(_findings(log)))


def has_only_warnings(log: str) -> bool:
    """Whether a tool found races that do no harm alone: the same value written twice."""
    return _NO_ERRORS.search(log) is not None and not findings(log)


def breakage(log: str) -> str | None:
    """Return the line that says that the tool itself does not work here, or None."""
    match = _BROKEN.search(log)
    if match is None:
        return None
    start = log.rfind("\n", 0, match.start()) + 1
    return _PREFIX.sub("", log[start:].partition("\n")[0]).strip()


def _findings(log: str) -> Iterator[Finding]:
    """Yield a finding for each block: from its first line to a blank one or the next first line."""
    block: list[str] = []
    for raw in [*log.splitlines(), ""]:
        line = _PREFIX.sub("", raw).strip()
        head = _HEAD.match(line)
        if block and (head is not None or not line):
            yield _of_block(block)
            block = []
        if head is not None or block:
            block.append(line)


def _of_block(lines: list[str]) -> Finding:
    """Return what a block says: the kernel is its outermost frame, the place its innermost line.

    A line in a header of the toolkit says nothing: then the one that led there is named.
    """
    head = _HEAD.match(lines[0])
    assert head is not None, "a block begins with a head"
    what = head["what"].partition(" between")[0].rstrip(".")
    frames = [frame for line in lines if (frame := _PLACE.search(line)) is not None]
    if not frames:
        return Finding(what=what)
    inner = [frame for frame in frames if _FRAME not in frame[0]]
    outer = [frame for frame in frames if _FRAME in frame[0]]
    paths = [frame["path"] for frame in (*inner[:1], *outer) if frame["path"]]
    own = [path for path in paths if not _TOOLKIT_HEADER.search(path)]
    kernel = (outer[-1] if outer else frames[0])["kernel"]
    return Finding(what=what, kernel=kernel.strip(), place=next(iter(own or paths), ""))


def _path() -> str:
    path = find_tool("compute-sanitizer")
    if path is None:
        raise ToolchainMissing(
            "compute-sanitizer is not installed; install the CUDA toolkit and put it on PATH"
        )
    return path
