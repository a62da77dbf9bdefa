"""Reading what others wrote: bounded files, text without traps, fields of unknown shape."""

import datetime as dt
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

MOST_META_BYTES = 64 * 1024 * 1024
_MOST_YAML_BYTES = 1024 * 1024
_MOST_YAML_EVENTS = 200_000
_DEEPEST = 40
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(?:$|[T ])")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Refused(Exception):
    """A file or field is not taken in; the message says why in a few words."""


def file_bytes(path: Path, most: int) -> bytes | None:
    """Return what a regular file holds; None where there is none.

    Raises:
        Refused: it is a link, no regular file, larger than `most`, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused("a link") from error
        raise Refused(error.strerror or "unreadable") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        os.close(descriptor)
        raise Refused("too large" if stat.S_ISREG(status.st_mode) else "no regular file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise Refused("too large")
    return content


def fingerprint(*parts: bytes | str | None) -> str:
    """Return a digest of several contents that tells them apart by their bounds as well."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode("utf-8", "replace") if isinstance(part, str) else part
        digest.update(b"-" if content is None else b"%d:" % len(content))
        digest.update(content or b"")
    return digest.hexdigest()


def json_mapping(content: bytes) -> Mapping[str, object]:
    """Return a JSON object.

    Raises:
        Refused: it is not JSON, not an object, or nested too deeply.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(f"no JSON ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise Refused("no JSON object")
    return value


def yaml_mapping(content: bytes) -> Mapping[str, object]:
    """Return a YAML mapping.

    The fast loader overflows the stack on deep nesting, and merged aliases take exponential time;
    so the events are looked at first, which needs neither stack nor memory.

    Raises:
        Refused: it is not YAML, not a mapping, merges aliases, or is nested too deeply or too
            large.
    """
    if len(content) > _MOST_YAML_BYTES:
        raise Refused("too large")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(content, loader))
        value = yaml.load(content, loader)  # noqa: S506 - one of the two safe loaders
    except (yaml.YAMLError, ValueError) as error:
        raise Refused("no YAML") from error
    if not isinstance(value, dict):
        raise Refused("no YAML mapping")
    return value


def _check_events(events: Iterable[yaml.Event]) -> None:
    depth = 0
    has_alias = has_merge = False
    for count, event in enumerate(events):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        has_alias |= isinstance(event, yaml.AliasEvent)
        has_merge |= isinstance(event, yaml.ScalarEvent) and event.value == "<<"
        if has_alias and has_merge:
            raise Refused("YAML that merges aliases")
        if depth > _DEEPEST or count > _MOST_YAML_EVENTS:
            raise Refused("YAML nested too deeply")


def clean(text: str) -> str:
    """Return text that any store and terminal takes: no lone surrogates, no control characters."""
    return _CONTROLS.sub("\ufffd", text.encode("utf-8", "replace").decode("utf-8"))


def printable(name: str) -> str:
    """Return a file's name as text that can be stored; different names stay different."""
    return clean(os.fsencode(name).decode("utf-8", "backslashreplace"))


def mapping_at(value: object, *names: str) -> Mapping[str, object]:
    """Return the mapping that lies below some names; an empty one where it does not."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def text_at(value: Mapping[str, object], *names: str) -> str:
    """Return the first of some fields that holds text, cleaned; empty where none does."""
    for name in names:
        found = value.get(name)
        if isinstance(found, str) and found.strip():
            return clean(found)
    return ""


def number_at(value: Mapping[str, object], *names: str) -> int:
    """Return the first of some fields that holds a positive whole number; 0 where none does."""
    for name in names:
        found = value.get(name)
        if isinstance(found, int) and not isinstance(found, bool) and found > 0:
            return found
    return 0


def day_of(value: object) -> str:
    """Return the ISO date of a time stamp in any of the forms that YAML and JSON give."""
    if isinstance(value, dt.date):
        return value.strftime("%Y-%m-%d")
    found = _DAY.match(value) if isinstance(value, str) else None
    return found[1] if found else ""


def commit_of(value: object) -> str:
    """Return a full object name; empty for anything else, shortened names among them."""
    return value if isinstance(value, str) and _COMMIT.fullmatch(value) else ""


def names_of(labels: object) -> tuple[str, ...]:
    """Return the names of labels, which are texts or objects with a name."""
    if not isinstance(labels, list):
        return ()
    texts = (text_at(item, "name") if isinstance(item, Mapping) else item for item in labels)
    return tuple(clean(text) for text in texts if isinstance(text, str) and text.strip())
