"""Live parts made from settings."""

import pytest

from agents.playbook import Playbook
from agents.scripted import Scripted
from graph.errors import SettingsError
from graph.settings import TeamSettings
from graph.wiring import make_team, program_version, team_name
from tests.graph.processes import write_script


def named(name: str) -> TeamSettings:
    return TeamSettings(name=name, reply_s=1, retries=1)


def test_without_a_choice_the_playbook_answers_even_where_keys_are_set():
    assert team_name(named("auto"), {}) == "playbook"
    assert team_name(named("auto"), {"ANTHROPIC_API_KEY": "k"}) == "playbook"


@pytest.mark.parametrize("name", ["anthropic", "openai"])
def test_a_provider_needs_its_key(name):
    key = f"{name.upper()}_API_KEY"
    assert team_name(named(name), {key: "k"}) == name
    with pytest.raises(SettingsError, match=key):
        team_name(named(name), {})
    with pytest.raises(SettingsError, match=key):
        team_name(named(name), {key: ""})


def test_the_message_about_a_key_never_holds_another_one():
    with pytest.raises(SettingsError) as caught:
        team_name(named("openai"), {"ANTHROPIC_API_KEY": "sk-secret"})
    assert "sk-secret" not in str(caught.value)


def test_the_playbook_is_made_without_a_key():
    assert isinstance(make_team("playbook"), Playbook)


def test_a_script_is_read_from_its_file(tmp_path):
    path = write_script(tmp_path / "team.yaml", "// us=60")
    assert isinstance(make_team(f"scripted:{path}"), Scripted)


def test_a_missing_script_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        make_team(f"scripted:{tmp_path}/none.yaml")


def test_the_program_knows_its_version():
    assert program_version()[0].isdigit()
