"""Runs that are killed, cancelled, locked or damaged, and what a resumption makes of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import aiosqlite
import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph

from graph.checkpoints import PruningSaver
from graph.errors import LoopError, RunDamaged, RunLocked
from graph.ledger import ExitReason
from graph.lock import locked
from graph.run import _entry as entry
from graph.run_files import RunFiles
from graph.state import RunState, Update, first_state
from tests.graph.crash import PLAN
from tests.graph.pool import ScenarioPool
from tests.graph.teams import TableTeam

ROOT = Path(__file__).parents[2]
DEATHS = (2, 13, 29, 46, 62, 79, 97, 114, 131, 149, 163)
LANES = 2


@pytest.fixture(scope="module")
def crashes(tmp_path_factory):
    deaths = ",".join(str(number) for number in (0, *DEATHS))
    finished = subprocess.run(
        [sys.executable, "-m", "tests.graph.crash", str(tmp_path_factory.mktemp("crash")), deaths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return json.loads(finished.stdout)


@pytest.mark.processes
@pytest.mark.parametrize("death", DEATHS)
def test_a_run_killed_at_any_write_ends_with_the_ledger_of_an_undisturbed_one(crashes, death):
    undisturbed, killed = crashes["0"], crashes[str(death)]
    assert not undisturbed["was_killed"]
    assert killed["was_killed"]
    assert killed["status"] == 0
    assert killed["ledger"]["attempts"] == undisturbed["ledger"]["attempts"]
    assert killed["ledger"]["records"] == undisturbed["ledger"]["records"]
    assert killed["ledger"]["result"] == undisturbed["ledger"]["result"]


@pytest.mark.processes
@pytest.mark.parametrize("death", DEATHS)
def test_every_happening_of_a_killed_run_is_told_once(crashes, death):
    assert set(crashes[str(death)]["ledger"]["events"]) - {"exit:0", "exit:1"} == set(
        crashes["0"]["ledger"]["events"]
    ) - {"exit:0"}


@pytest.mark.processes
@pytest.mark.parametrize("death", DEATHS)
def test_only_jobs_in_flight_are_handed_in_again(crashes, death):
    undisturbed = Counter(crashes["0"]["jobs"])
    killed = Counter(crashes[str(death)]["jobs"])
    assert set(killed) == set(undisturbed)
    assert max(undisturbed.values()) == 1
    assert sum((killed - undisturbed).values()) <= LANES


async def test_a_cancelled_run_says_so_and_goes_on_later(run_loop):
    pool = ScenarioPool(delay_s=0.05)

    async def interrupt() -> None:
        while len(pool.ran) < 4:  # noqa: ASYNC110 - the pool has no event to wait for
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    interrupting = asyncio.ensure_future(interrupt())
    cancelled = await run_loop(TableTeam({"1.0": "us=60"}), pool)
    await interrupting
    assert cancelled.result.exit_reason is ExitReason.CANCELLED
    assert "resume" in cancelled.result.message
    resumed = await run_loop(TableTeam({"1.0": "us=60"}))
    assert resumed.result.exit_reason is ExitReason.GOAL_MET
    assert resumed.outcomes() == {"a0001": "promoted", "a0002": "measured"}
    starts = [e for e in resumed.files.events.read() if e.kind == "run_started"]
    assert [event.is_resumed for event in starts] == [False, True]


async def test_the_wall_clock_of_a_resumed_run_goes_on(run_loop):
    pool = ScenarioPool(delay_s=0.05)

    async def interrupt() -> None:
        while len(pool.ran) < 4:  # noqa: ASYNC110 - the pool has no event to wait for
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = asyncio.ensure_future(interrupt())
    cancelled = await run_loop(TableTeam({"1.0": "us=60"}), pool)
    await interrupting
    resumed = await run_loop(TableTeam({"1.0": "us=60"}))
    assert resumed.result.wall_s > cancelled.result.wall_s
    elapsed = [event.elapsed_s for event in resumed.files.events.read()]
    assert elapsed == sorted(elapsed)


class Killed(Exception):
    """Stands for the end of the process."""


class DiesBeforeItsCheckpoint(PruningSaver):
    """Stores the writes of a step and dies before the checkpoint that holds them."""

    deaths = 1

    async def aput(self, config, checkpoint, metadata, new_versions):
        if checkpoint["channel_values"].get("round") == 2 and self.deaths:
            self.deaths -= 1
            raise Killed
        return await super().aput(config, checkpoint, metadata, new_versions)


def two_steps(saver):
    async def step(state: RunState) -> Update:
        return Update(round=state["round"] + 1)

    builder = StateGraph(RunState)
    builder.add_node("first", step)
    builder.add_node("second", step)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    return builder.compile(checkpointer=saver)


async def test_a_step_killed_between_its_writes_and_its_checkpoint_goes_on(tmp_path):
    config = RunnableConfig(configurable={"thread_id": "run"})
    async with aiosqlite.connect(tmp_path / "checkpoints.sqlite") as connection:
        graph = two_steps(DiesBeforeItsCheckpoint(connection))
        with pytest.raises(Killed):
            await graph.ainvoke(first_state(), config, durability="sync")
        before = await graph.aget_state(config)
        assert before.next == ()
        assert entry(before) is None
        await graph.ainvoke(entry(before), config, durability="sync")
        assert (await graph.aget_state(config)).values["round"] == 3


async def test_a_checkpoint_without_any_step_left_is_refused(tmp_path):
    config = RunnableConfig(configurable={"thread_id": "run"})
    async with aiosqlite.connect(tmp_path / "checkpoints.sqlite") as connection:
        graph = two_steps(PruningSaver(connection))
        await graph.ainvoke(first_state(), config, durability="sync")
        with pytest.raises(LoopError, match="names no next step"):
            entry(await graph.aget_state(config))


async def test_a_checkpoint_of_another_graph_version_is_refused(tmp_path):
    config = RunnableConfig(configurable={"thread_id": "run"})
    async with aiosqlite.connect(tmp_path / "checkpoints.sqlite") as connection:
        graph = two_steps(PruningSaver(connection))
        old = {**first_state(), "graph_version": 0}
        await graph.ainvoke(old, config, durability="sync")
        with pytest.raises(LoopError, match="graph version 0"):
            entry(await graph.aget_state(config))


async def test_a_run_that_another_process_holds_is_refused_with_its_pid(run_loop, tmp_path):
    await run_loop(TableTeam({"1.0": "us=60"}))
    with locked(tmp_path / "softmax-test"), pytest.raises(RunLocked, match=str(os.getpid())):
        await run_loop()


async def finish(run_loop):
    team = TableTeam({"1.0": "us=80", "2.0": "us=60"}, plan=PLAN)
    return await run_loop(team)


async def test_a_row_that_a_kill_left_unfinished_is_dropped_and_written_again(run_loop, tmp_path):
    root = await finish_first_round(run_loop, tmp_path)
    path = root / "attempts.jsonl"
    path.write_bytes(path.read_bytes() + b'{"attempt_id":"a0003","versi')
    ran = await finish(run_loop)
    assert ran.outcomes()["a0003"] == "promoted"
    assert all(line.endswith(b"}") for line in path.read_bytes().splitlines())


async def test_a_row_lost_to_the_disk_is_named_and_can_be_replayed(run_loop, tmp_path):
    root = await finish_first_round(run_loop, tmp_path)
    path = root / "attempts.jsonl"
    before = RunFiles(root).attempts()
    path.write_bytes(path.read_bytes()[:-30])
    damaged = await finish(run_loop)
    assert damaged.result.exit_reason is ExitReason.ERROR
    assert "has lost its row a0001" in damaged.result.message
    for database in root.glob("checkpoints.sqlite*"):
        database.unlink()
    ran = await finish(run_loop)
    assert ran.files.attempts()[: len(before)] == before
    assert not [job for job in ran.jobs() if "-r001-" in job]


async def finish_first_round(run_loop, tmp_path: Path) -> Path:
    team = TableTeam({"1.0": "us=80", "2.0": "us=60"}, plan=PLAN)
    pool = ScenarioPool(delay_s=0.02)

    async def interrupt() -> None:
        while not any("-r002-" in job.job_id for job in pool.ran):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    interrupting = asyncio.ensure_future(interrupt())
    ran = await run_loop(team, pool)
    await interrupting
    assert ran.result.exit_reason is ExitReason.CANCELLED
    return tmp_path / "softmax-test"


async def test_without_its_checkpoints_a_run_replays_its_ledger_without_a_job(run_loop, tmp_path):
    root = await finish_first_round(run_loop, tmp_path)
    first = {a.attempt_id: a for a in RunFiles(root).attempts()}
    for path in root.glob("checkpoints.sqlite*"):
        path.unlink()
    ran = await finish(run_loop)
    assert not [job for job in ran.jobs() if "-r001-" in job or "-admit-" in job]
    assert {a.attempt_id: a for a in ran.files.attempts() if a.attempt_id in first} == first


@pytest.mark.parametrize("content", [b"not a database at all" * 200, b"\x00" * 4096])
async def test_damaged_checkpoints_are_named_with_the_remedy(run_loop, tmp_path, content):
    root = await finish_first_round(run_loop, tmp_path)
    for path in root.glob("checkpoints.sqlite*"):
        path.unlink()
    (root / "checkpoints.sqlite").write_bytes(content)
    ran = await finish(run_loop)
    assert ran.result.exit_reason is ExitReason.ERROR
    assert "delete it" in ran.result.message


async def test_a_damaged_blob_is_named(run_loop, tmp_path):
    root = await finish_first_round(run_loop, tmp_path)
    incumbent = next(a for a in RunFiles(root).attempts() if a.outcome == "promoted")
    (root / "blobs" / incumbent.candidate_digest).write_bytes(b"{}")
    ran = await finish(run_loop)
    assert ran.result.exit_reason is ExitReason.ERROR
    assert incumbent.candidate_digest in ran.result.message


async def test_a_damaged_event_log_is_refused(run_loop, tmp_path):
    root = await finish_first_round(run_loop, tmp_path)
    path = root / "events.jsonl"
    path.write_bytes(path.read_bytes() + b"\x00\x01 nonsense\n")
    with pytest.raises(RunDamaged, match=r"events\.jsonl line"):
        await finish(run_loop)
