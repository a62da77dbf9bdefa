import pytest

from knowledge_store import grepping, operations, routes
from knowledge_store.embedders import Choice
from knowledge_store.errors import KnowledgeError
from knowledge_store.findings import SearchFilter
from knowledge_store.grepping import GrepRequest, grep
from tests.knowledge_store.stores import fill


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("grep") / "store")
    operations.build(folder, [], Choice(None, "none"))
    return folder


def test_every_line_comes_with_where_it_is(store):
    answer = grep(store, GrepRequest(patterns=("page_table",)))
    assert [(hit.diff_line, hit.path) for hit in answer.hits] == [
        (6, "attention/paged.py"),
        (7, "attention/paged.py"),
        (16, "tests/test_paged.py"),
    ]
    assert next(grepping.rows(answer)).startswith("maker/fastlib#2:6:attention/paged.py: +def")


def test_the_last_row_says_how_complete_the_answer_is(store):
    answer = grep(store, GrepRequest(patterns=("page_table",), limit=1))
    last = list(grepping.rows(answer))[-1]
    assert last.startswith("3 lines in 1 of ")
    assert "1 shown" in last
    assert "1 have no diff and were not searched" in last


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"mode": "word"}, 2),
        ({"mode": "regex", "patterns": (r"page_\w+\[",)}, 1),
        ({"patterns": ("page_table", "block_size"), "combine": "all"}, 2),
        ({"patterns": ("PAGE_TABLE",), "ignore_case": True}, 3),
        ({"paths": ("attention/*",)}, 2),
        ({"only": SearchFilter(kinds=("test",))}, 1),
        ({"only": SearchFilter(repos=("lib",))}, 0),
        ({"only": SearchFilter(since="2025-01-01")}, 0),
    ],
)
def test_a_request_is_searched_as_it_says(store, changes, lines):
    mode = "word" if changes.get("mode") == "word" else "literal"
    request = GrepRequest.model_validate({"patterns": ("page_table",), "mode": mode, **changes})
    assert grep(store, request).total_hits == lines


def test_the_log_keeps_totals_whatever_the_limit(store, tmp_path):
    log = tmp_path / "routes.jsonl"
    grep(store, GrepRequest(patterns=("page_table",), limit=1), log)
    (entry,) = routes.RouteLog(log).entries()
    assert (entry.lines, entry.pulls, entry.scope) == (3, 1, {})
    assert entry.without_diff == ("other/lib#9",)
    assert routes.require_complete([entry], "page_table") == entry


def test_a_filtered_search_is_logged_with_its_scope(store, tmp_path):
    log = tmp_path / "routes.jsonl"
    only = SearchFilter(kinds=("kernel",))
    grep(store, GrepRequest(patterns=("page_table",), paths=("x/*",), only=only), log)
    (entry,) = routes.RouteLog(log).entries()
    assert entry.scope == {"kinds": ("kernel",), "paths": ("x/*",)}
    with pytest.raises(routes.Unfounded):
        routes.require_complete([entry], "page_table")


def test_a_search_for_all_of_several_is_no_search_for_one_of_them(store, tmp_path):
    log = tmp_path / "routes.jsonl"
    grep(store, GrepRequest(patterns=("page_table", "zzz"), combine="all"), log)
    with pytest.raises(routes.Unfounded):
        routes.require_complete(routes.RouteLog(log).entries(), "page_table")


def test_a_store_without_an_index_is_an_error(tmp_path):
    fill(tmp_path)
    with pytest.raises(KnowledgeError):
        grep(tmp_path, GrepRequest(patterns=("x",)))
