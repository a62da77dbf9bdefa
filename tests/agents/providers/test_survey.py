"""Servers are asked what they can do, and the finding is kept to."""

import pytest

from agents.model import Form, Turn
from agents.providers import ModelPlan
from agents.providers.anthropic import AnthropicModel
from agents.providers.openai import OpenAIModel
from agents.providers.survey import SCHEMA, Survey
from tests.agents.model_server import ModelServer, Say, model_server

READY = '{"word": "ready"}'
TURNS = (Turn(role="user", text="hello"),)
FORM = Form(name="ready", fields=SCHEMA)


@pytest.fixture(scope="module")
def running():
    with model_server() as server:
        yield server


@pytest.fixture
def server(running):
    running.forget()
    running.say(READY)
    return running


def chat(server: ModelServer, **changes) -> OpenAIModel:
    values = {"provider": "openai", "model": "m-1", "base_url": f"{server.url}/v1"}
    return OpenAIModel(ModelPlan(**{**values, **changes}), key="")


def messages(server: ModelServer, **changes) -> AnthropicModel:
    values = {"provider": "anthropic", "model": "m-1", "base_url": server.url}
    return AnthropicModel(ModelPlan(**{**values, **changes}), key="k")


async def test_an_able_server_is_found_able(server):
    server.models = {"m-1": {"max_model_len": 8192}, "m-2": {}}
    found = await chat(server).survey(is_thorough=True)
    assert found.fault == ""
    assert (found.is_streaming, found.has_schema, found.has_tools) == (True, True, True)
    assert (found.is_listed, found.context_tokens, found.is_priced) == (True, 8192, True)
    assert "stream yes, JSON schema yes, tools yes, context 8192 tokens" in found.line


async def test_a_server_that_obeys_a_schema_is_held_to_it_from_then_on(server):
    asked = chat(server)
    await asked.survey(is_thorough=False)
    await asked.answer(TURNS, FORM)
    assert server.requests[-1]["response_format"]["json_schema"]["name"] == "ready"


@pytest.mark.parametrize("said", ["Sure! " + READY, f"```json\n{READY}\n```", "no"])
async def test_one_that_only_seems_to_is_not(server, said):
    server.answers[:] = [Say(text=said)]
    asked = chat(server)
    found = await asked.survey(is_thorough=False)
    assert found.has_schema is False
    await asked.answer(TURNS, FORM)
    assert "response_format" not in server.requests[-1]


async def test_a_server_that_refuses_schemas_and_tools_can_still_be_used(server):
    server.refuses = ("response_format", "tools")
    found = await chat(server).survey(is_thorough=True)
    assert (found.fault, found.has_schema, found.has_tools) == ("", False, False)
    assert found.is_listed is None


async def test_what_is_longer_than_the_context_is_not_asked_for(server):
    server.models = {"m-1": {"context_length": 4096}}
    asked = chat(server)
    await asked.survey(is_thorough=False)
    await asked.answer(TURNS)
    assert server.requests[-1]["max_tokens"] == 2048


async def test_a_model_that_is_not_listed_is_said_to_be_so(server):
    server.models = {"other": {}}
    found = await chat(server).survey(is_thorough=False)
    assert "not among the models the server lists" in found.line


@pytest.mark.parametrize("make", [chat, messages])
async def test_a_server_that_refuses_is_a_fault_that_says_why(server, make):
    server.answers[:] = [Say(text="no such model", status=404)]
    found = await make(server).survey(is_thorough=False)
    assert "no such model" in found.fault
    assert found.line.endswith(found.fault)
    assert not found.is_limited


@pytest.mark.parametrize("make", [chat, messages])
async def test_a_limit_is_told_from_a_refusal(server, make):
    server.answers[:] = [Say(text="slow down", status=429)]
    found = await make(server).survey(is_thorough=False)
    assert found.fault
    assert found.is_limited


async def test_anthropic_says_how_long_its_context_is(server):
    server.models = {"m-1": {"max_input_tokens": 200_000}}
    found = await messages(server).survey(is_thorough=True)
    assert (found.fault, found.context_tokens, found.has_tools) == ("", 200_000, True)


async def test_a_proxy_without_a_list_is_used_all_the_same(server):
    found = await messages(server).survey(is_thorough=False)
    assert (found.fault, found.context_tokens, found.has_tools) == ("", None, None)
    assert "context not said" in found.line


def test_an_unknown_price_is_said():
    found = Survey(provider="openai", model="m", is_priced=False)
    assert found.line.endswith("no price: its dollars count as 0")
