import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store import operations
from knowledge_store.embedders import Choice
from knowledge_store.errors import SourceError
from knowledge_store.evaluation import Relevant, evaluate, keys_of, read_questions, score
from knowledge_store.truth import Truth
from tests.knowledge_store.models import WordEmbedder
from tests.knowledge_store.stores import fill, make_pull


def question(query, kind, *relevant, **changes):
    rows = [{"repo": repo, "pr": number} for repo, number in relevant]
    return {"id": "x", "query": query, "kind": kind, "relevant": rows, **changes}


@pytest.fixture
def store(tmp_path):
    folder = fill(tmp_path / "store")
    operations.build(folder, [], Choice(None, "none"))
    return folder


def evaluated(store, tmp_path, *questions, embedder=None):
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in questions) + "\n\n")
    return evaluate(store, read_questions(path), embedder)


def test_each_kind_has_its_figures(store, tmp_path):
    result = evaluated(
        store,
        tmp_path,
        question("bank swizzle columns epilogue", "title", ("fastlib", 1)),
        question("no such words whatever", "title", ("fastlib", 2)),
        question("support for block tables of paged attention", "body", ("maker/fastlib", 2)),
        question("gather_page_table", "identifier", ("fastlib", 2)),
    )
    assert result["kinds"]["title"] == {"recall_at_10": 0.5, "mrr": 0.5, "queries": 2}
    assert result["kinds"]["body"]["recall_at_10"] == 1.0
    assert result["kinds"]["identifier"] == {"recall_at_10": 1.0, "mrr": 1.0, "queries": 1}
    assert result["embedder"] == "none"


def test_a_title_is_not_found_by_its_own_words(store, tmp_path):
    with Truth(store) as truth:
        truth.put(make_pull(20, title="Quetzalcoatl", body="About Quetzalcoatl only."), None)
    operations.build(store, [], Choice(None, "none"))
    asked = [question("Quetzalcoatl", kind, ("fastlib", 20)) for kind in ("title", "other")]
    kinds = evaluated(store, tmp_path, *asked)["kinds"]
    assert kinds["title"]["recall_at_10"] == 0.0
    assert kinds["other"]["recall_at_10"] == 1.0


def test_a_sentence_of_a_body_is_not_found_by_its_own_words(store, tmp_path):
    asked = question("Profiling showed many replays", "body", ("fastlib", 1))
    assert evaluated(store, tmp_path, asked)["kinds"]["body"]["recall_at_10"] == 0.0


def test_vectors_meet_the_field_no_more_than_words_do(store, tmp_path):
    embedder = WordEmbedder()
    operations.build(store, [], Choice(embedder, "words"))
    embedder.embedded.clear()
    asked = question("Long prompts need a cache in pages.", "body", ("fastlib", 2))
    result = evaluated(store, tmp_path, asked, embedder=embedder)
    assert result["embedder"] == "words-1"
    assert not any("Long prompts" in text for text in embedder.embedded if text != asked["query"])


def test_an_answer_that_the_store_does_not_have_counts_as_not_found(store, tmp_path):
    asked = question("bank swizzle", "title", ("fastlib", 999))
    told = evaluated(store, tmp_path, asked)["kinds"]["title"]
    assert told == {"recall_at_10": 0.0, "mrr": 0.0, "queries": 1, "not_in_store": 1}


def test_a_rubric_judges_what_has_no_known_answer(store, tmp_path):
    asked = question(
        "bank conflicts", "symptom", rubric_all_regex_i=["bank.?conflict", "epilogue|smem"]
    )
    told = evaluated(store, tmp_path, asked)["kinds"]["symptom"]
    assert told["recall_at_10"] == pytest.approx(0.1)
    assert told["mrr"] == 1.0


def test_the_index_that_is_measured_is_kept(store, tmp_path):
    asked = question("bank", "title", ("fastlib", 1))
    evaluated(store, tmp_path, asked)
    stamp = store / "measured" / "without-title" / "cards" / "stamp.json"
    before = stamp.stat().st_mtime_ns
    evaluated(store, tmp_path, asked)
    assert stamp.stat().st_mtime_ns == before


def test_the_store_s_own_index_is_left_alone(store, tmp_path):
    before = (store / "lexical" / "cards" / "stamp.json").read_bytes()
    evaluated(store, tmp_path, question("bank", "title", ("fastlib", 1)))
    assert (store / "lexical" / "cards" / "stamp.json").read_bytes() == before


@pytest.mark.parametrize(
    ("repo", "found"),
    [("fastlib", 1), ("maker/fastlib", 1), ("FastLib", 1), ("lib", 0), ("fast", 0)],
)
def test_an_answer_names_a_repository_in_several_ways(repo, found):
    keys = ["maker/fastlib#1", "maker/fastlib#11", "other/lib#2"]
    assert len(keys_of(Relevant(repo=repo, pr=1), keys)) == found


def test_an_answer_may_use_the_name_of_a_source():
    assert keys_of(Relevant(repo="cccl-cub", pr=5), ["NVIDIA/cccl#5"]) == {"NVIDIA/cccl#5"}


def test_the_score_is_of_the_first_ten():
    found = [str(number) for number in range(20)]
    assert score(found, {"0"}).recall == 1.0
    assert score(found, {"9"}).reciprocal_rank == pytest.approx(0.1)
    assert score(found, {"10"}).recall == 0.0
    assert score(found, {"0", "1", "15"}).recall == pytest.approx(2 / 3)
    assert score(found, {str(number) for number in range(20)}).recall == 1.0
    assert score([], {"1"}) == score(["2"], {"1"})


@given(
    st.lists(st.sampled_from("abcdef"), max_size=15), st.sets(st.sampled_from("abcdef"), min_size=1)
)
def test_scores_are_fractions(found, wanted):
    one = score(found, wanted)
    assert 0 <= one.recall <= 1
    assert 0 <= one.reciprocal_rank <= 1
    assert (one.recall > 0) == (one.reciprocal_rank > 0)


def test_a_line_that_is_no_question_is_named(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"query": "a", "kind": "title"}\n{"query": 1}\n')
    with pytest.raises(SourceError, match="line 2"):
        read_questions(path)
