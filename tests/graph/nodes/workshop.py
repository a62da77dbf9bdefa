"""One node at a time: services over a run directory, a table team, a scenario pool and a clock."""

import asyncio
from pathlib import Path
from typing import cast

from langgraph.runtime import Runtime

from agents.replies import Plan
from gpu_runner.client import JobPool
from gpu_runner.jobs import AnyJob, Bench
from graph.asking import Asking
from graph.desk import Desk
from graph.events import DecisionTaken
from graph.ledger import Attempt, AttemptOutcome
from graph.meter import Meter
from graph.run_files import RunFiles
from graph.services import Services
from graph.settings import load_settings
from graph.state import Lane, RunState
from graph.steering import Steering
from graph.target import Target
from tests.graph.builders import (
    make_attempt,
    make_decision,
    make_draft,
    make_lane,
    make_manifest,
    make_plan,
    make_state,
    make_target,
)
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam

SETTINGS = load_settings()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Workshop:
    """A run in its first round, of which a test builds exactly what a node reads."""

    def __init__(
        self,
        root: Path,
        *,
        target: Target | None = None,
        team: TableTeam | None = None,
        pool: JobPool | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.files = RunFiles(root / "softmax-test")
        self.manifest = make_manifest(target=target or make_target())
        self.files.write_manifest(self.manifest)
        self.files.save_reply("r001", plan or make_plan())
        self.team = team or TableTeam()
        self.pool = pool or ScenarioPool()
        self.clock = Clock()
        self.stop = asyncio.Event()
        meter = Meter((), self.clock)
        self.files.events.listen(meter.add)
        self.services = Services(
            manifest=self.manifest,
            files=self.files,
            team=self.team,
            asking=Asking(self.team, self.files, reply_s=60.0, stop=self.stop),
            desk=Desk(self.pool, self.files, tries=SETTINGS.jobs.tries, stop=self.stop),
            meter=meter,
            jobs=SETTINGS.jobs,
            loop=SETTINGS.loop,
            bench=SETTINGS.bench,
            steering=Steering(self.files),
        )

    @property
    def runtime(self) -> Runtime[Services]:
        """What LangGraph gives a node."""
        return Runtime(context=self.services)

    def lane(self, number: int, text: str, **changes) -> Lane:
        """A lane whose draft is in the run directory."""
        lane = make_lane(number, **changes)
        draft = make_draft(f"#pragma {text}")
        self.files.save_reply(lane.draft_key, draft)
        return lane.model_copy(update={"digest": self.files.save_candidate(draft.candidate)})

    def state(self, *lanes: Lane, **changes) -> RunState:
        """The state of round 1 under the saved plan."""
        return make_state(*lanes, **{"plan": "r001", **changes})

    def promoted(self, number: int, text: str, speedup: float = 1.5, **changes) -> Attempt:
        """A promoted row whose candidate is in the run directory."""
        digest = self.files.save_candidate(make_draft(f"#pragma {text}").candidate)
        values = {
            "version": f"v{number:03}",
            "candidate_digest": digest,
            "outcome": AttemptOutcome.PROMOTED,
            "claims": (make_decision(speedup),),
        }
        return self.files.append_attempt(make_attempt(number, **{**values, **changes}))

    def ran(self) -> list[AnyJob]:
        """The jobs that a scenario pool was really given."""
        return cast("ScenarioPool", self.pool).ran

    def benches(self) -> list[Bench]:
        """Those of them that measure."""
        return [job for job in self.ran() if isinstance(job, Bench)]

    def decisions(self, subject: str) -> list[DecisionTaken]:
        """What was decided on a subject, in order."""
        return [
            event
            for event in self.files.events.read()
            if isinstance(event, DecisionTaken) and event.subject == subject
        ]

    def kinds(self) -> list[str]:
        """Kinds of the events, in order."""
        return [event.kind for event in self.files.events.read()]
