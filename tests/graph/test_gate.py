"""Who may pass while others are inside."""

import asyncio

import pytest

from graph.gate import Gate


async def most_inside(gate: Gate, fits, count: int = 6) -> int:
    """Send `count` callers through; return how many were inside at once."""
    inside = most = 0

    async def call():
        nonlocal inside, most
        async with gate.passing(fits):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    async with asyncio.timeout(10):
        await asyncio.gather(*(call() for _ in range(count)))
    return most


@pytest.mark.parametrize("room", [0, 1, 2, 4, 6])
async def test_never_more_are_inside_than_fit_and_one_always_is(room):
    assert await most_inside(Gate(), lambda calls: calls <= room) == max(1, room)


async def test_without_a_limit_nobody_waits():
    assert await most_inside(Gate(), lambda _: True) == 6


async def test_room_that_shrinks_is_asked_for_again_when_somebody_leaves():
    left = [3.0]
    seen = []

    def fits(calls: int) -> bool:
        seen.append(calls)
        return calls <= left[0]

    async def call(gate):
        async with gate.passing(fits):
            left[0] -= 1
            await asyncio.sleep(0.001)

    gate = Gate()
    await asyncio.gather(*(call(gate) for _ in range(4)))
    assert max(seen) <= 4


async def test_who_fails_inside_or_gives_up_outside_leaves_room():
    gate = Gate()

    async def fail():
        async with gate.passing(lambda _: False):
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        await fail()
    async with gate.passing(lambda _: False):
        waiting = asyncio.ensure_future(most_inside(gate, lambda _: False, 1))
        await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert await most_inside(gate, lambda _: False, 2) == 1
