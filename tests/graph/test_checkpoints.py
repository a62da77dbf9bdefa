"""Checkpoints: pruned, private, strict."""

import errno
import sqlite3
import stat
from typing import cast

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde import _msgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph

from gpu_runner.message import Message
from gpu_runner.records import Verdict
from graph.budget import Pace, Spent
from graph.checkpoints import ALLOWED, KEPT, open_saver
from graph.errors import RunDamaged
from graph.state import Lane, Order, RunState, Update, first_state
from tests.graph.builders import make_lane


def serializer() -> JsonPlusSerializer:
    return JsonPlusSerializer(allowed_msgpack_modules=ALLOWED)


def round_trip(value):
    serde = serializer()
    return serde.loads_typed(serde.dumps_typed(value))


def test_langgraph_was_told_to_be_strict_before_it_was_imported():
    assert _msgpack.STRICT_MSGPACK_ENABLED


@pytest.mark.parametrize(
    "value",
    [
        make_lane(0, verdict=Verdict.FASTER, speedup=1.5, message="ünï"),
        Order(round=1, lane=0, attempt_id="a0001"),
        Spent(rounds=3, wall_s=1.5),
        Pace(round_s=2),
        Verdict.SAME,
    ],
    ids=lambda value: type(value).__name__,
)
def test_everything_in_state_comes_back_as_what_it_was(value):
    found = round_trip(value)
    assert found == value
    assert type(found) is type(value)


def test_the_first_state_comes_back_equal():
    assert round_trip(dict(first_state())) == first_state()


def test_every_model_in_state_is_on_the_allow_list():
    named = {name for _, name in ALLOWED}
    assert {model.__name__ for model in (Lane, Order, Spent, Pace, Verdict)} == named


class Unlisted(Message):
    """A model outside of the allow-list."""

    name: str


def test_a_class_that_is_not_listed_is_not_constructed():
    lenient = JsonPlusSerializer(allowed_msgpack_modules=True)
    stored = lenient.dumps_typed(Unlisted(name="x"))
    found = serializer().loads_typed(stored)
    assert not isinstance(found, Unlisted)


async def run_steps(path, steps: int) -> RunState:
    async def step(state: RunState) -> Update:
        return Update(round=state["round"] + 1)

    builder = StateGraph(RunState)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges(
        "step", lambda state: END if state["round"] > steps else "step", {END: END, "step": "step"}
    )
    async with open_saver(path) as saver:
        graph = builder.compile(checkpointer=saver)
        config = RunnableConfig(configurable={"thread_id": "run"}, recursion_limit=steps + 5)
        await graph.ainvoke(first_state(), config, durability="sync")
        snapshot = await graph.aget_state(config)
        return cast("RunState", snapshot.values)


async def test_only_the_last_checkpoints_are_kept_and_the_last_state_is_right(tmp_path):
    path = tmp_path / "checkpoints.sqlite"
    state = await run_steps(path, 40)
    assert state["round"] == 41
    with sqlite3.connect(path) as database:
        (checkpoints,) = database.execute("SELECT count(*) FROM checkpoints").fetchone()
        (writes,) = database.execute("SELECT count(DISTINCT checkpoint_id) FROM writes").fetchone()
    database.close()
    assert checkpoints == KEPT
    assert writes <= KEPT


async def test_the_database_does_not_grow_with_the_steps(tmp_path):
    await run_steps(tmp_path / "short.sqlite", 20)
    await run_steps(tmp_path / "long.sqlite", 120)
    short = (tmp_path / "short.sqlite").stat().st_size
    assert (tmp_path / "long.sqlite").stat().st_size <= 2 * short


async def test_the_database_is_the_users_own(tmp_path):
    path = tmp_path / "deep" / "checkpoints.sqlite"
    async with open_saver(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_that_is_no_database_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "checkpoints.sqlite"
    path.write_bytes(b"this is not a database at all, not even nearly" * 100)
    with pytest.raises(RunDamaged, match=r"checkpoints\.sqlite.*delete it"):
        async with open_saver(path):
            pass


async def outgrow(path):
    async with open_saver(path) as saver:
        await saver.conn.execute("PRAGMA max_page_count = 1")
        await saver.conn.execute("CREATE TABLE filler AS SELECT randomblob(1000000)")


async def test_a_database_that_cannot_grow_is_a_full_disk(tmp_path):
    with pytest.raises(OSError, match=r"checkpoints\.sqlite") as caught:
        await outgrow(tmp_path / "checkpoints.sqlite")
    assert caught.value.errno == errno.ENOSPC


async def test_a_mistake_of_ours_is_not_taken_for_the_disk(tmp_path):
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        async with open_saver(tmp_path / "checkpoints.sqlite") as saver:
            await saver.conn.execute("SELECT * FROM nowhere")
