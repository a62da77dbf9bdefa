"""A team that replays replies from a file: the double that tests use, shipped for anybody.

The file is YAML (or JSON) with a list for each role, an entry for each turn::

    plan:
      - {reason: ..., tasks: [...]}
    write:
      - {candidate: {...}, motivation: ...}
      - {raise: ModelBusy, message: try later}

Which turn it is follows from the context alone (the plan's version, the round, the lane), never
from how often a role was asked, so a resumed run hears the same answers. Round 1 hears the first
entry; after the last entry the last one is repeated. Where the script has no `inspect`, rules read
the final kernel.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from agents import errors
from agents.contexts import (
    DigestContext,
    InspectContext,
    PlanContext,
    ResearchContext,
    ReviewContext,
    RunView,
    WriteContext,
)
from agents.errors import AgentError, MalformedReply
from agents.inspection import inspect_by_rules
from agents.replies import Digest, Draft, Inspection, Plan, Research, Review
from agents.roles import Spend
from gpu_runner.message import Message

ROLES = ("plan", "research", "write", "digest", "review", "inspect")
ReplyT = TypeVar("ReplyT", bound=Message)


class Scripted:
    """Replays; costs nothing."""

    name = "scripted"

    def __init__(
        self, script: Mapping[str, list[dict[str, Any]]], *, source: str = "script"
    ) -> None:
        """Take the entries by role.

        Args:
            script: role name to its entries, in turn order.
            source: where they come from, for messages.

        Raises:
            MalformedReply: a role is unknown or its entries are not a list of mappings.
        """
        for role, entries in script.items():
            if role not in ROLES:
                raise MalformedReply(f"{source}: unknown role {role!r}; roles: {', '.join(ROLES)}")
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise MalformedReply(f"{source}: {role} must be a list with one mapping for a turn")
        self._script = script
        self._source = source

    @classmethod
    def read(cls, path: Path) -> "Scripted":
        """Read a script from a YAML or JSON file.

        Raises:
            MalformedReply: the file is not YAML, or not a mapping of roles.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise MalformedReply(f"{path}: {error}") from error
        if not isinstance(content, dict):
            raise MalformedReply(f"{path}: expected a mapping of roles: {', '.join(ROLES)}")
        return cls(content, source=str(path))

    async def plan(self, context: PlanContext) -> Plan:
        """Answer with the entry of the plan's version."""
        return self._reply(Plan, "plan", context.previous.version if context.previous else 0)

    async def research(self, context: ResearchContext) -> Research:
        """Answer with the entry of the plan's version."""
        return self._reply(Research, "research", context.plan.version - 1)

    async def write(self, context: WriteContext) -> Draft:
        """Answer with the entry of the round and lane."""
        return self._reply(Draft, "write", _turn(context.view) * context.lanes + context.lane)

    async def digest(self, context: DigestContext) -> Digest:
        """Answer with the entry of the round."""
        return self._reply(Digest, "digest", _turn(context.view))

    async def review(self, context: ReviewContext) -> Review:
        """Answer with the entry of the round."""
        return self._reply(Review, "review", _turn(context.view))

    async def inspect(self, context: InspectContext) -> Inspection:
        """Answer with the entry of the kernel's number, or with what rules find."""
        if not self._script.get("inspect"):
            return inspect_by_rules(context.candidate)
        return self._reply(Inspection, "inspect", context.number)

    def spend(self) -> Spend:
        """Return zero."""
        return Spend()

    def _reply(self, schema: type[ReplyT], role: str, turn: int) -> ReplyT:
        entries = self._script.get(role, [])
        if not entries:
            raise MalformedReply(f"{self._source}: no reply for {role}; add one under {role}:")
        number = min(turn, len(entries) - 1)
        entry = entries[number]
        if "raise" in entry:
            raise _error(str(entry["raise"]), str(entry.get("message", "scripted")))
        try:
            return schema.model_validate(entry)
        except ValidationError as error:
            raise MalformedReply(f"{self._source}: {role}[{number}]: {error}") from error


def _turn(view: RunView) -> int:
    """Return the place of a round's entry: rounds count from 1."""
    return view.round - 1


def _error(name: str, message: str) -> AgentError:
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, AgentError):
        return kind(message)
    return MalformedReply(f"raise: {name!r} is not an exception of agents.errors")
