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
_FENCE = re.compile(r"^[ \t]*```[a-zA-Z0-9]*[ \t]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


class Turn(Message):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


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

    async def answer(self, turns: Sequence[Turn]) -> Answer:
        """Answer the last turn."""
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
    fault = ""
    for _ in range(1 + repairs):
        answer = await model.answer(conversation)
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
    """Return the reply in an answer, or one sentence that says what is wrong with it."""
    fault = "the reply holds no JSON object"
    for value in json_objects(answer.text):
        try:
            return schema.model_validate(value)
        except ValidationError as error:
            fault = explain(error)
    if not answer.is_complete:
        return f"the reply was cut off before its end; answer in fewer words ({fault})"
    return fault


def json_objects(text: str) -> Iterator[JsonValue]:
    """Yield the JSON objects of a reply, most likely first.

    What is thought aloud is dropped; then come fenced blocks, the last one first; then objects
    found anywhere in the text, the longest first.
    """
    spoken = _THOUGHT.sub("", text)
    for block in reversed(_FENCE.findall(spoken)):
        yield from _objects_in(block)
    yield from _objects_in(spoken)


def _objects_in(text: str) -> Iterator[JsonValue]:
    """Yield the top-level objects of a text, the longest first."""
    # Not strict: models leave line breaks as they are in the strings that hold source text.
    decoder = json.JSONDecoder(strict=False)
    found: list[tuple[int, JsonValue]] = []
    position = text.find("{")
    for _ in range(_MOST_STARTS):
        if position < 0:
            break
        try:
            value, end = decoder.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError):
            position = text.find("{", position + 1)
            continue
        found.append((end - position, value))
        position = text.find("{", end)
    for _, value in sorted(found, key=lambda item: -item[0]):
        yield value


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
