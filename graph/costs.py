"""What a run's answers cost, by role, round or attempt: a fold over its events. Pure."""

from collections.abc import Callable, Iterable
from typing import Literal

from gpu_runner.message import Message
from graph.events import AnyEvent, Replied

By = Literal["role", "round", "attempt"]
TOTAL = "all"


class Cost(Message):
    """What one role, round or attempt cost, or all of them."""

    of: str
    answers: int = 0
    failures: int = 0
    """Answers that did not come, or were of no use; they are paid for too."""
    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    """Of the input, read from the provider's cache."""
    stored_tokens: int = 0
    repeated_tokens: int = 0
    """Of the input, an estimate of what a cache of prefixes could have served."""
    output_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    """Of answering, pauses included; those of lanes that overlap add up."""
    waits: int = 0
    waited_s: float = 0.0

    def with_reply(self, event: Replied) -> "Cost":
        """Return it with one answer more."""
        added = {name: getattr(self, name) + getattr(event, name) for name in _SUMMED}
        return self.model_copy(
            update={
                **added,
                "answers": self.answers + 1,
                "failures": self.failures + bool(event.failure),
            }
        )


_SUMMED = tuple(name for name in Cost.model_fields if name in Replied.model_fields)
_NAMES: dict[By, Callable[[Replied], str]] = {
    "role": lambda event: event.role,
    "round": lambda event: f"round {event.round}",
    "attempt": lambda event: event.attempt_id,
}


def costs(events: Iterable[AnyEvent], by: By) -> tuple[Cost, ...]:
    """Return the cost of each role, round or attempt in order of appearance, and of all at last.

    Answers that are no attempt's are in the total alone.
    """
    found: dict[str, Cost] = {}
    total = Cost(of=TOTAL)
    for event in events:
        if not isinstance(event, Replied):
            continue
        total = total.with_reply(event)
        name = _NAMES[by](event)
        if name:
            found[name] = found.get(name, Cost(of=name)).with_reply(event)
    return (*found.values(), total)
