"""The base of every noun that crosses a boundary, and how content becomes an identity.

Nothing here knows what is sent; no input or output, no clock, no randomness.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
"""An identifier usable in C, Python and YAML alike."""

JobId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$")]
"""Derived from run, round, attempt and kind, so that a repeated submission is the same job."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""sha256, hexadecimal."""


class Message(BaseModel):
    """A frozen value: validated on both ends, unknown fields refused, no infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def canonical_json(value: JsonValue | Mapping[str, JsonValue]) -> bytes:
    """Return the one JSON text of `value`: sorted keys, no blanks, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(value: Message | bytes) -> str:
    """Return the sha256 of a message's canonical JSON, or of bytes as they are."""
    content = value if isinstance(value, bytes) else canonical_json(value.model_dump(mode="json"))
    return hashlib.sha256(content).hexdigest()
