import pytest

from knowledge_store import operations, pages
from knowledge_store.embedders import Choice
from knowledge_store.errors import StoreError
from knowledge_store.findings import Reason, SearchFilter
from knowledge_store.search import Searcher
from knowledge_store.semantic import opened
from tests.knowledge_store.models import WordEmbedder
from tests.knowledge_store.stores import fill

WORDS = Choice(None, "none")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("search") / "store")
    operations.build(folder, [], Choice(WordEmbedder(), "words"))
    return folder


@pytest.fixture
def searcher(store):
    with Searcher(store) as made:
        yield made


def keys(answer):
    return [one.key for one in answer.found]


def test_a_question_finds_the_change_it_is_about(searcher):
    answer = searcher.search("reduce bank conflicts when storing the epilogue")
    assert keys(answer)[0] == "maker/fastlib#1"
    assert answer.route == "meaning"
    assert not answer.is_complete


def test_what_is_found_says_where_and_why_it_came(searcher):
    one = searcher.search("swizzle columns against bank conflicts").found[0]
    assert (one.path, one.diff_line) == ("csrc/epilogue.cu", 5)
    assert one.text.startswith("   int lane") or "swizzle" in one.text
    assert one.licence == "Apache-2.0"
    assert {reason.ranker for reason in one.why} == {"diff", "card", "prose", "whole"}
    assert any("swizzle" in reason.detail for reason in one.why)


def test_an_identifier_is_answered_by_lines(searcher):
    answer = searcher.search("gather_page_table")
    assert (answer.route, keys(answer)) == ("word", ["maker/fastlib#2"])
    assert (answer.total_lines, answer.total_pulls) == (2, 1)
    assert answer.is_complete
    assert answer.without_diff == ("other/lib#9",)
    assert answer.found[0].lines == 2


def test_whole_words_come_before_parts_of_longer_ones(searcher):
    answer = searcher.search("page_table")
    assert keys(answer) == ["maker/fastlib#2"]
    assert answer.total_lines == 3


def test_quotes_slashes_and_regular_expressions_are_lines(searcher):
    assert keys(searcher.search('"tcgen05.fence::after"')) == ["other/lib#7"]
    assert keys(searcher.search(r"/tcgen05\.(fence|commit)/")) == ["other/lib#7"]
    assert searcher.search(r"tcgen05\.(fence|commit)").total_lines == 2


def test_a_name_that_no_line_holds_is_ranked_by_its_words(searcher):
    answer = searcher.search("bankConflicts_swizzle")
    assert answer.route == "meaning"
    assert "no line of any diff" in answer.note
    assert keys(answer)[0] == "maker/fastlib#1"


def test_a_route_that_is_asked_for_is_kept(searcher):
    answer = searcher.search("gather_page_table", as_route="meaning")
    assert answer.route == "meaning"
    missing = searcher.search("no_such_name_here", as_route="word")
    assert (missing.found, missing.total_lines, missing.is_complete) == ((), 0, True)


def test_an_alias_finds_what_code_calls_otherwise(searcher):
    assert keys(searcher.search("UMMA ordering"))[0] == "other/lib#7"


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (SearchFilter(repos=("lib",)), {"other/lib#7", "other/lib#9"}),
        (SearchFilter(repos=("Other/Lib",)), {"other/lib#7", "other/lib#9"}),
        (SearchFilter(since="2025-01-01", repos=("fastlib",)), {"maker/fastlib#1"}),
        (SearchFilter(until="2024-12-31"), {"maker/fastlib#2"}),
        (SearchFilter(kinds=("test",)), {"maker/fastlib#2"}),
        (SearchFilter(repos=("lib", "fastlib"), kinds=("bench", "test")), {"maker/fastlib#2"}),
    ],
)
def test_a_filter_lets_only_some_through(searcher, only, expected):
    question = "change paged attention fence bank conflicts diff lost test assert tensor cores"
    found = set(keys(searcher.search(question, only=only)))
    assert found
    assert found <= expected


def test_a_filter_by_kind_shows_a_chunk_of_that_kind(searcher):
    (one,) = searcher.search("paged attention tables", only=SearchFilter(kinds=("test",))).found
    assert one.path == "tests/test_paged.py"


def test_a_filter_by_tag_shows_a_chunk_that_has_it(searcher):
    found = searcher.search("fence bank paged", only=SearchFilter(tags=("tcgen05",))).found
    assert [one.key for one in found] == ["other/lib#7"]
    assert "tcgen05" in found[0].tags


def test_an_unknown_repository_is_an_error_that_lists_the_known(searcher):
    with pytest.raises(StoreError, match="maker/fastlib, other/lib"):
        searcher.search("words", only=SearchFilter(repos=("nobody",)))


def test_no_more_than_the_limit(searcher):
    assert len(searcher.search("change attention fence bank", 2).found) == 2


@pytest.mark.parametrize("query", ["", "   ", "\n"])
def test_an_empty_query_is_refused(searcher, query):
    with pytest.raises(ValueError, match="empty"):
        searcher.search(query)


@pytest.mark.parametrize("query", ["the of and", "?!", "a", "\x00", "🙂 🙂", "x" * 5000])
def test_an_odd_query_is_answered(searcher, query):
    assert searcher.search(query).seconds >= 0


def test_the_place_of_a_pull_request_for_a_query(searcher):
    key = pages.resolve("pr-fastlib-1", searcher.keys)
    place, found = searcher.place_of("bank conflicts", key)
    assert place == 1
    assert found is not None
    assert str(found.why[0]).startswith(("diff #1", "card #1"))
    assert searcher.place_of("unrelatedword", key) == (0, None)


def test_vectors_join_the_rankers(store):
    with Searcher(store, WordEmbedder()) as searcher:
        one = searcher.search("Long prompts need a cache in pages").found[0]
    assert one.key == "maker/fastlib#2"
    by_name = {reason.ranker: reason for reason in one.why}
    assert set(by_name) >= {"card", "card vector"}
    assert by_name["card vector"].detail.startswith("cosine 0.")


def test_a_second_process_s_vectors_come_from_the_cache(store):
    owner, _ = opened(store / "chroma", WordEmbedder())
    with Searcher(store, WordEmbedder()) as searcher:
        one = searcher.search("Long prompts need a cache in pages").found[0]
    owner.close()
    assert "card vector" in {reason.ranker for reason in one.why}


def test_a_found_pull_request_is_evidence_that_can_be_cited(searcher):
    passage = searcher.search("swizzle_bank").found[0].passage()
    assert (passage.repo, passage.pr, passage.path) == ("maker/fastlib", 1, "csrc/epilogue.cu")
    assert passage.licence == "Apache-2.0"
    assert passage.first_line == 7
    assert passage.last_line == passage.first_line + passage.text.count("\n")


def test_a_store_without_indices_is_refused(tmp_path):
    folder = fill(tmp_path / "store")
    with pytest.raises(StoreError):
        Searcher(folder)


def test_a_reason_reads_as_a_line():
    assert str(Reason(ranker="diff", place=2, detail="tma")) == "diff #2 (tma)"
    assert str(Reason(ranker="card", place=1)) == "card #1"


def test_one_chunk_is_the_one_of_its_place(searcher):
    for key in searcher.keys:
        chunks = searcher.truth.chunks(key)
        for place, chunk in enumerate(chunks):
            assert searcher.truth.chunk(key, place) == chunk
        assert searcher.truth.chunk(key, len(chunks)) is None
