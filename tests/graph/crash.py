"""Runs the loop in forked children that die at a chosen durable write, then resumes it.

A program of its own, so that a dying child takes nothing with it but itself. Prints one JSON
object: for each death the ledger that the resumed run ended with, and the jobs it really ran.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from agents.replies import CheckRule
from gpu_runner.jobs import AnyJob, AnyOutcome
from graph.run import begin, drive
from graph.run_files import RunFiles
from graph.settings import load_settings
from graph.target import Budget, Goal
from tests.graph.builders import make_check, make_plan, make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam

KILLED = 9
NOT_COMPARED: dict[str, bool | set[str]] = {
    **dict.fromkeys(("wall_s", "job_s", "report", "repository"), True),
    "to_best": {"wall_s", "job_s"},
}
DRAFTS = {
    "1.0": "us=80",
    "1.1": "build=fail",
    "1.1.repair": "us=70",
    "2.0": "check=fail",
    "2.1": "us=50",
}
TARGET = make_target(
    budget=Budget(rounds=2, plateau_attempts=50), goal=Goal(speedup=9.0, against="torch eager")
)
PLAN = make_plan(
    (make_check(CheckRule.ATTEMPTS_MADE, "999"), make_check(CheckRule.WRONG_IS_REJECTED))
)


class JournalPool(ScenarioPool):
    """Notes every job it runs in a file that outlives the process."""

    def __init__(self, journal: Path) -> None:
        super().__init__()
        self._journal = journal

    async def run(self, job: AnyJob) -> AnyOutcome:
        with self._journal.open("a") as file:
            file.write(job.job_id + "\n")
        return await super().run(job)


def die_at(number: int) -> None:
    """Kill this process in its `number`-th durable write: half of the times before, half after."""
    real, count = os.fsync, 0

    def counting(descriptor: Any) -> None:
        nonlocal count
        count += 1
        if count == number and number % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = counting  # type: ignore[assignment]  # descriptors are all that is passed here


async def run(root: Path) -> None:
    files = RunFiles(root / "softmax-test")
    pool = JournalPool(root / "journal")
    team = TableTeam(DRAFTS, plan=PLAN)
    if not (files.root / "run.json").exists():
        await begin(files, TARGET, team.name, pool, seed=0)
    await drive(files, load_settings(), team, pool)


def in_child(root: Path, death: int | None) -> int:
    """Run in a fork; return its wait status."""
    child = os.fork()
    if child == 0:
        if death is not None:
            die_at(death)
        asyncio.run(run(root))
        os._exit(0)
    return os.waitpid(child, 0)[1]


def ledger(root: Path) -> dict[str, object]:
    files = RunFiles(root / "softmax-test")
    result = files.result()
    assert result is not None
    return {
        "attempts": [attempt.model_dump(mode="json") for attempt in files.attempts()],
        "records": sorted(files.records()),
        "result": result.model_dump(mode="json", exclude=NOT_COMPARED),
        "events": sorted(
            event.key for event in files.events.read() if not event.key.startswith("run_started")
        ),
    }


def main(root: Path, deaths: list[int]) -> None:
    found: dict[str, object] = {}
    for death in deaths:
        here = root / f"death-{death}"
        here.mkdir()
        status = in_child(here, death or None)
        was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == KILLED
        if was_killed:
            status = in_child(here, None)
        found[str(death)] = {
            "was_killed": was_killed,
            "status": status,
            "ledger": ledger(here) if status == 0 else None,
            "jobs": (here / "journal").read_text().split(),
        }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(text) for text in sys.argv[2].split(",")])
