"""Fixtures of whole runs: a table of drafts, a scenario pool, a run directory."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from graph.events import AnyEvent
from graph.ledger import RunResult
from graph.run import begin, drive
from graph.run_files import RunFiles
from graph.settings import Settings, load_settings
from graph.target import Target
from tests.graph.builders import make_target
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam


@dataclass
class Ran:
    """A run that ended, with everything that took part in it."""

    result: RunResult
    files: RunFiles
    pool: ScenarioPool
    team: TableTeam
    heard: list[AnyEvent] = field(default_factory=list)

    def outcomes(self) -> dict[str, str]:
        """Attempt id to outcome."""
        return {a.attempt_id: a.outcome.value for a in self.files.attempts()}

    def decisions(self, subject: str) -> list[str]:
        """Choices of the decisions on a subject, in order."""
        return [
            event.choice
            for event in self.files.events.read()
            if event.kind == "decision" and event.subject == subject
        ]

    def stages(self) -> list[str]:
        """Stages in the order they began."""
        return [e.stage for e in self.files.events.read() if e.kind == "stage_started"]

    def jobs(self) -> list[str]:
        """Ids of the jobs that the pool was really given."""
        return [job.job_id for job in self.pool.ran]


RunLoop = Callable[..., Awaitable[Ran]]


@pytest.fixture
def settings() -> Settings:
    return load_settings()


@pytest.fixture
def run_loop(tmp_path: Path, settings: Settings) -> RunLoop:
    """Run a loop to its end in `tmp_path/softmax-test`; given again, it goes on there."""

    async def run(
        team: TableTeam | None = None,
        pool: ScenarioPool | None = None,
        target: Target | None = None,
        chosen: Settings | None = None,
    ) -> Ran:
        files = RunFiles(tmp_path / "softmax-test")
        used_team, used_pool = team or TableTeam(), pool or ScenarioPool()
        heard: list[AnyEvent] = []
        if not (files.root / "run.json").exists():
            await begin(files, target or make_target(), used_team.name, used_pool, seed=0)
        result = await drive(files, chosen or settings, used_team, used_pool, (heard.append,))
        return Ran(result, files, used_pool, used_team, heard)

    return run
