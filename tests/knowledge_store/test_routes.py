import multiprocessing

import pytest

from knowledge_store.errors import StoreError
from knowledge_store.findings import Found, SearchAnswer, SearchFilter
from knowledge_store.pages import page
from knowledge_store.routes import (
    RouteEntry,
    RouteLog,
    Unfounded,
    of_fetch,
    of_page,
    of_search,
    require_complete,
    require_opened,
)
from knowledge_store.truth import Truth
from tests.knowledge_store.stores import fill


def make_entry(**changes):
    fields = {
        "at": "2025-01-01T00:00:00.000+00:00",
        "route": "lines",
        "query": "tcgen05",
        "is_complete": True,
        "pulls": 3,
        "lines": 9,
        "searched": 100,
        **changes,
    }
    return RouteEntry.model_validate(fields)


@pytest.fixture
def log(tmp_path):
    return RouteLog(tmp_path / "run" / "routes.jsonl")


def test_entries_come_back_in_order(log):
    first, second = make_entry(), make_entry(query="wgmma")
    log.append(first)
    log.append(second)
    assert log.entries() == (first, second)


def test_a_run_without_queries_has_no_entries(log):
    assert log.entries() == ()


def test_a_line_that_a_crash_cut_off_is_left_out(log):
    log.append(make_entry())
    with log.path.open("ab") as file:
        file.write(b'{"at": "2025')
    assert len(log.entries()) == 1


def test_a_damaged_line_in_between_is_an_error_that_names_it(log):
    log.append(make_entry())
    log.path.write_bytes(b"rubbish\n" + log.path.read_bytes())
    with pytest.raises(StoreError, match="line 1"):
        log.entries()


def append_many(path, word):
    log = RouteLog(path)
    for _ in range(60):
        log.append(make_entry(query=word, keys=("a/b#1",) * 40))


@pytest.mark.processes
def test_two_processes_write_whole_lines(log):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(log.path, word)) for word in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(log.entries()) == 120


def test_a_complete_search_bears_out_that_everything_was_searched():
    entry = make_entry(query='"tcgen05"', without_diff=("a/b#1",))
    assert require_complete([entry], "TCGEN05") == entry
    assert require_complete([entry], "tcgen05").without_diff == ("a/b#1",)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"query": "wgmma"}, "no search for it is logged"),
        ({"route": "meaning"}, "no search for it is logged"),
        ({"route": "page"}, "no search for it is logged"),
        ({"is_complete": False}, "filtered or cut off"),
        ({"scope": {"repos": ("cutlass",)}}, "filtered or cut off"),
    ],
)
def test_without_a_complete_search_nothing_may_be_claimed(changes, why):
    with pytest.raises(Unfounded, match=why) as caught:
        require_complete([make_entry(**changes)], "tcgen05")
    assert 'kernelpilot knowledge grep "tcgen05"' in str(caught.value)


def test_an_idea_is_borrowed_from_a_diff_that_was_opened():
    opened = make_entry(route="page", keys=("a/b#1",), has_diff=True)
    assert require_opened([make_entry(), opened], "a/b#1") == opened


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": ("a/b#1",)},
        {"route": "page", "keys": ("a/b#2",), "has_diff": True},
        {"route": "page", "keys": ("a/b#1",), "has_diff": False},
        {"route": "meaning", "keys": ("a/b#1",)},
    ],
)
def test_a_hit_alone_is_not_an_opened_diff(changes):
    with pytest.raises(Unfounded, match=r"kernelpilot knowledge show a/b#1"):
        require_opened([make_entry(**changes)], "a/b#1")


def test_the_entry_of_a_search_says_what_was_asked_and_found():
    found = Found(
        key="a/b#1",
        slug="pr-b-1",
        title="t",
        url="",
        repo="a/b",
        merged_at="",
        licence="unknown",
        score=1.0,
        why=(),
    )
    answer = SearchAnswer(
        query="tma",
        route="word",
        routed_because="",
        found=(found,),
        is_complete=True,
        total_pulls=4,
        total_lines=8,
        searched_pulls=9,
        without_diff=("c/d#2",),
    )
    entry = of_search(answer, SearchFilter(repos=("b",)))
    assert (entry.route, entry.is_complete, entry.scope) == ("lines", True, {"repos": ("b",)})
    assert (entry.pulls, entry.lines, entry.searched) == (4, 8, 9)
    assert entry.licences == {"a/b#1": "unknown"}
    assert entry.without_diff == ("c/d#2",)
    assert (
        of_search(answer.model_copy(update={"route": "meaning"}), SearchFilter()).route == "meaning"
    )


def test_the_entry_of_a_page_says_whether_its_diff_was_opened(tmp_path):
    with Truth(fill(tmp_path), read_only=True) as truth:
        whole, bare = page(truth, "fastlib#2"), page(truth, "fastlib#2", diff="none")
    assert of_page(whole).has_diff
    assert not of_page(bare).has_diff
    assert require_opened([of_page(bare), of_page(whole)], "maker/fastlib#2").has_diff
    assert of_page(whole).licences == {"maker/fastlib#2": "unknown"}


def test_the_entry_of_a_fetch_names_what_was_fetched():
    entry = of_fetch("web", "https://docs.nvidia.com/x", ["https://docs.nvidia.com/x"])
    assert (entry.route, entry.searched, entry.is_complete) == ("web", 1, False)
