"""Search over folders of source equals a plain scan of their files."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.errors import SourceError
from knowledge_store.exact import ripgrep, search_tree, tree
from knowledge_store.exact.errors import PatternError, SearchTimeout
from tests.knowledge_store.exact.stores import (
    ask,
    diff_bytes,
    expressions,
    plain_pattern,
    plain_scan,
)

FILES = {
    "a.cu": b"__ldg(x)\nint n = 8;\n",
    "sub/b.h": b"int __ldg;\r\nno end of line: __ldg",
    "sub/.hidden": b"__ldg\n",
    ".gitignore": b"a.cu\n",
    "empty": b"",
    "binary.bin": b"\x00\xff__ldg\x00\n\n",
}


def make(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "tree", FILES)


def places(answer):
    return {(hit.path, hit.line) for hit in answer.hits}


@settings(max_examples=40)
@given(
    st.lists(diff_bytes, min_size=1, max_size=3),
    expressions,
    st.booleans(),
    st.sampled_from(["any", "all"]),
)
def test_answers_equal_a_plain_scan(tmp_path_factory, contents, pattern, folds, combine):
    files = {f"f{number}": content for number, content in enumerate(contents)}
    folder = make(tmp_path_factory.mktemp("tree"), files)
    query = ask((pattern, "a"), "regex", ignore_case=folds, combine=combine)
    scans = [
        plain_scan(files, plain_pattern(p, "regex", ignore_case=folds)) for p in (pattern, "a")
    ]
    wanted = scans[0] | scans[1] if combine == "any" else scans[0] & scans[1]
    assert places(search_tree(folder, query)) == wanted


@pytest.mark.parametrize(("pattern", "engine"), [("__ldg", "ripgrep"), ("(?=_)__ldg", "process")])
def test_every_file_is_searched_whatever_its_name(folder, pattern, engine):
    answer = search_tree(folder, ask(pattern, "regex"))
    assert places(answer) == {
        ("a.cu", 1), ("binary.bin", 1), ("sub/.hidden", 1), ("sub/b.h", 1), ("sub/b.h", 2),
    }  # fmt: skip
    assert (answer.total_hits, answer.total_files, answer.engine) == (5, 4, engine)


def test_lines_are_shown_as_they_are(folder):
    hits = search_tree(folder, ask("__ldg", paths=("sub/*.h",))).hits
    assert [hit.text for hit in hits] == ["int __ldg;\r", "no end of line: __ldg"]


def test_git_and_links_are_left_out(folder, tmp_path):
    make(folder, {".git/objects/x": b"__ldg\n", "sub/.git/y": b"__ldg\n"})
    make(tmp_path, {"outside.c": b"__ldg\n"})
    (folder / "link.c").symlink_to(tmp_path / "outside.c")
    (folder / "links").symlink_to(tmp_path)
    for pattern in ("__ldg", "(?=_)__ldg"):
        answer = search_tree(folder, ask(pattern, "regex"))
        assert {hit.path for hit in answer.hits} == {"a.cu", "binary.bin", "sub/.hidden", "sub/b.h"}


def test_a_limit_is_shared_by_files(folder):
    make(folder, {"loud.c": b"__ldg\n" * 50})
    answer = search_tree(folder, ask("__ldg", limit=6))
    assert [hit.path for hit in answer.hits] == [
        "a.cu", "binary.bin", "loud.c", "loud.c", "sub/.hidden", "sub/b.h",
    ]  # fmt: skip
    assert (answer.total_hits, answer.is_truncated) == (55, True)


def test_odd_names_come_back_whole(folder):
    make(folder, {"with:colon 1:2": b"__odd\n", "new\nline": b"__odd\n"})
    for pattern in ("__odd", "(?=_)__odd"):
        found = places(search_tree(folder, ask(pattern, "regex")))
        assert found == {("with:colon 1:2", 1), ("new\nline", 1)}


def test_more_files_than_are_opened_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "_FILES_AT_ONCE", 3)
    files = {f"d{number % 2}/f{number}": b"x\ny\n" for number in range(10)}
    answer = search_tree(make(tmp_path / "t", files), ask("(?=y)y", "regex"))
    assert places(answer) == {(name, 2) for name in files}


def test_without_ripgrep_the_answer_is_the_same(folder, monkeypatch):
    with_it = search_tree(folder, ask("__ldg"))
    monkeypatch.setattr(ripgrep, "program", lambda: None)
    without = search_tree(folder, ask("__ldg"))
    assert without.hits == with_it.hits
    assert without.engine == "process"


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SourceError, match="clone or unpack"):
        search_tree(tmp_path / "nowhere", ask("x"))


def test_filters_that_mean_nothing_are_refused(folder):
    with pytest.raises(PatternError, match="no repository"):
        search_tree(folder, ask("x", repos=("a/b",)))


def test_a_catastrophic_pattern_ends_in_time(folder):
    make(folder, {"evil": b"b " + b"a" * 60 + b"c\n"})
    with pytest.raises(SearchTimeout):
        search_tree(folder, ask(r"((a+)+)\1b", "regex", timeout_s=0.5))
