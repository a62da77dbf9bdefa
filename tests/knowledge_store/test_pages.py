from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.pages import NoSuchPage, mentions, names_of, page, resolve
from knowledge_store.truth import Truth
from tests.knowledge_store.stores import PAGED, fill, make_pull

KEYS = ("maker/fastlib#1", "maker/fastlib#12", "NVIDIA/cccl#7814", "other/lib#7", "more/lib#7")


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    with Truth(fill(tmp_path_factory.mktemp("pages")), read_only=True) as made:
        yield made


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("pr-fastlib-1", "maker/fastlib#1"),
        ("PR-fastlib-1".lower(), "maker/fastlib#1"),
        ("pr-FastLib-12", "maker/fastlib#12"),
        ("maker/fastlib#12", "maker/fastlib#12"),
        ("MAKER/Fastlib#12", "maker/fastlib#12"),
        ("fastlib#1", "maker/fastlib#1"),
        ("https://github.com/maker/fastlib/pull/12", "maker/fastlib#12"),
        ("https://github.com/maker/fastlib/pull/12/files#diff-0", "maker/fastlib#12"),
        ("  pr-fastlib-1\n", "maker/fastlib#1"),
        ("pr-cccl-7814", "NVIDIA/cccl#7814"),
        ("pr-cccl-cub-7814", "NVIDIA/cccl#7814"),
        ("other/lib#7", "other/lib#7"),
    ],
)
def test_a_page_has_several_names(name, key):
    assert resolve(name, KEYS) == key


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "pr-fastlib-2",
        "maker/fastlib#1; rm -rf x",
        "pr-fastlib-1/../x",
        "",
        "#1",
        "pr--1",
        "maker/fastlib#99999999999999999999",
        "http://[::1]/x",
    ],
)
def test_a_name_of_nothing_is_an_error_that_names_it(name):
    with pytest.raises(NoSuchPage) as caught:
        resolve(name, KEYS)
    assert repr(name)[:20] in str(caught.value)


def test_a_name_of_two_lists_both():
    with pytest.raises(NoSuchPage, match=r"more/lib#7 or other/lib#7"):
        resolve("pr-lib-7", KEYS)


@given(st.text(max_size=60))
def test_no_text_resolves_to_anything_but_a_key_or_an_error(text):
    with suppress(NoSuchPage):
        assert resolve(text, KEYS) in KEYS


def test_a_repository_is_called_as_its_sources_call_it():
    assert names_of("NVIDIA/cccl") >= {"nvidia/cccl", "cccl", "cccl-cub"}
    assert names_of("no/such") == {"no/such", "such"}


def test_a_page_says_where_it_is_from_and_under_which_licence(truth):
    shown = page(truth, "pr-fastlib-1")
    assert (shown.key, shown.slug) == ("maker/fastlib#1", "pr-fastlib-1")
    assert shown.pull.url == "https://github.com/maker/fastlib/pull/1"
    assert shown.is_licence_known
    assert shown.warning == ""


def test_an_unknown_licence_is_said(truth):
    shown = page(truth, "pr-fastlib-2")
    assert not shown.is_licence_known
    assert "licence unknown" in shown.warning


def test_a_lost_diff_is_said(truth):
    shown = page(truth, "other/lib#9")
    assert "diff is missing" in shown.warning
    assert (shown.diff, shown.files) == ("", ())


def test_a_page_has_the_diff_as_it_was_and_its_files(truth):
    shown = page(truth, "fastlib#2")
    assert shown.diff == PAGED
    assert [file.path for file in shown.files] == ["attention/paged.py", "tests/test_paged.py"]
    assert shown.diff_lines == PAGED.count("\n")


def test_one_file_of_a_page(truth):
    shown = page(truth, "fastlib#2", diff="file", path="tests/test_paged.py")
    rows = PAGED.split("\n")
    assert shown.diff.split("\n")[0] == rows[shown.diff_first_line - 1]
    assert shown.diff.startswith("diff --git a/tests/test_paged.py")
    assert "attention/paged.py" not in shown.diff


def test_a_file_that_is_not_there_is_an_error_that_lists_those_that_are(truth):
    with pytest.raises(NoSuchPage, match=r"attention/paged\.py, tests/test_paged\.py"):
        page(truth, "fastlib#2", diff="file", path="../secret")


def test_a_page_without_its_diff(truth):
    assert page(truth, "fastlib#2", diff="none").diff == ""


def test_following_names_what_is_here_and_what_is_not(truth):
    shown = page(truth, "fastlib#1", follow=True)
    assert shown.related == ("maker/fastlib#2", "other/lib#7")
    assert shown.absent == ()
    assert page(truth, "fastlib#1").related == ()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("see #12, and a/b#3.", ("maker/fastlib#12", "a/b#3")),
        ("https://github.com/a/b/pull/4#issue-1", ("a/b#4",)),
        ("colour &#35; or x#5 or ##6 are none", ()),
        ("its own: #1", ()),
        ("twice #3 #3", ("maker/fastlib#3",)),
    ],
)
def test_mentions_are_found_in_text(body, named):
    assert mentions(make_pull(1, title="t", body=body)) == named
