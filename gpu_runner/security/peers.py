"""The allow-list: which key may do what, under which name. Pure; files are in `peer_file.py`."""

import tomllib
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Self

from pydantic import StringConstraints, ValidationError, model_validator

from gpu_runner.errors import PoolError
from gpu_runner.message import Message

PublicKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
HolderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class Role(StrEnum):
    """What a key is for."""

    CLIENT = "client"
    WORKER = "worker"
    OPERATOR = "operator"


_BLOBS = frozenset({"blob.stat", "blob.put", "blob.get", "blob.keep"})

SPEAKS: dict[Role, frozenset[str]] = {
    Role.CLIENT: _BLOBS | {"submit", "wait", "cancel", "describe"},
    Role.WORKER: _BLOBS | {"hello", "beat", "started", "done", "drain", "bye"},
    Role.OPERATOR: frozenset(
        {"wait", "cancel", "describe", "survey", "replay", "manage", "blob.stat"}
    ),
}
"""Kinds of messages that a role may send; a kind that nobody is named for is sent by nobody."""


class Holder(Message):
    """Who holds an enrolled key."""

    key: PublicKey
    role: Role
    name: HolderName
    """Of a worker: the only one that it may say hello by."""
    revoked: bool = False
    """Kept on the list, so that the key is not enrolled again by mistake."""

    def objection(self, kind: str, worker: str | None) -> str:
        """Return why this holder may not send a message; empty when it may.

        Args:
            kind: of the message.
            worker: the name in a hello.
        """
        if kind not in SPEAKS[self.role]:
            return f"a key of role {self.role} ({self.name}) may not send {kind!r}"
        if worker is not None and worker != self.name:
            return f"the key of worker {self.name!r} may not say hello as {worker!r}"
        return ""


class AllowList(Message):
    """Every enrolled key; nobody else gets in."""

    peer: tuple[Holder, ...] = ()

    @model_validator(mode="after")
    def _is_unambiguous(self) -> Self:
        keys = [holder.key for holder in self.peer]
        if len(set(keys)) < len(keys):
            raise ValueError("a key is enrolled twice")
        roles: dict[str, Role] = {}
        for holder in self.peer:
            if roles.setdefault(holder.name, holder.role) is not holder.role:
                raise ValueError(f"{holder.name!r} has two roles; give each its own name")
        return self

    def admitted(self, key: str) -> Holder | None:
        """Return who holds a key, if it may come in."""
        return self._by_key.get(key)

    def is_revoked(self, key: str) -> bool:
        """Whether a key was struck out."""
        return any(holder.key == key and holder.revoked for holder in self.peer)

    def enrolled(self, holder: Holder) -> Self:
        """Return the list with one more key; one name may have several, for a change of keys.

        Raises:
            PoolError: the key is on the list, or the name has another role.
        """
        known = next((h for h in self.peer if h.key == holder.key), None)
        if known is not None:
            state = "revoked; make a new pair" if known.revoked else "enrolled already"
            raise PoolError(f"this key of {known.role} {known.name!r} is {state}")
        return self._with((*self.peer, holder))

    def revoking(self, who: str) -> tuple[Self, tuple[Holder, ...]]:
        """Return the list without a key, or every key of a name, and which were struck.

        Raises:
            PoolError: nobody on the list is meant.
        """
        meant = tuple(h for h in self.peer if who in {h.key, h.name} and not h.revoked)
        if not meant:
            names = ", ".join(sorted({h.name for h in self.peer if not h.revoked})) or "nobody"
            raise PoolError(f"no enrolled key or name is {who!r}; enrolled: {names}")
        struck = tuple(h.model_copy(update={"revoked": True}) for h in meant)
        kept = (h.model_copy(update={"revoked": True}) if h in meant else h for h in self.peer)
        return self._with(kept), struck

    @cached_property
    def _by_key(self) -> dict[str, Holder]:
        """Asked of every message."""
        return {holder.key: holder for holder in self.peer if not holder.revoked}

    def _with(self, holders: Iterable[Holder]) -> Self:
        try:
            return type(self)(peer=tuple(holders))
        except ValidationError as error:
            raise PoolError(error.errors()[0]["msg"]) from error


def parse(text: str) -> AllowList:
    """Return the list that a TOML text holds.

    Raises:
        PoolError: it holds none; says where it is wrong.
    """
    try:
        return AllowList.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PoolError(f"it is no TOML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "list"
        raise PoolError(f"{place}: {first['msg']}") from error


def render(allowed: AllowList) -> str:
    """Return the TOML text of a list. No value of it can need an escape."""
    tables = [
        "[[peer]]\n"
        f'key = "{holder.key}"\nrole = "{holder.role}"\nname = "{holder.name}"\n'
        f"revoked = {str(holder.revoked).lower()}\n"
        for holder in allowed.peer
    ]
    return "\n".join(["# Who may speak to this broker: `kernelpilot-runner keys`.\n", *tables])
