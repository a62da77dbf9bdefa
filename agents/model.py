"""Asking a language model for a reply that fits a schema, with a bounded number of repairs.

Knows no provider: a `ChatModel` is anything that answers turns with text. The JSON is taken out of
the text here, because servers differ in what they promise about structured output.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol, TypeVar

from pydantic import JsonValue, ValidationError

from agents.errors import MalformedReply
from agents.roles import Spend
from gpu_runner.message import Message

SchemaT = TypeVar("SchemaT", bound=Message)
_MOST_ERRORS = 8
_LONGEST_ECHO = 6000
_MOST_STARTS = 2000
"""Braces tried as the start of an object; a bound on the time a reply of braces can take."""
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_OBJECT_START = re.compile(r'\{\s*"')
_FENCE = re.compile(r"^[ \t]*```[a-zA-Z0-9]*[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


class Turn(Message):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


class Form(Message):
    """What an answer has to be, for servers that can hold a model to it."""

    name: str
    fields: dict[str, JsonValue]
    """A JSON schema."""


class Answer(Message):
    """What a model said."""

    text: str
    is_complete: bool
    """False where the provider cut it off: length limit, or a stream that ended early."""


class ChatModel(Protocol):
    """A language model behind a provider.

    Raises (by `answer`):
        ModelBusy: rate limit, overload or a server error; worth another try later.
        ModelTimeout: no answer in time.
        ModelRefused: wrong key, unknown model, context too long.
    """

    name: str
    """As the provider calls it."""
    provider: str

    async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
        """Answer the last turn; `form` is a help that a server may not give."""
        ...

    def spend(self) -> Spend:
        """Return the cost of every call so far, failed ones included."""
        ...


async def ask(
    model: ChatModel,
    schema: type[SchemaT],
    turns: Sequence[Turn],
    *,
    repairs: int = 2,
    objection: Callable[[SchemaT], str | None] = lambda _: None,
) -> SchemaT:
    """Return the model's reply as a value of `schema`.

    Args:
        model: who is asked.
        schema: what the reply must be.
        turns: the conversation so far; the caller's last turn asks for JSON.
        repairs: how often a malformed reply is sent back with what is wrong with it.
        objection: says what is wrong with a reply that fits the schema, or None.

    Raises:
        MalformedReply: still malformed after `repairs` more turns; the message has the last fault.
        ModelError: what the provider raised.
    """
    conversation = list(turns)
    form = Form(name=schema.__name__, fields=schema.model_json_schema())
    fault = ""
    for _ in range(1 + repairs):
        answer = await model.answer(conversation, form)
        found = read_reply(schema, answer)
        if not isinstance(found, str):
            fault = objection(found) or ""
            if not fault:
                return found
        else:
            fault = found
        conversation += [
            Turn(role="assistant", text=answer.text[-_LONGEST_ECHO:] or "(empty)"),
            Turn(role="user", text=_repair(fault)),
        ]
    raise MalformedReply(
        f"{model.provider} {model.name}: no {schema.__name__} after {repairs} repairs: {fault}"
    )


def read_reply(schema: type[SchemaT], answer: Answer) -> SchemaT | str:
    """Return the reply in an answer, or one sentence that says what is wrong with it.

    What fits counts only where nothing in the answer contradicts it: no other object that fits
    as well, and none begun after it that cannot be read.
    """
    fits: list[SchemaT] = []
    fault = ""
    for value in json_objects(answer.text):
        if not _is_text(value):
            fault = fault or "a string holds half a character (a lone surrogate)"
            continue
        try:
            fitting = schema.model_validate(value)
        except ValidationError as error:
            fault = fault or explain(error)
            continue
        if fitting not in fits:
            fits.append(fitting)
    if len(fits) > 1:
        return f"the reply holds {len(fits)} different objects that fit; answer with one only"
    broken = _broken(answer.text)
    if fits and not broken:
        return fits[0]
    if not answer.is_complete:
        said = fault or broken or "no whole JSON object"
        return f"the reply was cut off before its end; answer in fewer words ({said})"
    if fits:
        return f"after the object that fits another one begins, which is broken: {broken}"
    return (
        fault or f"the reply holds no JSON object{f' that can be read: {broken}' if broken else ''}"
    )


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
    whole = _whole(text)
    if whole is not None:
        yield whole
        return
    spoken = _spoken(text)
    for block in reversed(_FENCE.findall(spoken)):
        yield from _objects_in(block)
    yield from _objects_in(spoken)


def _whole(text: str) -> JsonValue | None:
    """Return the object that the text is, with nothing around it; None where it is not one."""
    stripped = text.strip()
    if not stripped.startswith("{"):
        return None
    value, end = _decoded(stripped, 0)
    return value if end == len(stripped) else None


def _spoken(text: str) -> str:
    """Return a reply without what is thought aloud; some templates swallow the opening tag."""
    without = _THOUGHT.sub("", text)
    ends = [match.end() for match in _THOUGHT_END.finditer(without)]
    return without[ends[-1] :] if ends else without


def _broken(text: str) -> str:
    """Return what is wrong with the last object begun in a text, after all that can be read.

    Empty where the text ends with a whole object, or with words.
    """
    if _whole(text) is not None:
        return ""
    spoken = _spoken(text)
    end = max((at for _, _, at in _regions(spoken)), default=0)
    begun = _OBJECT_START.search(spoken, end)
    if begun is None:
        return ""
    try:
        _DECODER.raw_decode(spoken, begun.start())
    except (ValueError, RecursionError) as error:
        return str(error)[:200]
    return ""


def _objects_in(text: str) -> Iterator[JsonValue]:
    """Yield the top-level objects of a text, the longest first."""
    for value, _, _ in sorted(_regions(text), key=lambda region: region[1] - region[2]):
        yield value


def _regions(text: str) -> list[tuple[JsonValue, int, int]]:
    """Return the top-level objects of a text with where each begins and ends."""
    found: list[tuple[JsonValue, int, int]] = []
    position = text.find("{")
    for _ in range(_MOST_STARTS):
        if position < 0:
            break
        value, end = _decoded(text, position)
        if end < 0:
            position = text.find("{", position + 1)
            continue
        found.append((value, position, end))
        position = text.find("{", end)
    return found


def _decoded(text: str, position: int) -> tuple[JsonValue, int]:
    """Return the object that begins at a position, and its end; (None, -1) where none does."""
    try:
        value, end = _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError):
        return None, -1
    return value, end


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


def _repair(fault: str) -> str:
    return (
        f"That reply cannot be used: {fault}\n"
        "Answer again with one JSON object that fits the schema, complete, and nothing else."
    )
