"""Every hit, in order, with lines that can be found again."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.grep import grep
from knowledge_store.records import Passage


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.md").write_text("one\ntwo exp\nthree\nfour exp\nfive\nsix\nseven exp\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "k.cpp").write_text("exp(x)\n\nEXP")
    (tmp_path / "a" / "photo.png").write_bytes(b"exp")
    (tmp_path / "broken.txt").write_bytes(b"exp \xff\xfe")
    return tmp_path


def places(answer):
    return [(p.path, p.lines) for p in answer.passages]


def test_hits_come_in_path_and_line_order(folder):
    answer = grep("exp", folder)
    assert places(answer) == [("a/k.cpp", "1"), ("b.md", "2"), ("b.md", "4"), ("b.md", "7")]
    assert answer.passages[1] == Passage(path="b.md", first_line=2, last_line=2, text="two exp")


def test_what_was_read_and_passed_over_is_counted(folder):
    answer = grep("exp", folder)
    assert (answer.hits, answer.files, answer.passed_over) == (4, 2, 1)


def test_case_may_be_ignored(folder):
    assert ("a/k.cpp", "3") in places(grep("exp", folder, ignore_case=True))


def test_context_is_cut_at_the_ends_and_touching_hits_are_one_passage(folder):
    answer = grep("exp", folder / "a" / "..", context=1)
    ranges = [p.lines for p in answer.passages if p.path == "b.md"]
    assert ranges == ["1-7"]
    ranges = [p.lines for p in grep("(two|seven) exp", folder, context=1).passages]
    assert ranges == ["1-3", "6-7"]


def test_the_limit_cuts_passages_not_the_count(folder):
    answer = grep("exp", folder, limit=2)
    assert len(answer.passages) == 2
    assert answer.hits == 4


def test_the_source_is_carried(folder):
    assert {p.source for p in grep("exp", folder, source="notes").passages} == {"notes"}


def test_a_link_is_not_followed(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.md"
    outside.write_text("exp")
    (folder / "link.md").symlink_to(outside)
    assert "link.md" not in dict(places(grep("exp", folder)))


def test_an_empty_file_holds_no_line(tmp_path):
    (tmp_path / "empty.md").write_text("")
    answer = grep("^", tmp_path)
    assert (answer.hits, answer.files) == (0, 1)


def test_a_large_file_is_passed_over(tmp_path):
    (tmp_path / "large.md").write_bytes(b"exp\n" * (1024 * 1024 + 1))
    answer = grep("exp", tmp_path)
    assert (answer.hits, answer.passed_over) == (0, 1)


def test_a_pattern_that_is_none_is_refused(folder):
    with pytest.raises(ValueError, match=r"pattern '\(' is not a regular expression"):
        grep("(", folder)


def test_a_folder_that_is_none_is_refused(folder):
    with pytest.raises(ValueError, match="is not a folder; name one"):
        grep("exp", folder / "gone")


TEXTS = st.text(alphabet=st.sampled_from("ab \t\r\n\x0b\x0c\x1c\u2028"), max_size=60)


@given(TEXTS, st.sampled_from(["a", "b$", "^a", "a b", r"\s"]), st.integers(0, 2))
def test_a_passage_is_the_lines_it_names(tmp_path_factory, text, pattern, context):
    folder = tmp_path_factory.mktemp("law")
    (folder / "t.md").write_bytes(text.encode())
    lines = text.removesuffix("\n").split("\n") if text else []
    answer = grep(pattern, folder, context=context, limit=10_000)
    assert answer.hits == sum(bool(re.search(pattern, line)) for line in lines)
    shown: set[int] = set()
    for passage in answer.passages:
        assert passage.text == "\n".join(lines[passage.first_line - 1 : passage.last_line])
        if context:
            covered = set(range(passage.first_line, passage.last_line + 1))
            assert not covered & shown
            shown |= covered
