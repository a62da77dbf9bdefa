"""Counters of a running process, as far as this machine and our rights allow: `perf stat -p`.

What cannot be counted is named; nothing here fails because a counter is missing.
"""

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

EVENTS = (
    "cycles:u",
    "instructions:u",
    "branch-misses:u",
    "cache-misses:u",
    "page-faults",
    "context-switches",
    "cpu-migrations",
)
_NAMES = frozenset(event.removesuffix(":u") for event in EVENTS)
_ATTACH_TIMEOUT_S = 3.0
_STOP_TIMEOUT_S = 5.0
_REFUSALS = ("<not supported>", "<not counted>", "")
_LEAST_FIELDS = 3
"""`perf stat -x,` writes count, unit, event and more."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was counted, and what could not be."""

    events: dict[str, float]
    unavailable: tuple[str, ...] = ()


class Counting:
    """Filled when the counting ends."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self.counts = Counts(events={}, unavailable=("counters: nothing was counted",))


def parse_counts(text: str) -> Counts:
    """Return the counts in the text of `perf stat -x,`."""
    events: dict[str, float] = {}
    refused: list[str] = []
    for line in text.splitlines():
        fields = line.split(",")
        event = fields[2].removesuffix(":u") if len(fields) >= _LEAST_FIELDS else ""
        if event not in _NAMES:
            continue
        name = event.replace("-", "_")
        if fields[0] in _REFUSALS:
            refused.append(name)
        else:
            events[name] = float(fields[0])
    if refused:
        said = f"counters {', '.join(refused)}: not supported by this machine"
    elif not events:
        said = f"counters: not permitted ({next(iter(text.strip().splitlines()), 'no output')})"
    else:
        return Counts(events=events)
    return Counts(events=events, unavailable=(said,))


@contextmanager
def counting(pid: int) -> Iterator[Counting]:
    """Count what a process and its threads do in the block; the result is there after it."""
    result = Counting()
    perf = shutil.which("perf")
    if perf is None:
        result.counts = Counts(
            events={}, unavailable=("counters: perf is not on PATH; install linux-perf",)
        )
        yield result
        return
    with ExitStack() as opening:
        control, tell = _pipe(opening)
        listen, acknowledged = _pipe(opening)
        process = subprocess.Popen(
            [
                *(perf, "stat", "-x,", "-e", ",".join(EVENTS), "-p", str(pid)),
                *("--delay=-1", f"--control=fd:{control.fileno()},{acknowledged.fileno()}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(control.fileno(), acknowledged.fileno()),
            text=True,
        )
        # With its ends closed here, a perf that gives up shows at once.
        control.close()
        acknowledged.close()
        try:
            _say(b"enable\n", tell, listen)
            yield result
            _say(b"disable\n", tell, listen)
        finally:
            result.counts = parse_counts(_last_words(process))


def frozen_descendants(pid: int) -> tuple[int, ...]:
    """Return the stopped processes among all that a process has started, directly or not."""
    parents: dict[int, int] = {}
    stopped: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            # The name in brackets may hold blanks and brackets of its own.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
            if fields[0] == "T":
                stopped.add(int(entry.name))
    return tuple(sorted(one for one in stopped if pid in _ancestors(one, parents)))


def _ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    while (pid := parents.get(pid, 0)) not in found | {0}:
        found.add(pid)
    return found


def _pipe(opening: ExitStack) -> tuple[BinaryIO, BinaryIO]:
    reading, writing = os.pipe()
    return (
        opening.enter_context(os.fdopen(reading, "rb", buffering=0)),
        opening.enter_context(os.fdopen(writing, "wb", buffering=0)),
    )


def _say(word: bytes, tell: BinaryIO, listen: BinaryIO) -> None:
    """Send a command and wait for its acknowledgement; a perf that is gone gives none."""
    with suppress(BrokenPipeError):
        tell.write(word)
        if select.select([listen], [], [], _ATTACH_TIMEOUT_S)[0]:
            listen.read(64)


def _last_words(process: subprocess.Popen[str]) -> str:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=_STOP_TIMEOUT_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[1]
