"""Whole runs whose orchestrator, broker and worker are killed at random points."""

import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graph.run_files import RunFiles
from tests.graph.chaos import BROKER, ORCHESTRATOR, WORKER, Disturbed, ledger
from tests.graph.crash import PLAN
from tests.graph.processes import write_script

ROUNDS = 4
SEEDS = (11, 22, 33)
VICTIMS = (ORCHESTRATOR,) * 3 + (BROKER,) * 4 + (WORKER,) * 4
LEAST_KILLS = 20
NOT_KILLED_AFTER = 8
"""Events at the end of a run within which it may end before anybody is killed."""

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]


@dataclass
class Story:
    """A run that has ended, and how often who was killed."""

    root: Path
    log: str
    kills: Counter[str]

    @property
    def ledger(self) -> dict[str, Any]:
        return ledger(self.root)

    def submitted(self) -> set[str]:
        told = RunFiles(self.root).events.read()
        return {event.job_id for event in told if event.kind == "job_submitted"}

    def executed(self, event: str) -> Counter[str]:
        lines = (self.root / "pool" / "executions.jsonl").read_text().splitlines()
        return Counter(e["job_id"] for e in map(json.loads, lines) if e["event"] == event)


def tell(folder: Path, seed: int | None, events: int = 0) -> Story:
    """Run to the end; with a seed, disturbed."""
    folder.mkdir()
    script = write_script(
        folder / "team.yaml",
        *["#pragma us=80"] * 2,
        "#pragma check=fail",
        "#pragma build=fail",
        "#pragma us=50",
        plan=PLAN,
    )
    run = Disturbed(folder / "run", script, ROUNDS)
    if seed is None:
        run.undisturbed()
    else:
        fortune = random.Random(seed)
        victims = fortune.sample(VICTIMS, len(VICTIMS))
        moments = sorted(fortune.choices(range(1, events - NOT_KILLED_AFTER), k=len(VICTIMS)))
        run.go_on(list(zip(moments, victims, strict=True)), fortune)
    return Story(run.root, run.log(), run.kills)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return tell(tmp_path_factory.mktemp("chaos") / "undisturbed", None)


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory, undisturbed):
    folder = tmp_path_factory.mktemp("chaos")
    events = len(list(RunFiles(undisturbed.root).events.read()))
    return [tell(folder / str(seed), seed, events) for seed in SEEDS]


def test_everybody_was_killed_often_enough(disturbed):
    kills: Counter[str] = sum((story.kills for story in disturbed), Counter())
    assert kills.total() >= LEAST_KILLS
    assert min(kills[who] for who in (ORCHESTRATOR, BROKER, WORKER)) >= len(SEEDS)


def test_every_run_completes_with_the_ledger_of_an_undisturbed_one(undisturbed, disturbed):
    assert undisturbed.ledger["result"]["exit_reason"] == "goal_met", undisturbed.log
    for story in disturbed:
        assert story.ledger == undisturbed.ledger, story.log


def test_no_job_is_lost(undisturbed, disturbed):
    for story in (undisturbed, *disturbed):
        files = RunFiles(story.root)
        lost = {job_id for job_id in story.submitted() if files.outcome(job_id) is None}
        assert lost == set(), story.log
        assert story.submitted() == undisturbed.submitted()


def test_no_job_is_executed_to_its_end_twice(undisturbed, disturbed):
    assert set(undisturbed.executed("finished").values()) == {1}
    for story in disturbed:
        assert set(story.executed("finished").values()) == {1}, story.log
        assert story.executed("started").keys() == undisturbed.submitted()


def test_no_job_is_begun_again_but_for_a_kill(undisturbed, disturbed):
    assert set(undisturbed.executed("started").values()) == {1}
    for story in disturbed:
        again = story.executed("started") - undisturbed.executed("started")
        assert again.total() <= story.kills.total()
