"""The base of every message of the bus and the words its fields are made of."""

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from gpu_runner.message import Message

Token = Annotated[int, Field(ge=0, lt=2**63)]
"""Fencing token: (epoch << 32) + n, strictly growing over all leases of all brokers in time."""

WorkerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Incarnation = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
"""Random per worker process: tells a restart from a reconnection."""
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Slots = Annotated[int, Field(ge=1, le=256)]

SessionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")]
"""Whoever takes turns with others: a run."""
Priority = Annotated[int, Field(ge=0, le=9)]
MIDDLE_PRIORITY = 5
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._+:-]{0,63}$")]
"""What a worker offers and a job may need: `gpu`, `sm_90`, `ncu`, a name of your own."""


def is_none(value: object) -> bool:
    """Leave out what was not said: a peer of an older version knows no such field."""
    return value is None


def is_empty(value: tuple[object, ...]) -> bool:
    """Leave out an empty list."""
    return not value


def is_middle(value: int) -> bool:
    """Leave out the priority of whoever does not say."""
    return value == MIDDLE_PRIORITY


class Envelope(Message):
    """A message of the bus; numbers and flags are never guessed from text."""

    model_config = ConfigDict(strict=True)
