"""Which model each role asks."""

import pytest

from agents.providers.plan import ModelPlan
from graph.errors import SettingsError
from graph.models import cast, is_named, key_of, shipped
from graph.settings import ModelSettings, load_settings

LOCAL = {"provider": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "small"}


def models(**roles) -> ModelSettings:
    return ModelSettings(repairs=2, **roles)


def test_one_model_plays_every_role_but_the_reviewer():
    found = cast(models(default=LOCAL))
    assert {role: getattr(found, role).model for role in ("planner", "writer", "profiler")} == {
        "planner": "small",
        "writer": "small",
        "profiler": "small",
    }
    assert (found.reviewer, found.fallback) == (None, None)
    assert len(found.plans) == 1


def test_a_role_of_its_own_is_laid_over_the_default():
    found = cast(models(default=LOCAL, writer={"model": "large", "most_tokens": 99}))
    assert (found.writer.model, found.writer.most_tokens) == ("large", 99)
    assert found.writer.base_url == LOCAL["base_url"]
    assert found.planner.model == "small"


@pytest.mark.parametrize("choice", [{"provider": "anthropic", "model": "c"}, "claude-opus-5"])
def test_another_provider_or_file_takes_nothing_from_the_default(choice):
    found = cast(models(default=LOCAL, reviewer=choice))
    assert found.reviewer is not None
    assert (found.reviewer.provider, found.reviewer.base_url) == ("anthropic", "")


def test_without_a_default_the_other_roles_ask_the_writers_model():
    found = cast(models(writer={"model": "w"}, reviewer={"model": "r"}), "openai")
    assert found.planner == found.writer
    assert found.reviewer is not None
    assert found.reviewer.model == "r"


def test_a_file_is_used_by_its_name_with_changes_over_it():
    found = cast(models(default={"use": "claude-opus-5", "timeout_s": 9}))
    assert (found.writer.model, found.writer.timeout_s) == ("claude-opus-5", 9)
    assert found.writer.output_usd_per_million == 25


def test_a_file_of_ones_own_is_used_by_its_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("provider: openai\nmodel: mine\n")
    assert cast(models(default=str(path))).writer.model == "mine"


def test_a_known_model_has_its_price_however_it_is_named():
    found = cast(models(default={"provider": "openai", "model": "gpt-5.4"}))
    assert found.writer.is_priced
    assert found.writer.cached_usd_per_million == 0.25


def test_a_price_that_is_set_is_kept():
    own = {"provider": "openai", "model": "gpt-5.4", "input_usd_per_million": 1.0}
    assert cast(models(default=own)).writer.input_usd_per_million == 1.0


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({}, r"set models\.writer\.model=NAME"),
        ({"writer": {"model": "a"}}, r"set models\.reviewer\.model=NAME"),
        ({"default": {"base_url": "http://127.0.0.1:1"}}, r"models\.default\.model=NAME"),
        ({"default": "gpt-5.44"}, "did you mean 'gpt-5.4'"),
        ({"default": {**LOCAL, "tiemout_s": 3}}, "did you mean 'timeout_s'"),
        ({"default": {**LOCAL, "timeout_s": -3}}, "greater than 0"),
        ({"default": "nowhere.yaml"}, "No such file"),
        ({"default": {**LOCAL, "base_url": "https://a:b@c/v1"}}, "key_env"),
    ],
)
def test_what_is_missing_or_wrong_is_named(roles, message):
    with pytest.raises(SettingsError, match=message):
        cast(models(**roles), "openai")


def test_a_provider_is_asked_for_where_none_follows():
    with pytest.raises(SettingsError, match=r"set models\.default\.provider=openai"):
        cast(models(default={"model": "m"}))


def test_settings_name_models_role_by_role():
    assignments = [f"models.default.{key}={value}" for key, value in LOCAL.items()]
    settings = load_settings((), [*assignments, "models.reviewer=claude-opus-5"])
    assert is_named(settings.models)
    found = cast(settings.models)
    assert found.writer.model == "small"
    assert found.reviewer is not None
    assert not is_named(load_settings().models)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_shipped_file_is_valid_and_says_what_it_costs(name):
    changes = {"model": "m"} if name == "local" else {}
    plan = cast(models(default={"use": name, **changes})).writer
    assert plan.is_priced
    assert plan.model == ("m" if name == "local" else name)
    if plan.cached_usd_per_million is not None:
        assert plan.cached_usd_per_million < plan.input_usd_per_million


ENVIRONMENT = {"OPENAI_API_KEY": "sk-o", "MINE": "sk-m"}


class TestKeys:
    def plan(self, **changes) -> ModelPlan:
        return ModelPlan(**{"provider": "openai", "model": "m", **changes})

    def test_a_providers_key_is_found_by_its_name(self):
        assert key_of(self.plan(), ENVIRONMENT) == "sk-o"
        assert key_of(self.plan(), {}) == ""

    def test_another_variable_may_hold_it(self):
        assert key_of(self.plan(key_env="MINE"), ENVIRONMENT) == "sk-m"

    def test_the_providers_own_key_is_not_sent_elsewhere_in_clear(self):
        plan = self.plan(base_url="http://models.example.org/v1")
        assert key_of(plan, ENVIRONMENT) == ""
