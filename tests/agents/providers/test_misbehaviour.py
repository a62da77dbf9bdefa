"""What servers do to a stream, and what becomes of it: an answer, or a failure that is ours."""

from typing import Any

import pytest

from agents.errors import ModelBusy, ModelRefused, ModelTimeout, ModelUnavailable
from agents.model import Form, Turn, ask
from agents.providers import ModelPlan, connect
from agents.roles import Spend
from gpu_runner.message import Message
from tests.agents.model_server import ModelServer, Say, model_server

TURNS = (Turn(role="system", text="be brief"), Turn(role="user", text="hello"))
RED = '{"colour": "red"}'
KEY = "sk-secret-0123456789"


class Reply(Message):
    colour: str


@pytest.fixture(scope="module")
def running():
    with model_server() as server:
        yield server


@pytest.fixture
def server(running):
    running.forget()
    return running


def model(server: ModelServer, provider: str = "openai", *, key: str = "k", **changes: Any):
    values = {
        "provider": provider,
        "model": "m-1",
        "base_url": server.url + ("/v1" if provider == "openai" else ""),
        "retries": 0,
        "timeout_s": 20.0,
    }
    return connect(ModelPlan(**{**values, **changes}), key=key)


@pytest.mark.parametrize(
    "style", ["reasoning", "running_usage", "tool_text", "tool_no_index", "wrong_role"]
)
async def test_an_answer_is_read_in_whatever_form_it_comes(server, style):
    server.say(Say(text=RED, style=style))
    asked = model(server)
    assert await ask(asked, Reply, TURNS) == Reply(colour="red")
    assert asked.spend() == Spend(calls=1, input_tokens=11, output_tokens=7)


# The client warns of what it then refuses.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_an_answer_that_the_client_loses_is_asked_for_again(server):
    server.say(Say(text=RED, style="tool_object"), RED)
    asked = model(server)
    assert await ask(asked, Reply, TURNS) == Reply(colour="red")
    assert asked.spend().calls == 2


@pytest.mark.parametrize("style", ["null_choices", "broken_off"])
async def test_a_stream_that_ends_in_an_error_is_a_failure_of_ours(server, style):
    server.say(Say(text=RED, style=style))
    with pytest.raises(ModelBusy):
        await model(server).answer(TURNS)


async def test_an_error_in_the_middle_of_a_message_can_be_waited_for(server):
    server.say(Say(text="half", style="broken_off"), "whole")
    asked = model(server, "anthropic", retries=1)
    assert (await asked.answer(TURNS)).text == "whole"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_what_only_keeps_the_connection_open_is_silence(server, provider):
    server.say(Say(style="keep_alive"))
    with pytest.raises(ModelTimeout):
        await model(server, provider, timeout_s=0.3).answer(TURNS)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_the_longest_answer_has_an_end(server, provider):
    server.say(Say(text="late", silence_s=30))
    with pytest.raises(ModelTimeout):
        await model(server, provider, answer_s=0.3).answer(TURNS)


async def test_half_a_character_is_no_reason_to_break_off(server):
    server.say('{"colour": "red\\ud800"}', "\ud83d" + RED)
    assert await ask(model(server), Reply, TURNS) == Reply(colour="red")
    assert "half a character" in server.requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("reason", "is_complete"),
    [("stop", True), ("eos_token", True), ("content_filter", False), ("abort", False)],
)
async def test_servers_have_many_words_for_the_end(server, reason, is_complete):
    server.say(Say(text="so", reason=reason))
    assert (await model(server).answer(TURNS)).is_complete is is_complete


async def test_a_cut_off_answer_is_asked_for_again_with_that_reason(server):
    server.say(Say(text='{"colour": "re', reason=""), RED)
    assert await ask(model(server), Reply, TURNS) == Reply(colour="red")
    assert "cut off before its end" in server.requests[1]["messages"][-1]["content"]


# -- cost ----------------------------------------------------------------------------------------

PRICES: dict[str, Any] = {
    "input_usd_per_million": 10.0,
    "cached_usd_per_million": 1.0,
    "stored_usd_per_million": 20.0,
    "output_usd_per_million": 100.0,
}


async def test_tokens_read_from_a_cache_have_their_own_price(server):
    server.say(Say(text="a", read=1000, cached=600, written=10))
    asked = model(server, **PRICES)
    await asked.answer(TURNS)
    spent = asked.spend()
    assert (spent.input_tokens, spent.cached_tokens, spent.stored_tokens) == (1000, 600, 0)
    assert spent.usd == pytest.approx((400 * 10 + 600 * 1 + 10 * 100) / 1e6)


