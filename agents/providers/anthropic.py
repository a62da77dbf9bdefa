"""Anthropic's models through its SDK. The one file that owns `anthropic`.

Answers are streamed: a long answer that is not is refused by the SDK. The system turn is cached by
the provider, since every turn of a role begins with it.
"""

from collections.abc import Sequence

import anthropic
from anthropic.types import MessageParam, TextBlockParam

from agents.errors import ModelBusy, ModelError, ModelRefused, ModelTimeout
from agents.model import Answer, Turn
from agents.providers import ModelPlan
from agents.providers.meter import Meter
from agents.roles import Spend

_REFUSED_BELOW = 500
_BUSY = frozenset({408, 409, 425, 429})
_ENDED = frozenset({"end_turn", "stop_sequence"})


class AnthropicModel:
    """A model behind the messages API."""

    provider = "anthropic"

    def __init__(self, plan: ModelPlan, *, key: str) -> None:
        """Set up a client; raises ModelRefused without a key."""
        if not key:
            raise ModelRefused(f"model {plan.model!r}: no key; set ANTHROPIC_API_KEY")
        self.name = plan.model
        self._plan = plan
        self._meter = Meter()
        self._client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=plan.base_url or None,
            timeout=plan.timeout_s,
            max_retries=plan.retries,
        )

    async def answer(self, turns: Sequence[Turn]) -> Answer:
        """Answer the last turn; see ChatModel for what is raised."""
        told: list[TextBlockParam] = [
            {"type": "text", "text": turn.text, "cache_control": {"type": "ephemeral"}}
            for turn in turns
            if turn.role == "system"
        ]
        said = [_message(turn) for turn in turns if turn.role != "system"]
        try:
            async with self._client.messages.stream(
                model=self.name, max_tokens=self._plan.most_tokens, system=told, messages=said
            ) as stream:
                message = await stream.get_final_message()
        except (anthropic.AnthropicError, AssertionError) as error:
            # The SDK asserts where a stream ends before its message has begun.
            self._meter.add()
            raise _translated(error, self.name) from error
        usage = message.usage
        read = usage.input_tokens + (usage.cache_read_input_tokens or 0)
        read += usage.cache_creation_input_tokens or 0
        written = usage.output_tokens
        self._meter.add(input_tokens=read, output_tokens=written, usd=self._plan.usd(read, written))
        text = "".join(block.text for block in message.content if block.type == "text")
        return Answer(text=text, is_complete=message.stop_reason in _ENDED)

    def spend(self) -> Spend:
        """Return the cost so far; tokens read from the provider's cache count in full."""
        return self._meter.total


def _message(turn: Turn) -> MessageParam:
    if turn.role == "user":
        return {"role": "user", "content": turn.text}
    return {"role": "assistant", "content": turn.text}


def _translated(error: Exception, name: str) -> ModelError:
    what = f"anthropic {name}: {error}"[:500]
    if isinstance(error, anthropic.APITimeoutError):
        return ModelTimeout(what)
    if isinstance(error, anthropic.APIStatusError):
        is_final = 400 <= error.status_code < _REFUSED_BELOW and error.status_code not in _BUSY  # noqa: PLR2004 - client errors
        return ModelRefused(what) if is_final else ModelBusy(what)
    if isinstance(error, anthropic.APIError | AssertionError):
        return ModelBusy(what)
    return ModelRefused(what)
