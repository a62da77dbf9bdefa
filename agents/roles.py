"""The seam between the loop and whoever answers: a coroutine a question, one protocol.

`playbook` answers by rules and search, `team` by language models, `scripted` from a file.
"""

from typing import Protocol

from agents.contexts import (
    DigestContext,
    InspectContext,
    PlanContext,
    ResearchContext,
    ReviewContext,
    WriteContext,
)
from agents.replies import Digest, Draft, Inspection, Plan, Research, Review
from gpu_runner.message import Message


class Spend(Message):
    """What answering cost since the team was made; zero for a team without models."""

    calls: int = 0
    """Requests that were sent, failed ones included."""
    input_tokens: int = 0
    """All that was read, from the provider's cache or not."""
    cached_tokens: int = 0
    """Of those, read from the provider's cache."""
    stored_tokens: int = 0
    """Of those, written to the provider's cache."""
    repeated_tokens: int = 0
    """Of those, an estimate of what began an earlier prompt too, so that a cache could serve it."""
    output_tokens: int = 0
    usd: float = 0.0
    waits: int = 0
    """Pauses for a provider that was busy or silent."""
    waited_s: float = 0.0

    def __add__(self, other: "Spend") -> "Spend":
        """Return both together."""
        return Spend(**{name: getattr(self, name) + getattr(other, name) for name in _COUNTS})

    def __sub__(self, other: "Spend") -> "Spend":
        """Return what came since `other`."""
        return Spend(**{name: getattr(self, name) - getattr(other, name) for name in _COUNTS})


_COUNTS = tuple(Spend.model_fields)


class Team(Protocol):
    """Five roles. Each is a pure function of its context as far as the world allows.

    Raises (any of them):
        ModelError: the provider failed, or a reply stayed malformed after the repairs allowed.
        NothingFits: no recipe covers the problem; the message names what to configure.
    """

    name: str

    async def plan(self, context: PlanContext) -> Plan:
        """Answer with task-acceptance pairs, strategy and language."""
        ...

    async def research(self, context: ResearchContext) -> Research:
        """Answer with findings and routes, each citing what it rests on."""
        ...

    async def write(self, context: WriteContext) -> Draft:
        """Answer with one candidate for this lane."""
        ...

    async def digest(self, context: DigestContext) -> Digest:
        """Answer with a diagnosis that ends in exactly one next edit."""
        ...

    async def review(self, context: ReviewContext) -> Review:
        """Answer with objections and a route; never with a promotion."""
        ...

    async def inspect(self, context: InspectContext) -> Inspection:
        """Answer with what is wrong with the final kernel as code; asked of the reviewer."""
        ...

    def spend(self) -> Spend:
        """Return the cost so far."""
        ...
