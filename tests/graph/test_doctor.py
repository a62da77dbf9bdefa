"""What the machine has."""

from graph.doctor import diagnoses


def test_every_check_says_what_it_found_and_what_to_do():
    found = diagnoses({})
    names = [one["name"] for one in found]
    assert len(names) == len(set(names))
    for one in found:
        assert set(one) >= {"name", "is_ok", "is_needed", "detail", "remedy"}
        assert one["detail"]


def test_what_a_run_needs_is_installed_here():
    needed = [one for one in diagnoses({}) if one["is_needed"]]
    assert needed
    assert all(one["is_ok"] for one in needed)


def test_keys_are_told_to_be_set_and_never_shown():
    found = diagnoses({"ANTHROPIC_API_KEY": "sk-secret"})
    by_name = {one["name"]: one for one in found}
    assert by_name["ANTHROPIC_API_KEY"]["is_ok"]
    assert not by_name["OPENAI_API_KEY"]["is_ok"]
    assert "sk-secret" not in str(found)
