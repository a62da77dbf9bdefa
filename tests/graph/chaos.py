"""A whole `kernelpilot` process with a pool of its own, whose processes are killed under it.

As a program it is the command line; only the executor that its local pool's workers use by
default is another one, whose jobs end at once and always the same.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gpu_runner.process_tree import children
from graph.run_files import RunFiles
from tests.graph.processes import environment

ORCHESTRATOR, BROKER, WORKER = "orchestrator", "broker", "worker"
NOT_COMPARED: dict[str, bool | set[str]] = {
    **dict.fromkeys(("wall_s", "job_s", "report", "repository"), True),
    "to_best": {"wall_s", "job_s"},
}
_PATIENCE_S = 120.0
_LOOK_AGAIN_S = 0.01
_LATEST_S = 0.15
"""After an event; some jobs take as long, most end before."""


class Disturbed:
    """One run, and what is done to it."""

    def __init__(self, root: Path, script: Path, rounds: int) -> None:
        self.root = root
        self.kills: Counter[str] = Counter()
        self._begin = [
            *("run", "softmax", "--team", f"scripted:{script}", "--rounds", str(rounds)),
            *("--lanes", "1", "--budget", "1h", "--seed", "3", "--run-dir", str(root)),
        ]
        self._log = root.parent / "log"

    def undisturbed(self) -> None:
        """Run to the end."""
        with self._command(self._begin) as process:
            process.wait(_PATIENCE_S)

    def go_on(self, plan: list[tuple[int, str]], fortune: random.Random) -> None:
        """Run to the end, however often it takes.

        Args:
            plan: number of events at which somebody is killed, and who; in order.
            fortune: how long after the event, and so in the middle of what.
        """
        command = self._begin
        while True:
            with self._command(command) as process:
                while plan and self._reach(plan[0][0], process):
                    time.sleep(fortune.uniform(0.0, _LATEST_S))
                    victim = plan.pop(0)[1]
                    is_killed = self._kill(victim, process)
                    if victim == ORCHESTRATOR and is_killed:
                        break
                else:
                    process.wait(_PATIENCE_S)
                    return
            begun = (self.root / "run.json").exists()
            command = ["resume", str(self.root)] if begun else self._begin

    @contextmanager
    def begun(self, events: int) -> Iterator[subprocess.Popen[bytes]]:
        """Run at least until so many events were told; killed in the end."""
        with self._command(self._begin) as process:
            assert self._reach(events, process), self.log()
            yield process

    @contextmanager
    def resuming(self) -> Iterator[subprocess.Popen[bytes]]:
        """Resume; killed in the end."""
        with self._command(["resume", str(self.root)]) as process:
            yield process

    def log(self) -> str:
        """What the processes of the run said."""
        return self._log.read_text()

    @contextmanager
    def _command(self, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        with (
            self._log.open("ab") as log,
            subprocess.Popen(
                [sys.executable, "-m", "tests.graph.chaos", *arguments],
                cwd=self.root.parent,
                env=environment(),
                stdout=log,
                stderr=log,
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def _reach(self, events: int, process: "subprocess.Popen[bytes]") -> bool:
        """Wait until so many events were told; False when the run ends before."""
        return _wait(lambda: self._told() >= events, process)

    def _told(self) -> int:
        path = self.root / "events.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _kill(self, victim: str, process: "subprocess.Popen[bytes]") -> bool:
        """Kill whoever plays a part; False where the run has ended meanwhile."""
        if process.poll() is not None:
            return False
        found = [process.pid] if victim == ORCHESTRATOR else []
        if not found:
            _wait(lambda: bool(_named(victim, process.pid)), process)
            found = _named(victim, process.pid)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills[victim] += 1
        return bool(found)


def _wait(is_true: Any, process: "subprocess.Popen[bytes]") -> bool:
    give_up_s = time.monotonic() + _PATIENCE_S
    while not is_true():
        if process.poll() is not None:
            return False
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(_LOOK_AGAIN_S)
    return True


def _named(role: str, parent: int) -> list[int]:
    """Children of a process that run this command of the runner; not one that has ended."""
    command = f"gpu_runner.cli\0{role}\0".encode()
    return [pid for pid in children(parent) if command in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def ledger(root: Path) -> dict[str, Any]:
    """What a run came to, without its clocks; ids hold the name of its directory."""
    files = RunFiles(root)
    result = files.result()
    assert result is not None, "the run has no result"
    return {
        "attempts": [attempt.model_dump(mode="json") for attempt in files.attempts()],
        "records": sorted(files.records()),
        "result": result.model_dump(mode="json", exclude=NOT_COMPARED),
        "events": sorted(
            event.key
            for event in files.events.read()
            if not event.key.startswith(("run_started", "exit:"))
        ),
    }


if __name__ == "__main__":
    from gpu_runner import child

    child.DEFAULT_EXECUTOR = "tests.graph.pool:execute"
    from graph.cli import main

    main()
