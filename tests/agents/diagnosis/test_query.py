import pytest

from agents.diagnosis.query import evidence_query


def test_a_query_has_symptom_architecture_language_and_operator():
    query = evidence_query(
        "shared_memory_bank_conflicts",
        "bank conflicts swizzle",
        arch="sm_90a",
        language="cuda",
        operator="softmax",
    )
    assert (query.symptom, query.arch) == ("shared_memory_bank_conflicts", "sm_90")
    assert query.text == "bank conflicts swizzle softmax cuda sm_90 hopper h100"


def test_a_word_is_said_once():
    assert evidence_query("spills", "spills tile", operator="tile").text == "spills tile"


def test_without_words_the_label_stands_in():
    assert evidence_query("l2_bandwidth", "").text == "L2-bound"


@pytest.mark.parametrize(("arch", "word"), [("sm_80", "ampere"), ("sm_100a", "blackwell")])
def test_an_architecture_is_named_as_people_do(arch, word):
    assert word in evidence_query("tail", "persistent", arch=arch).text


def test_an_unknown_architecture_stays_as_it_is():
    assert evidence_query("tail", "persistent", arch="sm_999").text == "persistent sm_999"
