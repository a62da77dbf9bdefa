"""The route log after a crash, at its borders, and what each kind of query leaves in it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from knowledge_store import operations
from knowledge_store.embedders import Choice
from knowledge_store.errors import StoreError
from knowledge_store.findings import SearchFilter
from knowledge_store.grepping import GrepRequest, grep
from knowledge_store.pages import page
from knowledge_store.routes import (
    RouteEntry,
    RouteLog,
    Unfounded,
    of_fetch,
    of_page,
    require_complete,
    require_opened,
)
from knowledge_store.truth import Truth
from tests.knowledge_store.stores import fill


def make_entry(**changes):
    fields = {"at": "2025-01-01T00:00:00.000+00:00", "route": "lines", "query": "q", **changes}
    return RouteEntry.model_validate(fields)


@pytest.fixture
def log(tmp_path):
    return RouteLog(tmp_path / "routes.jsonl")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("routes") / "store")
    operations.build(folder, [], Choice(None, "none"))
    return folder


@pytest.mark.parametrize("kept", [1, 10, 40])
def test_after_a_crash_the_next_entry_stands_on_a_line_of_its_own(log, kept):
    first, second = make_entry(query="first"), make_entry(query="second")
    log.append(first)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + whole[:kept])
    log.append(second)
    assert log.entries() == (first, second)


def test_a_crash_in_the_first_line_of_all_leaves_room_for_the_next(log):
    log.path.write_bytes(b'{"at":')
    log.append(make_entry())
    assert log.entries() == (make_entry(),)


def test_an_entry_that_only_lost_its_line_end_is_kept(log):
    first, second = make_entry(query="first"), make_entry(query="second")
    log.append(first)
    log.path.write_bytes(log.path.read_bytes().rstrip(b"\n"))
    assert log.entries() == (first,)
    log.append(second)
    assert log.entries() == (first, second)


@settings(max_examples=10, deadline=None)  # each entry is written through to the disk
@given(st.integers(0, 700))
def test_wherever_a_crash_cuts_whole_entries_stay(tmp_path_factory, cut):
    log = RouteLog(tmp_path_factory.mktemp("cut") / "r.jsonl")
    entries = [make_entry(query=str(number)) for number in range(3)]
    for entry in entries:
        log.append(entry)
    content = log.path.read_bytes()
    left = content[: max(0, len(content) - cut)]
    log.path.write_bytes(left)
    tail = left.rpartition(b"\n")[2]
    whole = left.count(b"\n") + (bool(tail) and tail in content.split(b"\n"))
    assert log.entries() == tuple(entries[:whole])
    log.append(entries[0])
    assert log.entries() == (*entries[:whole], entries[0])


def test_a_damaged_line_that_was_ended_is_never_passed_over(log):
    log.append(make_entry())
    log.path.write_bytes(log.path.read_bytes() + b"{}\n")
    with pytest.raises(StoreError, match="line 2, is damaged; move it away"):
        log.entries()


def test_empty_lines_are_no_entries(log):
    log.append(make_entry())
    log.path.write_bytes(b"\n\n" + log.path.read_bytes() + b"\n")
    assert len(log.entries()) == 1


@pytest.mark.parametrize("changes", [{"route": "guess"}, {"pulls": "many"}, {"page": 1}])
def test_an_entry_has_its_fields_and_no_other(changes):
    with pytest.raises(ValidationError):
        make_entry(**changes)


@settings(max_examples=10, deadline=None)  # same
@given(st.text(max_size=30))
def test_a_query_of_any_characters_is_one_line(tmp_path_factory, query):
    log = RouteLog(tmp_path_factory.mktemp("any") / "r.jsonl")
    entry = make_entry(query=query, keys=("a/b#1",))
    log.append(entry)
    assert log.path.read_bytes().count(b"\n") == 1
    assert log.entries() == (entry,)


@pytest.mark.parametrize("query", ["tma", " tma ", '"tma"', "`tma`", "TMA", ' "tma" '], ids=repr)
def test_a_subject_is_the_same_in_quotes_and_in_any_case(query):
    entry = make_entry(query=query, is_complete=True)
    assert require_complete([entry], "tma") == entry
    assert require_complete([make_entry(query="tma", is_complete=True)], query).query == "tma"


@pytest.mark.parametrize("query", ["tm", "tmas", "tma copy", "tma | wgmma", ""])
def test_a_search_for_another_subject_bears_nothing_out(query):
    with pytest.raises(Unfounded, match="no search for it is logged"):
        require_complete([make_entry(query=query, is_complete=True)], "tma")


def test_one_complete_search_among_narrow_ones_is_enough():
    narrow = make_entry(query="x", is_complete=True, scope={"repos": ("a",)})
    whole = make_entry(query="x", is_complete=True)
    assert require_complete([narrow, whole, narrow], "x") is whole


def test_the_command_that_is_named_can_be_typed():
    with pytest.raises(Unfounded) as caught:
        require_complete([], 'a "b" c')
    assert r'grep "a \"b\" c"' in str(caught.value)


def test_nothing_is_borrowed_without_any_entry():
    with pytest.raises(Unfounded, match="knowledge show a/b#1"):
        require_opened([], "a/b#1")


def test_each_part_of_a_page_is_logged_as_what_it_is(store):
    with Truth(store, read_only=True) as truth:
        whole = of_page(page(truth, "fastlib#2"))
        part = of_page(page(truth, "fastlib#2", diff="file", path="tests/test_paged.py"))
        bare = of_page(page(truth, "fastlib#2", diff="none"))
        lost = of_page(page(truth, "other/lib#9"))
    assert [one.has_diff for one in (whole, part, bare, lost)] == [True, True, False, False]
    assert [one.is_complete for one in (whole, bare, lost)] == [True, False, True]
    assert {one.route for one in (whole, part, bare, lost)} == {"page"}
    assert whole.query == "pr-fastlib-2"
    assert (whole.pulls, whole.searched, whole.keys) == (1, 1, ("maker/fastlib#2",))


def test_a_fetch_is_no_search_of_everything():
    entry = of_fetch("source", "tma", iter(["a", "b"]))
    assert (entry.searched, entry.keys) == (2, ("a", "b"))
    with pytest.raises(Unfounded):
        require_complete([entry], "tma")


@pytest.mark.parametrize(
    ("combine", "query"), [("any", "page_table | swizzle"), ("all", "page_table & swizzle")]
)
def test_several_patterns_are_logged_as_they_were_joined(store, log, combine, query):
    request = GrepRequest(patterns=("page_table", "swizzle"), combine=combine)
    answer = grep(store, request, log.path)
    (entry,) = log.entries()
    assert (entry.query, entry.lines) == (query, answer.total_hits)
    assert entry.searched == answer.searched_pulls == 3


def test_a_grep_that_finds_nothing_is_a_complete_search_all_the_same(store, log):
    grep(store, GrepRequest(patterns=("no_such_thing",)), log.path)
    entry = require_complete(log.entries(), "no_such_thing")
    assert (entry.pulls, entry.lines, entry.keys) == (0, 0, ())
    assert entry.without_diff == ("other/lib#9",)


@pytest.mark.parametrize(
    ("only", "scope"),
    [
        ({"repos": ("maker/fastlib",)}, {"repos": ["maker/fastlib"]}),
        ({"since": "2025-01-01"}, {"since": "2025-01-01"}),
        ({"until": "2025-01-01"}, {"until": "2025-01-01"}),
        ({"kinds": ("test",)}, {"kinds": ["test"]}),
        ({"tags": ("attention",)}, {"tags": ["attention"]}),
    ],
)
def test_each_filter_is_in_the_scope_and_makes_a_search_narrow(store, log, only, scope):
    grep(store, GrepRequest(patterns=("swizzle",), only=SearchFilter(**only)), log.path)
    assert json.loads(log.path.read_bytes())["scope"] == scope
    with pytest.raises(Unfounded, match="filtered or cut off"):
        require_complete(log.entries(), "swizzle")
