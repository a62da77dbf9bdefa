"""Live parts made from settings."""

import pytest

from agents.errors import ModelRefused
from agents.playbook import Playbook
from agents.scripted import Scripted
from graph.errors import SettingsError
from graph.settings import ModelSettings, TeamSettings
from graph.wiring import make_team, model_team, program_version, team_name
from tests.graph.processes import write_script

MODELS = ModelSettings(repairs=2)


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
    assert isinstance(make_team("playbook", MODELS), Playbook)


def test_a_script_is_read_from_its_file(tmp_path):
    path = write_script(tmp_path / "team.yaml", "#pragma us=60")
    assert isinstance(make_team(f"scripted:{path}", MODELS), Scripted)


def test_a_missing_script_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        make_team(f"scripted:{tmp_path}/none.yaml", MODELS)


KEYS = {"ANTHROPIC_API_KEY": "sk-a", "OPENAI_API_KEY": "sk-o"}


def test_a_provider_needs_to_know_its_models():
    with pytest.raises(SettingsError, match=r"set models\.writer\.model=NAME"):
        make_team("anthropic", MODELS, KEYS)
    half = ModelSettings(writer={"model": "a"}, repairs=2)
    with pytest.raises(SettingsError, match=r"set models\.reviewer\.model=NAME"):
        make_team("anthropic", half, KEYS)


def test_a_wrong_model_setting_is_explained():
    wrong = ModelSettings(writer={"model": "a", "base_ulr": "http://x"}, repairs=2)
    with pytest.raises(SettingsError, match="did you mean 'base_url'"):
        make_team("openai", wrong, KEYS)


def test_a_team_of_models_is_of_its_provider_unless_a_role_names_another():
    models = ModelSettings(
        writer={"model": "big"}, reviewer={"model": "other", "provider": "openai"}, repairs=2
    )
    assert make_team("anthropic", models, KEYS).name == ("anthropic:big reviewed by openai:other")


def test_a_model_does_not_review_its_own_work():
    models = ModelSettings(writer={"model": "big"}, reviewer={"model": "big"}, repairs=2)
    with pytest.raises(ModelRefused, match="another"):
        make_team("openai", models, KEYS)


def test_the_program_knows_its_version():
    assert program_version()[0].isdigit()


LOCAL = {"provider": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "small"}


def test_models_that_are_named_are_the_team():
    models = ModelSettings(default=LOCAL, repairs=2)
    assert team_name(named("auto"), {}, models) == "models"
    assert team_name(named("playbook"), {}, models) == "playbook"
    team = make_team("models", models, {})
    assert team.name == "openai:small reviewed by rules"


def test_roles_of_one_model_share_it_with_its_fallback_but_for_the_reviewer():
    models = ModelSettings(
        default=LOCAL, reviewer={"model": "judge"}, fallback={"model": "spare"}, repairs=2
    )
    team = model_team(models, environment={})
    assert [plan.model for plan in team.plans] == ["small", "spare", "judge"]


def test_a_fallback_may_not_be_the_reviewer():
    models = ModelSettings(
        default=LOCAL, reviewer={"model": "judge"}, fallback={"model": "judge"}, repairs=2
    )
    with pytest.raises(ModelRefused, match="openai judge"):
        model_team(models, environment={})


def test_an_unknown_team_is_named_with_those_there_are():
    with pytest.raises(SettingsError, match="playbook, models, anthropic or openai"):
        make_team("gpt", MODELS)