async def test_tokens_written_to_a_cache_have_theirs(server):
    server.say(Say(text="a", read=1000, cached=600, stored=300, written=10))
    asked = model(server, "anthropic", **PRICES)
    await asked.answer(TURNS)
    spent = asked.spend()
    assert (spent.input_tokens, spent.cached_tokens, spent.stored_tokens) == (1000, 600, 300)
    assert spent.usd == pytest.approx((100 * 10 + 600 * 1 + 300 * 20 + 10 * 100) / 1e6)


async def test_what_began_an_earlier_prompt_is_counted_for_every_server(server):
    server.say(Say(text="a", read=1000))
    asked = model(server)
    await asked.answer((Turn(role="system", text="s" * 900), Turn(role="user", text="a" * 85)))
    assert asked.spend().repeated_tokens == 0
    await asked.answer((Turn(role="system", text="s" * 900), Turn(role="user", text="b" * 85)))
    assert 900 <= asked.spend().repeated_tokens < 930


async def test_every_system_turn_ends_a_prefix_that_anthropic_caches(server):
    server.say("fine")
    await model(server, "anthropic").answer((Turn(role="system", text="first"), *TURNS))
    told = server.requests[0]["system"]
    assert [block["text"] for block in told] == ["first", "be brief"]
    assert all(block["cache_control"] == {"type": "ephemeral"} for block in told)


async def test_chat_completions_get_one_system_message(server):
    server.say("fine")
    await model(server).answer((Turn(role="system", text="first"), *TURNS))
    roles = [message["role"] for message in server.requests[0]["messages"]]
    assert roles == ["system", "user"]
    assert server.requests[0]["messages"][0]["content"] == "first\n\nbe brief"


# -- forms ---------------------------------------------------------------------------------------

FORM = Form(name="Reply", fields=Reply.model_json_schema())


async def test_a_schema_is_sent_where_it_is_asked_for(server):
    server.say(RED)
    await model(server, structured="schema").answer(TURNS, FORM)
    sent = server.requests[0]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"] == FORM.fields


@pytest.mark.parametrize("structured", ["auto", "off"])
async def test_without_a_survey_the_prompt_alone_says_the_form(server, structured):
    server.say(RED)
    await model(server, structured=structured).answer(TURNS, FORM)
    assert "response_format" not in server.requests[0]


async def test_a_server_that_refuses_a_form_is_asked_without_it_from_then_on(server):
    server.refuses = ("response_format",)
    server.say(RED)
    asked = model(server, structured="object")
    assert (await asked.answer(TURNS, FORM)).text == RED
    assert (await asked.answer(TURNS, FORM)).text == RED
    assert ["response_format" in request for request in server.requests] == [True, False, False]


async def test_a_cut_off_answer_in_a_form_is_no_exception_of_the_client(server):
    server.say(Say(text='{"colour": ', reason="length"))
    answer = await model(server, structured="schema").answer(TURNS, FORM)
    assert (answer.text, answer.is_complete) == ('{"colour": ', False)


async def test_more_fields_of_the_request_reach_the_server(server):
    server.say("fine")
    await model(server, extra={"temperature": 0.3, "top_k": 5}).answer(TURNS)
    assert (server.requests[0]["temperature"], server.requests[0]["top_k"]) == (0.3, 5)


async def test_the_length_of_an_answer_is_said_in_both_names(server):
    server.say("fine")
    await model(server, most_tokens=123).answer(TURNS)
    sent = server.requests[0]
    assert (sent["max_tokens"], sent["max_completion_tokens"]) == (123, 123)


# -- keys and limits -----------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [401, 500])
async def test_a_key_that_a_server_repeats_is_in_no_message(server, provider, status):
    server.say(Say(status=status, style="echo_key"))
    with pytest.raises((ModelRefused, ModelBusy)) as caught:
        await model(server, provider, key=KEY).answer(TURNS)
    error: BaseException | None = caught.value
    assert "(the key)" in str(error)
    while error is not None:
        assert KEY not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_key_does_not_travel_in_clear():
    plan = ModelPlan(provider="openai", model="m", base_url="http://models.example.org/v1")
    with pytest.raises(ModelRefused, match="in clear to http://models"):
        connect(plan, key=KEY)
    connect(plan, key="")


def test_an_address_holds_no_password():
    with pytest.raises(ValueError, match="key_env"):
        ModelPlan(provider="openai", model="m", base_url="https://me:secret@example.org/v1")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_limit_says_when_to_come_back(server, provider):
    server.say(Say(status=429, headers={"Retry-After": "7"}))
    with pytest.raises(ModelBusy) as caught:
        await model(server, provider).answer(TURNS)
    assert (caught.value.is_limit, caught.value.retry_after_s) == (True, 7.0)
    assert len(server.requests) == 1


async def test_patience_that_ends_is_not_taken_for_a_busy_moment(server):
    server.say(Say(status=503))
    asked = model(server, retries=1)
    with pytest.raises(ModelUnavailable, match="given up after 2 tries"):
        await asked.answer(TURNS)
    assert len(server.requests) == 2
