"""Finds the one reply in what a model says, or says what is wrong with it. Pure.

Servers differ in what they promise about structured output, and models in what they say around it,
so nothing is taken on trust: a reply is accepted only where it cannot be mistaken for another.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from pydantic import JsonValue, ValidationError

from gpu_runner.message import Message

SchemaT = TypeVar("SchemaT", bound=Message)
_MOST_ERRORS = 8
_LONGEST = 1_000_000
"""Characters of a reply that are read; no model that is asked says as much."""
_MOST_STARTS = 500
"""Braces tried as the start of an object; a bound on the time a reply of braces can take."""
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_OPENING = re.compile(r"[\s\ufeff]*(?:```[a-zA-Z]*\s*)?")
"""What may stand before a reply that was cut off: the beginning of a fence."""
_FENCED_START = re.compile(r"```(?:json)?\s*\{", re.IGNORECASE)
_BRACE = re.compile(r"\{")
_MAYBE = re.compile(r'\{\s*["}]')
"""No other brace begins an object: most of those in source text are passed over."""
_OBJECT_START = re.compile(r'\{\s*"')
_FENCE = re.compile(r"^[ \t]*```[a-zA-Z0-9]*[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


def read(schema: type[SchemaT], text: str, *, is_complete: bool) -> SchemaT | str:
    """Return the reply in a text, or one sentence that says what is wrong with it.

    What fits counts only where nothing in the text speaks against it: it is the last object, no
    other fits, none is begun around it or after it that cannot be read. Of a text that was cut off
    it is also the first thing said.

    Args:
        schema: what the reply must be.
        text: all that was said.
        is_complete: nobody cut it off.
    """
    if len(text) > _LONGEST:
        return f"the reply has {len(text)} characters; answer with the object only"
    spoken, is_whole = _spoken(text)
    is_whole = is_whole and is_complete
    regions, broken = _regions(spoken)
    after = _begun_after(spoken, regions[-1].end if regions else 0, is_whole=is_whole)
    read = [_fitting(schema, region.value) for region in regions]
    fits = [one for one in read if not isinstance(one, str)]
    if fits:
        reply = fits[-1]
        fault = _contradiction(read, reply, after)
        if not fault and any(one.start < regions[-1].start <= one.end for one in broken):
            fault = (
                "the object that fits lies in another one, which is broken; answer with one only"
            )
        is_first = _OPENING.fullmatch(spoken[: regions[0].start]) is not None
        if not fault and (is_whole or is_first):
            return reply
    else:
        fault = next((one for one in read if isinstance(one, str)), "")
        if not fault:
            why = after or (str(broken[-1].value) if broken else "")
            fault = f"the reply holds no JSON object{f' that can be read: {why}' if why else ''}"
    if is_whole:
        return fault
    return f"the reply was cut off before its end; answer in fewer words ({fault or 'no end'})"


def _contradiction(read: list[SchemaT | str], reply: SchemaT, after: str) -> str:
    """Return what speaks against the last object that fits; empty where nothing does."""
    others = [one for one in read if not isinstance(one, str) and one != reply]
    if others:
        return "the reply holds different objects that fit; answer with one only"
    if after:
        return f"after the object that fits another one begins, which is broken: {after}"
    if isinstance(read[-1], str):
        return f"after the object that fits another one comes, which does not: {read[-1]}"
    return ""


def _fitting(schema: type[SchemaT], value: JsonValue) -> SchemaT | str:
    """Return a value as the schema has it, or why it does not fit."""
    if not _is_text(value):
        return (
            "a string holds half a character (a lone surrogate), or objects are nested too deeply"
        )
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        return explain(error)


def _is_text(value: JsonValue) -> bool:
    """Whether every string of a value can be written to a file."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def json_objects(text: str) -> Iterator[JsonValue]:
    """Yield the JSON objects of a reply, most likely first.

    A reply that is one object is that object. Else what is thought aloud is dropped; then come
    fenced blocks, the last one first; then objects found anywhere in the text, the longest first.
    """
    spoken, _ = _spoken(text)
    for block in (*reversed(_FENCE.findall(spoken)), spoken):
        regions, _ = _regions(block)
        for region in sorted(regions, key=lambda one: one.start - one.end):
            yield region.value


class _Region(NamedTuple):
    """Where an object begins and ends in a text."""

    value: JsonValue
    """Of a broken one, what is wrong with it."""
    start: int
    end: int
    """Of a broken one, how far it was read."""


def _spoken(text: str) -> tuple[str, bool]:
    """Return a reply without what is thought aloud, and whether no thought was left open.

    A reply that is one object is all spoken, whatever its strings hold. Some templates swallow the
    tag that opens a thought.
    """
    stripped = text.strip().lstrip("\ufeff")
    if stripped.startswith("{") and _read(stripped, 0).end == len(stripped):
        return stripped, True
    without = _THOUGHT.sub("", text)
    ends = [match.end() for match in _THOUGHT_END.finditer(without)]
    is_open = any(_THOUGHT_END.search(found[0]) is None for found in _THOUGHT.finditer(text))
    return (without[ends[-1] :] if ends else without), not is_open


def _begun_after(spoken: str, end: int, *, is_whole: bool) -> str:
    """Return what is wrong with an object begun behind a place; empty where none is.

    In words a brace begins nothing, unless the text was cut off behind it. One that opens a fenced
    block always does.
    """
    begun = (_OBJECT_START if is_whole else _BRACE).search(spoken, end)
    fenced = _FENCED_START.search(spoken, end)
    starts = [*([begun.start()] if begun else []), *([fenced.end() - 1] if fenced else [])]
    return str(_read(spoken, min(starts)).value) if starts else ""


def _regions(text: str) -> tuple[list[_Region], list[_Region]]:
    """Return the top-level objects of a text in order, and those begun that cannot be read."""
    found: list[_Region] = []
    broken: list[_Region] = []
    position = 0
    for _ in range(_MOST_STARTS):
        start = _MAYBE.search(text, position)
        if start is None:
            break
        region = _read(text, start.start())
        if isinstance(region.value, dict):
            found.append(region)
            position = region.end
        else:
            broken.append(region)
            position = start.start() + 1
    return found, broken


def _read(text: str, position: int) -> _Region:
    """Return the object that begins at a brace, or a broken one."""
    try:
        value, end = _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        return _Region(str(error)[:200], position, error.pos)
    except (ValueError, RecursionError) as error:
        return _Region(str(error)[:200], position, len(text))
    return _Region(value, position, end)


def _once(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """Refuse an object that says a key twice: nobody can tell which one is meant."""
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is given twice")
    return value


# Not strict: models leave line breaks as they are in the strings that hold source text.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_once)


def explain(error: ValidationError) -> str:
    """Return the faults of a reply as a model can use them: path and what is expected."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'the object'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)
    ]
    more = f"; and {len(faults) - _MOST_ERRORS} more" if len(faults) > _MOST_ERRORS else ""
    return "; ".join(faults[:_MOST_ERRORS]) + more
