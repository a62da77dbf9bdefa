"""Models are asked what they can do before a run depends on them."""

import io

import pytest
from rich.console import Console

from agents.errors import ModelRefused
from agents.playbook import Playbook
from graph.errors import SettingsError
from graph.settings import ModelSettings
from graph.surveying import refuse_unpriced, survey
from graph.target import Budget
from graph.wiring import model_team
from tests.agents.model_server import ModelServer, Say, model_server
from tests.graph.builders import make_target


@pytest.fixture
def server():
    with model_server() as running:
        running.say('{"word": "ready"}')
        yield running


def team(server: ModelServer, **roles):
    default = {"provider": "openai", "base_url": f"{server.url}/v1", "model": "m", "retries": 0}
    return model_team(ModelSettings(repairs=1, default=default, **roles), environment={})


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


async def test_each_model_has_one_line(server):
    screen = console()
    await survey(team(server, reviewer={"model": "r"}), screen)
    lines = printed(screen).splitlines()
    assert [line.split()[2] for line in lines] == ["m", "r"]
    assert all("JSON schema yes" in line for line in lines)


async def test_a_model_that_cannot_be_used_keeps_the_run_from_beginning(server):
    server.answers[:] = [Say(text="no such model", status=404)]
    with pytest.raises(ModelRefused, match=r"no such model.*doctor --models"):
        await survey(team(server), console())


async def test_a_fallback_that_cannot_be_used_is_told_and_does_no_harm(server):
    def reply(request):
        return Say(status=404, text="gone") if request["model"] == "f" else Say(text="{}")

    server.reply = reply
    screen = console()
    await survey(team(server, fallback={"model": "f"}), screen)
    assert "gone" in printed(screen)


async def test_a_limit_is_waited_for_in_the_run_itself(server):
    server.answers[:] = [Say(status=429, text="slow down")]
    await survey(team(server), console())


async def test_a_team_without_models_has_nothing_to_tell():
    screen = console()
    await survey(Playbook(), screen)
    assert printed(screen) == ""


def test_dollars_cannot_be_limited_without_a_price(server):
    target = make_target(budget=Budget(rounds=1, usd=1.0))
    models = ModelSettings(default={"provider": "anthropic", "model": "unheard-of"}, repairs=1)
    unpriced = model_team(models, environment={"ANTHROPIC_API_KEY": "k"})
    with pytest.raises(SettingsError, match="no price of unheard-of"):
        refuse_unpriced(unpriced, target)
    refuse_unpriced(unpriced, make_target())
    refuse_unpriced(team(server), target)
    refuse_unpriced(Playbook(), target)
