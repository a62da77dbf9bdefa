"""Waiting that can be cut short."""

import asyncio

import pytest

from graph.errors import OutOfTime, RunStopped
from graph.waiting import until_stopped


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def test_the_answer_comes_through():
    assert await until_stopped(answer(3), asyncio.Event()) == 3


async def test_the_exception_comes_through():
    async def fail() -> int:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await until_stopped(fail(), asyncio.Event())


async def test_a_stop_cancels_the_work():
    cancelled = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    stop = asyncio.Event()
    waiting = asyncio.ensure_future(until_stopped(forever(), stop))
    await asyncio.sleep(0.01)
    stop.set()
    with pytest.raises(RunStopped):
        await waiting
    assert cancelled.is_set()


async def test_a_stop_before_the_start_is_seen():
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(RunStopped):
        await until_stopped(asyncio.sleep(60), stop)


async def test_time_runs_out():
    with pytest.raises(OutOfTime):
        await until_stopped(asyncio.sleep(60), asyncio.Event(), timeout_s=0.01)


async def test_cancelling_the_waiter_cancels_the_work():
    cancelled = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    waiting = asyncio.ensure_future(until_stopped(forever(), asyncio.Event()))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert cancelled.is_set()
