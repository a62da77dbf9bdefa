"""Counters of a running process, as far as this machine and our rights allow: `perf stat -p`.

What cannot be counted is named; nothing here fails because a counter is missing.
"""

import shutil
import signal
import subprocess
from contextlib import suppress
from types import TracebackType
from typing import Self

EVENTS = (
    "cycles:u",
    "instructions:u",
    "branch-misses:u",
    "cache-misses:u",
    "page-faults",
    "context-switches",
    "cpu-migrations",
)
_STOP_TIMEOUT_S = 5.0
_REFUSALS = ("<not supported>", "<not counted>", "")


def parse_counts(text: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the counts of `perf stat -x,` by event, and the events it could not count."""
    counts: dict[str, float] = {}
    refused: list[str] = []
    for line in text.splitlines():
        fields = line.split(",")
        if len(fields) < len(("count", "unit", "event")) or fields[2] not in EVENTS:
            continue
        name = fields[2].removesuffix(":u")
        if fields[0] in _REFUSALS:
            refused.append(name)
        else:
            counts[name] = float(fields[0])
    return counts, tuple(refused)


class PerfStat:
    """Counts what a process and its threads do between entering and leaving."""

    def __init__(self, pid: int) -> None:
        """Name the process; nothing starts yet."""
        self._pid = pid
        self._perf: subprocess.Popen[str] | None = None
        self.counts: dict[str, float] = {}
        """Event to count, after leaving."""
        self.unavailable: tuple[str, ...] = ()
        """What could not be counted, and why; after leaving."""

    def __enter__(self) -> Self:
        """Attach; a missing or forbidden perf shows after leaving."""
        perf = shutil.which("perf")
        if perf is not None:
            self._perf = subprocess.Popen(
                [perf, "stat", "-x,", "-e", ",".join(EVENTS), "-p", str(self._pid)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Detach and read."""
        if self._perf is None:
            self.unavailable = ("hardware counters: perf is not on PATH; install linux-perf",)
            return
        with suppress(ProcessLookupError):
            self._perf.send_signal(signal.SIGINT)
        try:
            _, said = self._perf.communicate(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._perf.kill()
            _, said = self._perf.communicate()
        self.counts, refused = parse_counts(said)
        if refused:
            self.unavailable = (f"counters {', '.join(refused)}: not supported by this machine",)
        elif not self.counts:
            lines = [line for line in said.splitlines() if line.strip()]
            self.unavailable = (f"counters: not permitted ({lines[0] if lines else 'no output'})",)
