"""Runs the loop on a small disk that fills up while a job runs, frees it, and resumes.

A program for a mount namespace of its own. Prints one JSON object: how the run was broken off and
the ledger that it ended with once there was space, by the number of the job.
"""

import asyncio
import json
import sys
from pathlib import Path

from gpu_runner.jobs import AnyJob, AnyOutcome
from graph.run import begin, drive
from graph.run_files import RunFiles
from graph.settings import load_settings
from tests.graph.crash import DRAFTS, PLAN, TARGET, ledger
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam

_CHUNK = b"x" * 4096


class FillingPool(ScenarioPool):
    """Leaves a few bytes of the disk when it is given a job after `number` others."""

    def __init__(self, filler: Path, number: int) -> None:
        super().__init__()
        self._filler = filler
        self._left = number

    async def run(self, job: AnyJob) -> AnyOutcome:
        if self._left == 0:
            fill(self._filler)
        self._left -= 1
        return await super().run(job)


def fill(path: Path) -> None:
    try:
        with path.open("ab", buffering=0) as file:
            while file.write(_CHUNK):
                pass
    except OSError:
        return


async def run(root: Path, pool: ScenarioPool) -> str:
    """Drive the run of a directory; return how this time ended, in words."""
    files = RunFiles(root / "softmax-test")
    team = TableTeam(DRAFTS, plan=PLAN)
    if not (files.root / "run.json").exists():
        await begin(files, TARGET, team.name, pool, seed=0)
    result = await drive(files, load_settings(), team, pool)
    return f"{result.exit_reason.value}: {result.message}"


def main(disk: Path, numbers: list[int]) -> None:
    found: dict[str, object] = {}
    for number in numbers:
        here, filler = disk / f"job-{number}", disk / "filler"
        here.mkdir()
        broken_off = asyncio.run(run(here, FillingPool(filler, number)))
        filler.unlink(missing_ok=True)
        ended = asyncio.run(run(here, ScenarioPool()))
        found[str(number)] = {"broken_off": broken_off, "ended": ended, "ledger": ledger(here)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(text) for text in sys.argv[2].split(",")])
