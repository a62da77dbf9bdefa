"""Anthropic's models through its SDK. The one file that owns `anthropic`.

Answers are streamed: a long answer that is not is refused by the SDK. Every system turn ends a
prefix that the provider caches: the first is the same for all roles of a run, the second for all
questions of a role. The client tries nothing again: `patience.py` does.
"""

import asyncio
import time
from collections.abc import Sequence

import anthropic
from anthropic.types import Message, MessageParam, TextBlockParam
from pydantic import JsonValue

from agents.errors import ModelBusy, ModelError, ModelRefused, ModelTimeout
from agents.model import Answer, Form, Turn
from agents.providers.meter import Meter, Prefixes
from agents.providers.plan import ModelPlan
from agents.providers.survey import QUESTION, SCHEMA, TOOL, TOOL_QUESTION, Survey
from agents.providers.surveyed import of_status, scrubbed
from agents.roles import Spend

_ENDED = frozenset({"end_turn", "stop_sequence"})
_MOST_BREAKS = 4
"""Prefixes that one request may have cached."""


class AnthropicModel:
    """A model behind the messages API."""

    provider = "anthropic"

    def __init__(self, plan: ModelPlan, *, key: str) -> None:
        """Set up a client; raises ModelRefused without a key."""
        if not key:
            raise ModelRefused(
                f"model {plan.model!r}: no key; set {plan.key_env or 'ANTHROPIC_API_KEY'}"
            )
        self.name = plan.model
        self._plan = plan
        self._key = key
        self._meter = Meter()
        self._prefixes = Prefixes()
        self._client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=plan.base_url or None,
            timeout=plan.timeout_s,
            max_retries=0,
        )

    async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
        """Answer the last turn; see ChatModel for what is raised.

        The form is in the prompt; this provider's own way to hold a model to it takes fewer kinds
        of schema than the replies need.
        """
        del form
        share = self._prefixes.share(turns)
        told: list[TextBlockParam] = [
            {"type": "text", "text": turn.text} for turn in turns if turn.role == "system"
        ]
        for block in told[:_MOST_BREAKS]:
            block["cache_control"] = {"type": "ephemeral"}
        said = [_message(turn) for turn in turns if turn.role != "system"]
        try:
            async with asyncio.timeout(self._plan.answer_s):
                message = await self._streamed(told, said)
        except (anthropic.AnthropicError, AssertionError, TimeoutError) as error:
            # The SDK asserts where a stream ends before its message has begun.
            self._meter.add(Spend(calls=1))
            raise self._translated(error) from _without(error, self._key)
        self._meter.add(_cost(message, self._plan, share))
        text = "".join(block.text for block in message.content if block.type == "text")
        whole = text.encode("utf-8", "replace").decode()
        return Answer(text=whole, is_complete=message.stop_reason in _ENDED)

    def spend(self) -> Spend:
        """Return the cost so far; tokens read from the provider's cache count in full."""
        return self._meter.total

    async def survey(self, *, is_thorough: bool) -> Survey:
        """Ask what the provider can do, as `SurveyedModel.survey` says."""
        found = Survey(
            provider=self.provider,
            model=self.name,
            address=self._plan.base_url,
            is_priced=self._plan.is_priced,
        )
        listed = await self._listed()
        started = time.monotonic()
        try:
            answer = await self.answer((Turn(role="user", text=QUESTION),))
        except ModelError as error:
            is_limited = isinstance(error, ModelBusy) and error.is_limit
            told = {"fault": str(error), "is_limited": is_limited}
            return found.model_copy(update={**listed, **told})
        return found.model_copy(
            update={
                **listed,
                "seconds": time.monotonic() - started,
                "is_streaming": answer.is_complete,
                "has_tools": await self._calls_tools() if is_thorough else None,
            }
        )

    # -- requests --------------------------------------------------------------------------------

    async def _streamed(self, told: list[TextBlockParam], said: list[MessageParam]) -> Message:
        """Return the whole message; a stream whose pieces stop coming is timed out.

        The SDK's own timeout is of the socket, which pings keep alive.
        """
        clock = asyncio.get_running_loop()
        async with (
            asyncio.timeout(self._plan.timeout_s) as silence,
            self._client.messages.stream(
                model=self.name,
                max_tokens=self._plan.most_tokens,
                system=told,
                messages=said,
                extra_body=self._plan.extra or None,
            ) as stream,
        ):
            async for _ in stream:
                silence.reschedule(clock.time() + self._plan.timeout_s)
            return await stream.get_final_message()

    async def _listed(self) -> dict[str, JsonValue]:
        """Return what the provider's list of models says of this one; proxies may have none."""
        try:
            model = await self._client.models.retrieve(self.name)
        except anthropic.NotFoundError:
            return {}
        except (anthropic.AnthropicError, ValueError):
            return {}
        able = model.capabilities
        return {
            "is_listed": True,
            "context_tokens": model.max_input_tokens,
            "has_schema": able.structured_outputs.supported if able else None,
        }

    async def _calls_tools(self) -> bool:
        try:
            reply = await self._client.messages.create(
                model=self.name,
                max_tokens=1000,
                messages=[{"role": "user", "content": TOOL_QUESTION}],
                tools=[{"name": TOOL, "description": "Says a word.", "input_schema": SCHEMA}],
            )
        except (anthropic.AnthropicError, ValueError):
            return False
        return any(block.type == "tool_use" for block in reply.content)

    def _translated(self, error: Exception) -> ModelError:
        what = scrubbed(f"anthropic {self.name}: {error}", self._key)
        if isinstance(error, anthropic.APITimeoutError | TimeoutError):
            return ModelTimeout(what)
        if isinstance(error, anthropic.APIStatusError):
            return of_status(what, error.status_code, error.response.headers)
        if isinstance(error, anthropic.APIError | AssertionError):
            return ModelBusy(what)
        return ModelRefused(what)


def _cost(message: Message, plan: ModelPlan, share: float) -> Spend:
    usage = message.usage
    cached = usage.cache_read_input_tokens or 0
    stored = usage.cache_creation_input_tokens or 0
    read = usage.input_tokens + cached + stored
    return Spend(
        calls=1,
        input_tokens=read,
        cached_tokens=cached,
        stored_tokens=stored,
        repeated_tokens=int(share * read),
        output_tokens=usage.output_tokens,
        usd=plan.usd(read, usage.output_tokens, cached_tokens=cached, stored_tokens=stored),
    )


def _without(error: Exception, key: str) -> Exception | None:
    """Return the cause to keep beside our error: none where its words repeat the key."""
    return None if key in str(error) else error


def _message(turn: Turn) -> MessageParam:
    if turn.role == "user":
        return {"role": "user", "content": turn.text}
    return {"role": "assistant", "content": turn.text}
