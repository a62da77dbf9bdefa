"""OpenAI and every server that speaks its chat completions, through langchain-openai.

The one file that owns `langchain_openai` and `openai`; their exceptions become ours here. Answers
are streamed, so that a silent server is noticed; a stream that ends without a finish reason counts
as cut off. The client tries nothing again: `patience.py` does.
"""

import asyncio
import time
from collections.abc import Sequence

import openai
from langchain_core.messages import AIMessage as Said
from langchain_core.messages import BaseMessage
from langchain_core.messages import HumanMessage as Asked
from langchain_core.messages import SystemMessage as Told
from langchain_openai import ChatOpenAI
from pydantic import JsonValue, SecretStr, ValidationError

from agents.errors import ModelBusy, ModelError, ModelRefused, ModelTimeout
from agents.model import Answer, Form, Turn, json_objects
from agents.providers.meter import Meter, Prefixes
from agents.providers.pieces import Pieces
from agents.providers.plan import ModelPlan
from agents.providers.survey import QUESTION, SCHEMA, TOOL, TOOL_QUESTION, Survey
from agents.providers.surveyed import of_status, scrubbed
from agents.roles import Spend

_NO_KEY = "none"
"""The library insists on a key; local servers ignore it."""
_UNFIT_STATUS = frozenset({400, 404, 415, 422, 500, 501})
"""How servers answer that cannot hold a model to a schema."""
_CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window", "max_context_length")
"""What servers call the length of their context in their list of models."""


