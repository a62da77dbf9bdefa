"""What may not be sent yet: messages wait here until the changes they tell of are on disk.

Pure. Messages to one peer keep their order; signs of life pass those that wait for other peers.
"""

from collections import Counter, deque

from gpu_runner import wire
from gpu_runner.leases import Send, Sends

_SIGNS_OF_LIFE = (wire.Pong, wire.Who, wire.Busy, wire.Described)
"""They promise nothing, and a slow disk must not make workers believe that the broker is gone."""


class Outbox:
    """Sends by the number of the batch that has to be kept first."""

    def __init__(self) -> None:
        self._held: deque[tuple[int, Send]] = deque()
        self._peers: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, sends: Sends, batch: int, committed: int) -> Sends:
        """Take in messages that depend on everything up to `batch`; return what may leave now.

        Args:
            sends: in order; not before the messages of earlier calls.
            batch: the newest batch when they were made; numbers never fall.
            committed: the newest batch that is kept.
        """
        now = list(self.release(committed))
        if batch <= committed:
            return (*now, *sends)
        for send in sends:
            if isinstance(send.message, _SIGNS_OF_LIFE) and not self._peers[send.peer]:
                now.append(send)
            else:
                self._held.append((batch, send))
                self._peers[send.peer] += 1
        return tuple(now)

    def release(self, committed: int) -> Sends:
        """Return, in order, what waited for batches that are kept by now."""
        sends = []
        while self._held and self._held[0][0] <= committed:
            _, send = self._held.popleft()
            sends.append(send)
            self._peers[send.peer] -= 1
            if not self._peers[send.peer]:
                del self._peers[send.peer]
        return tuple(sends)
