"""Layers of settings."""

import pytest
from pydantic import ValidationError

from graph.errors import SettingsError
from graph.settings import assigned_value, load_settings


def write(tmp_path, text: str, name: str = "extra.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_defaults_are_valid_and_claims_have_five_sittings():
    settings = load_settings()
    assert settings.bench.claim.sittings >= 5
    assert settings.bench.feedback.sittings == 1
    assert settings.team.name == "auto"
    assert settings.target == {}


def test_later_layers_change_single_keys(tmp_path):
    first = write(tmp_path, "loop: {repairs: 4}\njobs: {tries: 7}\n", "a.yaml")
    second = write(tmp_path, "loop: {repairs: 5}\n", "b.yaml")
    settings = load_settings([first, second], ["jobs.build_s=9"])
    assert settings.loop.repairs == 5
    assert settings.jobs.tries == 7
    assert settings.jobs.build_s == 9
    assert settings.jobs.check_s == load_settings().jobs.check_s


def test_an_assignment_beats_every_file(tmp_path):
    path = write(tmp_path, "loop: {repairs: 4}\n")
    assert load_settings([path], ["loop.repairs=0"]).loop.repairs == 0


def test_of_two_assignments_the_last_one_holds():
    assert load_settings((), ["loop.repairs=1", "loop.repairs=3"]).loop.repairs == 3


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        load_settings().loop.repairs = 9  # type: ignore[misc]  # the mutation under test


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("loop.repair=3", "loop.repair: unknown key; did you mean 'repairs'?"),
        ("lop.repairs=3", "lop: unknown key; did you mean 'loop'?"),
        ("loop.repairs=many", "loop.repairs"),
        ("loop.repairs=-1", "greater than or equal to 0"),
        ("bench.claim.pairz=3", "did you mean 'pairs'?"),
        ("bench.claim.sittings=3", "a claim needs 5"),
        ("run=5", "valid dictionary"),
        ("team.name=gpt", "team.name"),
        ("noequals", "section.key=value"),
        ("=5", "section.key=value"),
        ("a..b=5", "section.key=value"),
        ("loop.repairs=[1", "not YAML"),
    ],
)
def test_a_wrong_assignment_is_explained(assignment, message):
    with pytest.raises(SettingsError) as caught:
        load_settings((), [assignment])
    assert message in str(caught.value)
    assert assignment in str(caught.value)


def test_a_wrong_key_in_a_file_is_named_with_file_line_and_nearest_key(tmp_path):
    path = write(tmp_path, "jobs:\n  tries: 2\n  biuld_s: 3\n")
    with pytest.raises(SettingsError) as caught:
        load_settings([path])
    message = str(caught.value)
    assert str(path) in message
    assert "line 3: jobs.biuld_s: unknown key; did you mean 'build_s'?" in message


@pytest.mark.parametrize("text", ["a: [", "- 1", "\ufeff\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(SettingsError):
        load_settings([write(tmp_path, text)])


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "bin.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(SettingsError):
        load_settings([path])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="No such file"):
        load_settings([tmp_path / "none.yaml"])


def test_overrides_of_the_target_are_kept_for_its_reader():
    settings = load_settings((), ["target.budget.rounds=4", "target.goal={speedup: 2}"])
    assert settings.target == {"budget": {"rounds": 4}, "goal": {"speedup": 2}}


@pytest.mark.parametrize(
    ("text", "keys", "value"),
    [
        ("a.b=1", ["a", "b"], 1),
        ("a=x=y", ["a"], "x=y"),
        ("a.b=", ["a", "b"], None),
        ("a.b=[1, 2]", ["a", "b"], [1, 2]),
        ("a.b=true", ["a", "b"], True),
    ],
)
def test_values_are_read_as_yaml(text, keys, value):
    assert assigned_value(text) == (keys, value)
