"""OpenAI and every server that speaks its chat completions, through langchain-openai.

The one file that owns `langchain_openai` and `openai`; their exceptions become ours here. Answers
are streamed, so that a silent server is noticed; a stream that ends without a finish reason counts
as cut off.
"""

from collections.abc import Sequence

import openai
from langchain_core.messages import AIMessage as Said
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages import HumanMessage as Asked
from langchain_core.messages import SystemMessage as Told
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from agents.errors import ModelBusy, ModelError, ModelRefused, ModelTimeout
from agents.model import Answer, Turn
from agents.providers import ModelPlan
from agents.providers.meter import Meter
from agents.roles import Spend

_NO_KEY = "none"
"""The library insists on a key; local servers ignore it."""
_REFUSED_BELOW = 500
_BUSY = frozenset({408, 409, 425, 429})


class OpenAIModel:
    """A model behind chat completions."""

    provider = "openai"

    def __init__(self, plan: ModelPlan, *, key: str) -> None:
        """Set up a client; raises ModelRefused where the provider's own service has no key."""
        if not key and not plan.base_url:
            raise ModelRefused(
                f"model {plan.model!r}: no key; set OPENAI_API_KEY, or base_url for a local server"
            )
        self.name = plan.model
        self._plan = plan
        self._meter = Meter()
        self._client = ChatOpenAI(
            model=plan.model,
            base_url=plan.base_url or None,
            api_key=SecretStr(key or _NO_KEY),
            timeout=plan.timeout_s,
            stream_chunk_timeout=plan.timeout_s,
            max_retries=plan.retries,
            max_completion_tokens=plan.most_tokens,
            # Some model names would switch to /v1/responses, which other servers do not have.
            use_responses_api=False,
            # Without it a stream reports no tokens when base_url is set.
            stream_usage=True,
        )

    async def answer(self, turns: Sequence[Turn]) -> Answer:
        """Answer the last turn; see ChatModel for what is raised."""
        whole: AIMessageChunk | None = None
        try:
            async for piece in self._client.astream([_message(turn) for turn in turns]):
                assert isinstance(piece, AIMessageChunk), "chat models stream chunks"
                whole = piece if whole is None else whole + piece
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            self._meter.add()
            raise _translated(error, self.name) from error
        if whole is None:
            self._meter.add()
            raise ModelBusy(f"openai {self.name}: the stream ended before the first word")
        self._count(whole)
        reason = whole.response_metadata.get("finish_reason")
        return Answer(text=str(whole.text), is_complete=reason == "stop")

    def spend(self) -> Spend:
        """Return the cost so far."""
        return self._meter.total

    def _count(self, message: AIMessageChunk) -> None:
        usage = message.usage_metadata
        read, written = (usage["input_tokens"], usage["output_tokens"]) if usage else (0, 0)
        self._meter.add(input_tokens=read, output_tokens=written, usd=self._plan.usd(read, written))


def _message(turn: Turn) -> BaseMessage:
    if turn.role == "system":
        return Told(content=turn.text)
    return Asked(content=turn.text) if turn.role == "user" else Said(content=turn.text)


def _translated(error: Exception, name: str) -> ModelError:
    what = f"openai {name}: {error}"[:500]
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return ModelTimeout(what)
    if isinstance(error, openai.APIStatusError):
        is_final = error.status_code < _REFUSED_BELOW and error.status_code not in _BUSY
        return ModelRefused(what) if is_final else ModelBusy(what)
    if isinstance(error, openai.APIError):
        return ModelBusy(what)
    # What is left is a body that the library could not read, or a setting it does not take.
    return ModelBusy(what) if isinstance(error, ValueError) else ModelRefused(what)
