"""The two wire formats as servers speak them, and how some of them go wrong.

Styles of an answer, each seen in a server or a client of the wild:
    plain            as documented
    reasoning        thoughts come in a field of their own before the answer
    running_usage    every piece reports the tokens so far
    tool_text        the answer comes as the arguments of a tool that nobody offered
    tool_object      these arguments are an object instead of its text
    tool_no_index    the pieces of these arguments do not say which call they are of
    wrong_role       pieces call themselves the user's
    null_choices     the pieces hold no choices but an error
    broken_off       an error event in the middle of the stream
    late_usage       (messages) input tokens are 0 at the start and left out at the end
    keep_alive       only comments or pings come, without end
    echo_key         (errors) the message repeats the key
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Say:
    """An answer: text, or a misbehaviour."""

    text: str = ""
    status: int = 200
    reason: str = "stop"
    """`stop`, `length`, or empty for a stream that just ends."""
    style: str = "plain"
    read: int = 11
    """Tokens, those of the cache included."""
    cached: int = 0
    stored: int = 0
    written: int = 7
    silence_s: float = 0.0
    body: bytes | None = None
    """Sent instead of an answer, as it is."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of an error."""


def _pieces(text: str) -> list[str]:
    return [text[i : i + 200] for i in range(0, len(text), 200)]


def chat(say: Say) -> Iterator[str]:
    """Yield the events of a chat completion."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    if say.style == "null_choices":
        yield _event({**head, "choices": None, "error": {"message": "out of memory"}})
        yield "data: [DONE]\n\n"
        return
    for delta in _deltas(say):
        usage = {"usage": _usage(say)} if say.style == "running_usage" else {}
        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
        yield _event({**head, "choices": choices, **usage})
    if say.style == "broken_off":
        yield _event({"error": {"message": "the worker died", "type": "server_error", "code": 500}})
        return
    if not say.reason:
        return
    yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": say.reason}]})
    yield _event({**head, "choices": [], "usage": _usage(say)})
    yield "data: [DONE]\n\n"


def _deltas(say: Say) -> Iterator[dict[str, Any]]:
    if say.style == "reasoning":
        for piece in ("First I ", 'thought of something else: {"colour": "blue"}'):
            yield {"role": "assistant", "content": None, "reasoning_content": piece}
    if say.style == "tool_object":
        whole = {"name": "answer", "arguments": json.loads(say.text)}
        yield {"role": "assistant", "tool_calls": [{"index": 0, "id": "t1", "function": whole}]}
        return
    for number, piece in enumerate(_pieces(say.text)):
        if say.style in {"tool_text", "tool_no_index"}:
            named = {"name": "answer"} if number == 0 else {}
            call: dict[str, Any] = {"function": {**named, "arguments": piece}}
            if say.style == "tool_text":
                call |= {"index": 0, "id": "t1" if number == 0 else None}
            yield {"role": "assistant", "content": None, "tool_calls": [call]}
        else:
            role = "user" if say.style == "wrong_role" else "assistant"
            yield {"role": role, "content": piece}


def _usage(say: Say) -> dict[str, Any]:
    return {
        "prompt_tokens": say.read,
        "completion_tokens": say.written,
        "total_tokens": say.read + say.written,
        "prompt_tokens_details": {"cached_tokens": say.cached},
    }


def messages(say: Say) -> Iterator[str]:
    """Yield the events of a message."""
    reason = {"stop": "end_turn", "length": "max_tokens"}.get(say.reason)
    fresh = say.read - say.cached - say.stored
    usage = {"input_tokens": fresh, "output_tokens": 0}
    if say.cached or say.stored:
        usage |= {
            "cache_read_input_tokens": say.cached,
            "cache_creation_input_tokens": say.stored,
        }
    message: dict[str, Any] = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    yield _named("message_start", {"message": message})
    block = {"index": 0, "content_block": {"type": "text", "text": ""}}
    yield _named("content_block_start", block)
    yield _named("ping", {})
    for piece in _pieces(say.text):
        delta = {"index": 0, "delta": {"type": "text_delta", "text": piece}}
        yield _named("content_block_delta", delta)
    if say.style == "broken_off":
        yield _named("error", {"error": {"type": "overloaded_error", "message": "Overloaded"}})
        return
    if reason is None:
        return
    yield _named("content_block_stop", {"index": 0})
    end = {"delta": {"stop_reason": reason, "stop_sequence": None}}
    yield _named("message_delta", {**end, "usage": {"output_tokens": say.written}})
    yield _named("message_stop", {})


def tool_reply(say: Say, *, is_chat: bool) -> dict[str, Any]:
    """Return a whole answer that calls the survey's tool, where the text says so."""
    calls = say.style == "plain"
    if is_chat:
        call = {"name": "say", "arguments": '{"word": "ready"}'}
        made = [{"id": "t1", "type": "function", "function": call}] if calls else None
        message = {"role": "assistant", "content": "", "tool_calls": made}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
        return {**head, "choices": [choice], "usage": _usage(say)}
    used = {"type": "tool_use", "id": "t1", "name": "say", "input": {"word": "ready"}}
    return {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [used] if calls else [],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": say.read, "output_tokens": say.written},
    }


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _named(kind: str, value: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **value})}\n\n"
