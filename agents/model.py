"""Asking a language model for a reply that fits a schema, with a bounded number of repairs.

Knows no provider: a `ChatModel` is anything that answers turns with text; `reading.py` finds the
reply in it.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal, Protocol, TypeVar

from pydantic import JsonValue

from agents.billing import has_room
from agents.errors import MalformedReply, Overdrawn
from agents.reading import json_objects, read
from agents.roles import Spend
from gpu_runner.message import Message

__all__ = ["Answer", "ChatModel", "Form", "Turn", "ask", "form_of", "json_objects", "read_reply"]

SchemaT = TypeVar("SchemaT", bound=Message)
_LONGEST_ECHO = 6000


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
        Overdrawn: malformed, and the bill of the question has no room for a repair.
        ModelError: what the provider raised.
    """
    conversation = list(turns)
    form = form_of(schema)
    fault = ""
    for number in range(1 + repairs):
        if number and not has_room():
            raise Overdrawn(
                f"{model.provider} {model.name}: no {schema.__name__} after {number} replies, and "
                f"the budget has no room for another: {fault}"
            )
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


@cache
def form_of(schema: type[Message]) -> Form:
    """Return the form that a schema asks for."""
    return Form(name=schema.__name__, fields=schema.model_json_schema())


def read_reply(schema: type[SchemaT], answer: Answer) -> SchemaT | str:
    """Return the reply in an answer, or one sentence that says what is wrong with it."""
    return read(schema, answer.text, is_complete=answer.is_complete)


def _repair(fault: str) -> str:
    return (
        f"That reply cannot be used: {fault}\n"
        "Answer again with one JSON object that fits the schema, complete, and nothing else."
    )