class OpenAIModel:
    """A model behind chat completions."""

    provider = "openai"

    def __init__(self, plan: ModelPlan, *, key: str) -> None:
        """Set up a client; raises ModelRefused where the provider's own service has no key."""
        if not key and not plan.base_url:
            raise ModelRefused(
                f"model {plan.model!r}: no key; set {plan.key_env or 'OPENAI_API_KEY'}, or "
                "base_url for a local server"
            )
        self.name = plan.model
        self._plan = plan
        self._key = key
        self._meter = Meter()
        self._prefixes = Prefixes()
        self._enforces = {"auto": "off"}.get(plan.structured, plan.structured)
        self._most_tokens = plan.most_tokens
        self._client = ChatOpenAI(
            model=plan.model,
            base_url=plan.base_url or None,
            api_key=SecretStr(key or _NO_KEY),
            timeout=plan.timeout_s,
            stream_chunk_timeout=plan.timeout_s,
            max_retries=0,
            # Some model names would switch to /v1/responses, which other servers do not have.
            use_responses_api=False,
            # Without it a stream reports no tokens when base_url is set.
            stream_usage=True,
        )

    async def answer(self, turns: Sequence[Turn], form: Form | None = None) -> Answer:
        """Answer the last turn; see ChatModel for what is raised."""
        if form is None or self._enforces == "off":
            return await self._streamed(turns, {})
        try:
            return await self._streamed(turns, {"response_format": self._format(form)})
        except _UnfitFormError:
            # The server does not hold a model to this schema: from now on the prompt alone does.
            self._enforces = "off"
            return await self._streamed(turns, {})

    def spend(self) -> Spend:
        """Return the cost so far."""
        return self._meter.total

    async def survey(self, *, is_thorough: bool) -> Survey:
        """Ask what the server can do, as `SurveyedModel.survey` says."""
        plan = self._plan
        found = Survey(
            provider=self.provider,
            model=self.name,
            address=plan.base_url,
            is_priced=plan.is_priced,
        )
        listed = await self._listed()
        context_tokens = plan.context_tokens or listed.get("context_tokens")
        if isinstance(context_tokens, int):
            # A server refuses what would not fit beside the longest answer allowed.
            self._most_tokens = max(1, min(self._most_tokens, context_tokens // 2))
        started = time.monotonic()
        turns = (Turn(role="user", text=QUESTION),)
        has_schema: bool | None = None
        try:
            answer = await self._streamed(turns, {})
            seconds = time.monotonic() - started
            if plan.structured in {"auto", "schema"} or is_thorough:
                has_schema = await self._obeys(turns)
        except ModelError as error:
            is_limited = isinstance(error, ModelBusy) and error.is_limit
            told = {"fault": str(error), "is_limited": is_limited}
            return found.model_copy(update={**listed, **told})
        if plan.structured == "auto":
            self._enforces = "schema" if has_schema else "off"
        tools = await self._calls_tools() if is_thorough else None
        return found.model_copy(
            update={
                **listed,
                "seconds": seconds,
                "is_streaming": answer.is_complete,
                "has_schema": has_schema,
                "has_tools": tools,
            }
        )

    # -- requests --------------------------------------------------------------------------------

    async def _streamed(self, turns: Sequence[Turn], more: dict[str, JsonValue]) -> Answer:
        pieces = Pieces()
        share = self._prefixes.share(turns)
        # Servers other than the provider's own often know the older name alone.
        named = {"max_tokens": self._most_tokens} if self._plan.base_url else {}
        body = {**named, **self._plan.extra, **more}
        try:
            async with asyncio.timeout(self._plan.answer_s):
                # In the body, not as an argument: the client would parse the answer, and raise
                # where it is cut off or no JSON.
                async for piece in self._client.astream(
                    [_message(turn) for turn in _merged(turns)],
                    max_completion_tokens=self._most_tokens,
                    extra_body=body,
                ):
                    pieces.add(piece)
        except ValidationError:
            # What was called a tool's arguments was no text; the message is lost to the client.
            pieces.is_garbled = True
        except (openai.OpenAIError, TimeoutError, ValueError) as error:
            self._meter.add(Spend(calls=1))
            if more and getattr(error, "status_code", 0) in _UNFIT_STATUS:
                raise _UnfitFormError from None
            raise self._translated(error) from _without(error, self._key)
        if not pieces.count and not pieces.is_garbled:
            self._meter.add(Spend(calls=1))
            raise ModelBusy(f"openai {self.name}: the stream ended before the first word")
        self._meter.add(pieces.cost(self._plan, share))
        return pieces.answer()

    def _format(self, form: Form) -> JsonValue:
        if self._enforces == "object":
            return {"type": "json_object"}
        # Not strict: a strict schema may have no optional field.
        named: dict[str, JsonValue] = {
            "name": form.name,
            "schema": form.fields,
            "strict": False,
        }
        return {"type": "json_schema", "json_schema": named}

    async def _obeys(self, turns: Sequence[Turn]) -> bool:
        """Whether an answer held to a schema is that object and nothing else."""
        form = Form(name="ready", fields=SCHEMA)
        before, self._enforces = self._enforces, "schema"
        try:
            answer = await self._streamed(turns, {"response_format": self._format(form)})
        except _UnfitFormError:
            return False
        finally:
            self._enforces = before
        return answer.text.strip().startswith("{") and any(
            isinstance(value, dict) and set(value) == {"word"}
            for value in json_objects(answer.text)
        )

    async def _listed(self) -> dict[str, JsonValue]:
        """Return what the server's list of models says of this one; nothing where it has none."""
        try:
            page = await self._client.root_async_client.models.list()
        except (openai.OpenAIError, ValueError):
            return {}
        models = {one.id: one.model_dump() for one in page.data or ()}
        own = models.get(self.name, {})
        sizes = [own[name] for name in _CONTEXT_FIELDS if isinstance(own.get(name), int)]
        return {
            "is_listed": self.name in models,
            "context_tokens": sizes[0] if sizes else None,
        }

    async def _calls_tools(self) -> bool:
        tool = {"name": TOOL, "description": "Says a word.", "parameters": SCHEMA}
        try:
            reply = await self._client.root_async_client.chat.completions.create(
                model=self.name,
                messages=[{"role": "user", "content": TOOL_QUESTION}],
                tools=[{"type": "function", "function": tool}],
                max_completion_tokens=self._most_tokens,
            )
            calls = reply.choices[0].message.tool_calls or []
            return any(isinstance(call.function.arguments, str) for call in calls)
        except (openai.OpenAIError, ValueError, AttributeError, TypeError, IndexError):
            return False  # it refused, or answered in a form that no client could use

    def _translated(self, error: Exception) -> ModelError:
        what = scrubbed(f"openai {self.name}: {error}", self._key)
        if isinstance(error, openai.APITimeoutError | TimeoutError):
            return ModelTimeout(what)
        if isinstance(error, openai.APIStatusError):
            return of_status(what, error.status_code, error.response.headers)
        if isinstance(error, openai.APIError):
            return ModelBusy(what)
        # What is left is a body that the library could not read, or a setting it does not take.
        return ModelBusy(what) if isinstance(error, ValueError) else ModelRefused(what)


class _UnfitFormError(Exception):
    """The server refused a request that named the form of its answer."""


def _without(error: Exception, key: str) -> Exception | None:
    """Return the cause to keep beside our error: none where its words repeat the key."""
    return None if key and key in str(error) else error


def _merged(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns with one system turn at most: templates of many models take no second."""
    told = "\n\n".join(turn.text for turn in turns if turn.role == "system")
    rest = [turn for turn in turns if turn.role != "system"]
    return [Turn(role="system", text=told), *rest] if told else rest


def _message(turn: Turn) -> BaseMessage:
    if turn.role == "system":
        return Told(content=turn.text)
    return Asked(content=turn.text) if turn.role == "user" else Said(content=turn.text)
