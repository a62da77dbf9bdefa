"""Lets calls overlap only while what is left can hold all of them.

A hard budget is known to be used up only when a call has ended. Calls that overlap near the limit
would each see the same rest; here the next one waits for those before it, so that a budget is
overshot by one call at most.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Gate:
    """Counts those inside."""

    def __init__(self) -> None:
        self._inside = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def passing(self, fits: Callable[[int], bool]) -> AsyncIterator[None]:
        """Run the block once nobody is inside, or `fits` says that one more may be.

        Args:
            fits: told how many there would be, the new one among them; asked again whenever
                somebody leaves.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._inside == 0 or fits(self._inside + 1))
            self._inside += 1
        try:
            yield
        finally:
            async with self._changed:
                self._inside -= 1
                self._changed.notify_all()
