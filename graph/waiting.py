"""Waiting for something that a stop request, or the clock, may cut short."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from graph.errors import OutOfTime, RunStopped

T = TypeVar("T")


async def until_stopped(
    work: Coroutine[Any, Any, T], stop: asyncio.Event, timeout_s: float | None = None
) -> T:
    """Await `work`, cancelling it when `stop` is set or the time is over.

    Raises:
        RunStopped: `stop` was set first.
        OutOfTime: the time was over first.
    """
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if stop.is_set():
            raise RunStopped("cancelled")
        raise OutOfTime(f"no answer within {timeout_s:.0f} s")
    finally:
        for waiting in (task, stopped):
            waiting.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
