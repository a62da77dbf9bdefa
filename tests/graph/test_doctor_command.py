"""`kernelpilot doctor` as a user calls it."""

import json
import sys

import pytest

from graph import cli
from graph.doctor import diagnoses
from tests.agents.model_server import Say, model_server


@pytest.fixture
def doctor(capsys, monkeypatch):
    def run(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["kernelpilot", "doctor", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().out

    return run


def test_doctor_prints_a_line_for_every_check(doctor):
    code, out = doctor()
    lines = out.splitlines()
    assert code == 0, out
    assert len(lines) == len(diagnoses())
    assert {line[:3] for line in lines} <= {"ok ", "-- "}


def test_what_is_missing_is_told_with_its_remedy(doctor, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    _, out = doctor()
    by_name = {line[3:].split()[0]: line for line in out.splitlines()}
    assert by_name["OPENAI_API_KEY"].startswith("-- ")
    assert by_name["OPENAI_API_KEY"].endswith("-> export it to use that provider")
    assert by_name["ANTHROPIC_API_KEY"].startswith("ok ")
    assert "->" not in by_name["ANTHROPIC_API_KEY"]
    assert "sk-secret" not in out


def test_json_holds_every_check_and_whether_all_is_well(doctor, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, out = doctor("--json")
    told = json.loads(out)
    assert code == 0
    assert told["is_ok"] is False, "a key is missing, which no run needs"
    assert [one["name"] for one in told["checks"]] == [one["name"] for one in diagnoses()]


def test_a_package_that_is_not_needed_has_a_remedy_and_is_no_failure():
    optional = {str(one["name"]) for one in diagnoses({}) if not one["is_needed"]}
    assert {"package chromadb", "package anthropic", "ANTHROPIC_API_KEY"} <= optional
    for one in diagnoses({}):
        assert bool(one["is_ok"]) or one["remedy"], f"{one['name']} does not say what to do"


def test_an_empty_key_is_not_set():
    by_name = {one["name"]: one for one in diagnoses({"OPENAI_API_KEY": ""})}
    assert not by_name["OPENAI_API_KEY"]["is_ok"]


def test_each_model_that_is_set_is_asked(doctor):
    with model_server() as server:
        server.models = {"m": {"max_model_len": 8192}}
        server.say('{"word": "ready"}')
        default = f"{{provider: openai, base_url: '{server.url}/v1', model: m}}"
        chosen = ("--models", "--set", f"models.default={default}")
        code, out = doctor(*chosen, "--json")
        told = json.loads(out)
        assert (code, told["is_ok"]) == (0, True)
        (check,) = told["checks"]
        assert (check["has_tools"], check["has_schema"], check["context_tokens"]) == (
            True,
            True,
            8192,
        )
        server.answers[:] = [Say(text="no such model", status=404)]
        code, out = doctor(*chosen)
    assert code == 1
    assert out.startswith("--  model m")
    assert "no such model" in out
    assert "-> check whether http://127.0.0.1" in out


def test_without_a_model_it_says_what_to_set(doctor, capsys):
    code, _ = doctor("--models")
    assert code == 2
