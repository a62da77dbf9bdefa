"""Both providers against a loopback server: the same contract, the same misbehaviours."""

import subprocess
import sys

import pytest

from agents.errors import MalformedReply, ModelBusy, ModelError, ModelRefused, ModelTimeout
from agents.model import ChatModel, Turn, ask
from agents.providers import ModelPlan, connect
from agents.roles import Spend
from gpu_runner.message import Message
from tests.agents.model_server import ModelServer, Say, model_server

TURNS = (Turn(role="system", text="be brief"), Turn(role="user", text="hello"))


class Reply(Message):
    colour: str


@pytest.fixture
def server():
    with model_server() as running:
        yield running


class ProviderContract:
    """What holds for every provider."""

    provider: str

    def connect(self, server: ModelServer, **changes) -> ChatModel:
        values = {
            "provider": self.provider,
            "model": "m-1",
            "base_url": server.url + self.suffix,
            "retries": 0,
            "timeout_s": 20.0,
            "input_usd_per_million": 3.0,
            "output_usd_per_million": 15.0,
        }
        return connect(ModelPlan(**{**values, **changes}), key="k")

    suffix = ""

    async def test_an_answer_comes_whole_with_its_cost(self, server):
        text = "word " * 300
        server.say(Say(text=text, read=1000, written=200))
        model = self.connect(server)
        answer = await model.answer(TURNS)
        assert (answer.text, answer.is_complete) == (text, True)
        assert model.spend() == Spend(calls=1, input_tokens=1000, output_tokens=200, usd=0.006)

    async def test_turns_reach_the_server_in_their_roles(self, server):
        server.say("fine")
        model = self.connect(server)
        await model.answer((*TURNS, Turn(role="assistant", text="hm"), Turn(role="user", text="?")))
        (sent,) = server.requests
        assert sent["model"] == "m-1"
        roles = [m["role"] for m in sent["messages"] if m["role"] != "system"]
        assert roles == ["user", "assistant", "user"]
        assert "be brief" in str(sent)

    async def test_a_length_limit_leaves_the_answer_incomplete(self, server):
        server.say(Say(text="half", reason="length"))
        answer = await self.connect(server).answer(TURNS)
        assert (answer.text, answer.is_complete) == ("half", False)

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (429, ModelBusy),
            (500, ModelBusy),
            (502, ModelBusy),
            (529, ModelBusy),
            (400, ModelRefused),
            (401, ModelRefused),
            (404, ModelRefused),
            (413, ModelRefused),
        ],
    )
    async def test_a_status_says_whether_to_try_again(self, server, status, kind):
        server.say(Say(text="because", status=status))
        model = self.connect(server)
        with pytest.raises(kind) as caught:
            await model.answer(TURNS)
        assert type(caught.value) is kind
        assert "m-1" in str(caught.value)
        assert model.spend() == Spend(calls=1)

    async def test_a_silent_server_times_out(self, server):
        server.say(Say(text="late", silence_s=30))
        with pytest.raises(ModelTimeout):
            await self.connect(server, timeout_s=0.3).answer(TURNS)

    async def test_no_server_is_busy_not_refused(self, server):
        model = self.connect(server, base_url="http://127.0.0.1:9")
        with pytest.raises(ModelBusy):
            await model.answer(TURNS)

    async def test_a_busy_server_is_tried_again_as_often_as_allowed(self, server):
        server.say(Say(status=429), "at last")
        answer = await self.connect(server, retries=1).answer(TURNS)
        assert answer.text == "at last"
        assert len(server.requests) == 2

    async def test_a_page_instead_of_an_answer_is_an_error_of_ours(self, server):
        server.say(Say(status=502, body=b"<html>bad gateway</html>"))
        with pytest.raises(ModelBusy):
            await self.connect(server).answer(TURNS)

    async def test_a_malformed_reply_is_repaired_over_the_wire(self, server):
        server.say('<think>x</think>{"color": 1}', '```json\n{"colour": "red"}\n```')
        model = self.connect(server)
        assert await ask(model, Reply, TURNS) == Reply(colour="red")
        assert model.spend().calls == 2
        assert "Field required" in server.requests[1]["messages"][-1]["content"]

    async def test_a_reply_that_never_fits_ends_after_the_repairs(self, server):
        server.say("never")
        with pytest.raises(MalformedReply):
            await ask(self.connect(server), Reply, TURNS, repairs=1)
        assert len(server.requests) == 2


class TestOpenAI(ProviderContract):
    provider = "openai"
    suffix = "/v1"

    async def test_chat_completions_are_used_whatever_the_model_is_called(self, server):
        server.say("fine")
        await self.connect(server, model="gpt-5.4-pro").answer(TURNS)
        assert server.paths == ["/v1/chat/completions"]

    async def test_a_stream_that_just_ends_is_incomplete(self, server):
        server.say(Say(text="half a", reason=""))
        answer = await self.connect(server).answer(TURNS)
        assert (answer.text, answer.is_complete) == ("half a", False)

    async def test_a_stream_of_nothing_is_an_error_of_ours(self, server):
        server.say(Say(text="", reason=""))
        with pytest.raises(ModelBusy):
            await self.connect(server).answer(TURNS)

    async def test_a_local_server_needs_no_key(self, server):
        server.say("fine")
        plan = ModelPlan(provider="openai", model="m", base_url=server.url + "/v1", retries=0)
        assert (await connect(plan, key="").answer(TURNS)).text == "fine"

    def test_the_service_itself_needs_one(self):
        with pytest.raises(ModelRefused, match="OPENAI_API_KEY"):
            connect(ModelPlan(provider="openai", model="m"), key="")


class TestAnthropic(ProviderContract):
    provider = "anthropic"

    async def test_the_system_turn_is_marked_for_the_cache(self, server):
        server.say("fine")
        await self.connect(server).answer(TURNS)
        assert server.requests[0]["system"] == [
            {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}
        ]
        assert server.paths == ["/v1/messages"]

    async def test_a_stream_that_just_ends_does_not_pass_for_an_answer(self, server):
        server.say(Say(text="half a", reason=""))
        try:
            answer = await self.connect(server).answer(TURNS)
        except ModelError:
            return
        assert not answer.is_complete

    async def test_a_stream_of_nothing_is_an_error_of_ours(self, server):
        server.say(Say(body=b""))
        with pytest.raises(ModelBusy):
            await self.connect(server).answer(TURNS)

    def test_it_needs_a_key(self):
        with pytest.raises(ModelRefused, match="ANTHROPIC_API_KEY"):
            connect(ModelPlan(provider="anthropic", model="m"), key="")


def test_no_library_is_imported_before_a_model_is_connected():
    code = (
        "import sys, agents.team, agents.providers, agents.scripted, agents.model\n"
        "heavy = {'anthropic', 'openai', 'langchain_openai', 'torch', 'zmq', 'chromadb'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_a_missing_library_is_refused_with_how_to_get_it(provider):
    code = (
        "import sys\n"
        f"sys.modules[{provider!r}] = None\n"
        "from agents.errors import ModelRefused\n"
        "from agents.providers import ModelPlan, connect\n"
        "try:\n"
        f"    connect(ModelPlan(provider={provider!r}, model='m'), key='k')\n"
        "except ModelRefused as error:\n"
        "    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install 'kernelpilot[run]'" in done.stdout
