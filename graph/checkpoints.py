"""Checkpoints of the state machine: SQLite, pruned as they are written, strict when they are read.

Owns everything of langgraph's checkpointers that the rest of the package needs.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from graph.errors import RunDamaged

_LEAST_FREE_BYTES = 1 << 16
"""SQLite grows its files by so much at once."""

KEPT = 3
"""Checkpoints kept; the last one is what a resumption reads."""

ALLOWED = (
    ("graph.state", "Lane"),
    ("graph.state", "Order"),
    ("graph.budget", "Spent"),
    ("graph.budget", "Pace"),
    ("gpu_runner.records", "Verdict"),
)
"""Every class that a checkpoint may hold."""

_PRUNE = (
    """DELETE FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id NOT IN
    (SELECT checkpoint_id FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ?
    ORDER BY checkpoint_id DESC LIMIT ?)""",
    """DELETE FROM writes WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id NOT IN
    (SELECT checkpoint_id FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ?
    ORDER BY checkpoint_id DESC LIMIT ?)""",
)


class PruningSaver(AsyncSqliteSaver):
    """Keeps the last checkpoints only: each holds the whole state, and a run has thousands."""

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, then delete those before the last `KEPT` and their writes."""
        stored = await super().aput(config, checkpoint, metadata, new_versions)
        thread = str(config["configurable"]["thread_id"])
        space = str(config["configurable"].get("checkpoint_ns", ""))
        async with self.lock:
            for statement in _PRUNE:
                await self.conn.execute(statement, (thread, space, thread, space, KEPT))
            await self.conn.commit()
        return stored


@asynccontextmanager
async def open_saver(path: Path) -> AsyncIterator[PruningSaver]:
    """Open the checkpoint file, readable by its owner only.

    Raises:
        RunDamaged: the file is no SQLite database, or a part of it is missing.
        OSError: the disk is full.
    """
    _make_private(path)
    serde = JsonPlusSerializer(allowed_msgpack_modules=ALLOWED)
    try:
        async with aiosqlite.connect(path) as connection:
            saver = PruningSaver(connection, serde=serde)
            await saver.setup()
            yield saver
    except sqlite3.OperationalError as error:
        if not _is_full(path, error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    except sqlite3.DatabaseError as error:
        raise RunDamaged(
            f"{path} is not a checkpoint database: {error}; delete it to begin the run's loop "
            "again over the same ledger"
        ) from error


def _is_full(path: Path, error: sqlite3.OperationalError) -> bool:
    """Whether the disk is why: the shared memory beside the file fails as any other file would."""
    name = getattr(error, "sqlite_errorname", "")
    return name == "SQLITE_FULL" or (
        name.startswith("SQLITE_IOERR") and shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES
    )


def _make_private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=True)
