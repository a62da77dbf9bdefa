"""Kills a run of language models in every node, and has it go on: `make crash-models`.

The process dies by SIGKILL as a node begins, or as it ends and before its checkpoint, in a fork of
its own. The run that goes on must end as one that was never disturbed: the same ledger, result and
exit reason, each question paid once but for those under way, and no job run twice but for those.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from agents.replies import CheckRule
from gpu_runner.message import Message
from graph.events import AnyEvent, StageEnded, StageStarted
from graph.run import begin, drive
from graph.run_files import RunFiles
from graph.settings import load_settings
from graph.target import Budget, Goal
from tests.graph.builders import (
    make_check,
    make_inspection,
    make_plan,
    make_remark,
    make_target,
)
from tests.graph.crash import KILLED, JournalPool, ledger
from tests.graph.table_models import draft_of, table_team

_OPENING = ("admit", "plan", "research")
_ROUND = ("write", "build", "check", "bench", "claim", "profile", "review")
_CLOSING = ("inspect", "finalize", "autotune", "finish")
MOMENTS = tuple(
    f"{node} {when}" for node in (*_OPENING, *_ROUND, *_CLOSING) for when in ("begins", "ends")
)
LANES = 2
TARGET = make_target(
    budget=Budget(rounds=5, plateau_attempts=4, tokens=100_000),
    goal=Goal(speedup=1.1, against="torch eager"),
)
TABLE: dict[str, Message | str] = {
    "planner": make_plan(
        (make_check(CheckRule.REACHES_GOAL), make_check(CheckRule.WRONG_IS_REJECTED)),
        (make_check(CheckRule.ATTEMPTS_MADE, "4"), make_check(CheckRule.NO_REGRESSION)),
    ),
    "writer 1.0": draft_of("us=80"),
    "writer 1.1": draft_of("build=fail"),
    "writer 1.1 repair": draft_of("us=95"),
    "writer 2.0": draft_of("check=fail"),
    "writer 2.1": draft_of("us=60"),
    "writer 4.0 mend": draft_of("us=60 mended"),
    "inspector 4": make_inspection(make_remark()),
}
"""Three rounds to GOAL_MET, a repair, a rejection, and a mend of the final kernel."""


def die_as(moment: str):
    """Return a listener that kills this process at a moment."""
    node, when = moment.split()
    kind = StageStarted if when == "begins" else StageEnded

    def listen(event: AnyEvent) -> None:
        if isinstance(event, kind) and event.stage == node:
            os.kill(os.getpid(), signal.SIGKILL)

    return listen


async def run(root: Path, moment: str) -> None:
    """Begin a run, or go on with it; die at the moment, where one is named."""
    files = RunFiles(root / "softmax-test")
    asked = root / "asked"

    def note(place: str) -> None:
        with asked.open("a") as file:
            file.write(place + "\n")

    team, pool = table_team(TABLE, note), JournalPool(root / "journal")
    if not (files.root / "run.json").exists():
        await begin(files, TARGET, team.name, pool, seed=0)
    listeners = (die_as(moment),) if moment else ()
    await drive(files, load_settings((), ["memory.lessons=none"]), team, pool, listeners)


def in_child(root: Path, moment: str) -> int:
    """Run in a fork; return its wait status."""
    child = os.fork()
    if child == 0:
        asyncio.run(run(root, moment))
        os._exit(0)
    return os.waitpid(child, 0)[1]


class Story(Message):
    """What a run came to."""

    ledger: dict[str, object]
    asked: dict[str, int]
    jobs: dict[str, int]

    @property
    def result(self) -> dict[str, Any]:
        """A copy of the result."""
        found = self.ledger["result"]
        assert isinstance(found, dict)
        return dict(found)


def story(root: Path) -> Story:
    """Read it."""
    return Story(
        ledger=ledger(root),
        asked=Counter((root / "asked").read_text().splitlines()),
        jobs=Counter((root / "journal").read_text().splitlines()),
    )


def faults(moment: str, undisturbed: Story, killed: Story) -> list[str]:
    """Return what a run that was killed once did otherwise."""
    parts = ("attempts", "records")
    found = [f"{moment}: other {p}" for p in parts if killed.ledger[p] != undisturbed.ledger[p]]
    result, other = undisturbed.result, killed.result
    extra = sum((Counter(killed.asked) - Counter(undisturbed.asked)).values())
    # What was asked again was paid for again, and is on the books.
    paid = {key: (other.pop(key), result.pop(key)) for key in ("tokens", "usd")}
    other["to_best"] = result["to_best"] = None
    if other != result:
        found.append(f"{moment}: another result: {other}")
    if paid["tokens"][0] > paid["tokens"][1] + extra * 100:
        found.append(f"{moment}: more was paid for than was asked again: {paid}")
    if killed.asked.keys() != undisturbed.asked.keys() or extra > LANES:
        found.append(f"{moment}: {extra} questions were asked again: {killed.asked}")
    if killed.jobs.keys() != undisturbed.jobs.keys():
        found.append(f"{moment}: other jobs")
    again = sum((Counter(killed.jobs) - Counter(undisturbed.jobs)).values())
    if again > LANES:
        found.append(f"{moment}: {again} jobs were run again")
    return found


def tell(folder: Path, moments: tuple[str, ...]) -> list[str]:
    """Kill a run at each moment; return every fault.

    Raises:
        AssertionError: a run was not killed, or did not end when it went on.
    """
    calm = folder / "undisturbed"
    calm.mkdir()
    assert in_child(calm, "") == 0, "the undisturbed run failed"
    undisturbed = story(calm)
    found = []
    for moment in moments:
        here = folder / moment.replace(" ", "-")
        here.mkdir()
        status = in_child(here, moment)
        assert os.WIFSIGNALED(status), f"{moment}: the run was not killed"
        assert os.WTERMSIG(status) == KILLED, moment
        assert in_child(here, "") == 0, f"{moment}: the run did not go on"
        found += faults(moment, undisturbed, story(here))
    return found


def main() -> int:
    """Kill at every moment, or at those named; print what went wrong, or what the run was."""
    named = tuple(sys.argv[1].split(",")) if len(sys.argv) > 1 else MOMENTS
    with tempfile.TemporaryDirectory(prefix="kernelpilot-crash-") as name:
        found = tell(Path(name), named)
        calm = story(Path(name) / "undisturbed")
    result = calm.result
    told = {
        "moments": len(named),
        "faults": found,
        "exit_reason": result["exit_reason"],
        "rounds": result["rounds"],
        "questions": sum(calm.asked.values()),
        "jobs": sum(calm.jobs.values()),
    }
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
