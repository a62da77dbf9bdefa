"""How much one key may send. Pure; times are arguments."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What one key may send, on average and at once; far above what any run or worker needs."""

    messages_per_s: float = 5_000.0
    burst_messages: float = 20_000.0
    bytes_per_s: float = 64.0 * 1024 * 1024
    burst_bytes: float = 256.0 * 1024 * 1024
    connections: int = 256
    """Of one key, newest; what an older one sends is not answered any more."""


class Meter:
    """Two buckets that fill with time: messages and bytes."""

    def __init__(self, allowance: Allowance, now_s: float) -> None:
        self._allowance = allowance
        self._messages = allowance.burst_messages
        self._bytes = allowance.burst_bytes
        self._now_s = now_s

    def takes(self, size_bytes: int, now_s: float) -> bool:
        """Whether a message is within the allowance; one that is not costs nothing of it."""
        passed_s, self._now_s = max(0.0, now_s - self._now_s), max(now_s, self._now_s)
        plan = self._allowance
        self._messages = min(plan.burst_messages, self._messages + passed_s * plan.messages_per_s)
        self._bytes = min(plan.burst_bytes, self._bytes + passed_s * plan.bytes_per_s)
        if self._messages < 1 or self._bytes < size_bytes:
            return False
        self._messages -= 1
        self._bytes -= size_bytes
        return True
