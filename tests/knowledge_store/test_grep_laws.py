"""Laws of the exact search: what is shown is a part of what is there, and the counts are whole."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.grep import TEXT_SUFFIXES, grep

LINES = st.lists(st.sampled_from(["exp", "Exp(x)", "", "sum", "  exp exp"]), max_size=12)
TREES = st.dictionaries(
    st.sampled_from(["a.md", "b/a.cpp", "b/z.txt", "b/c/k.cu", "z.h", "photo.png", "exp"]), LINES
)


def laid_out(factory, tree):
    folder = factory.mktemp("tree")
    for name, lines in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
    return folder


def is_text(name):
    return any(name.endswith(suffix) for suffix in TEXT_SUFFIXES)


@settings(max_examples=40, deadline=None)
@given(TREES, st.booleans())
def test_every_hit_is_found_once_in_its_place(tmp_path_factory, tree, ignore_case):
    folder = laid_out(tmp_path_factory, tree)
    answer = grep("exp", folder, ignore_case=ignore_case, limit=1000)
    expected = [
        (name, number)
        for name in sorted(tree, key=lambda name: name.split("/"))
        if is_text(name)
        for number, line in enumerate(tree[name], 1)
        if re.search("exp", line, re.IGNORECASE if ignore_case else 0)
    ]
    assert [(p.path, p.first_line) for p in answer.passages] == expected
    assert answer.hits == len(expected)
    assert answer.files == sum(map(is_text, tree))
    assert answer.passed_over == 0


@settings(max_examples=30, deadline=None)
@given(TREES, st.integers(0, 6), st.integers(0, 3))
def test_a_limit_shows_the_first_of_them_and_counts_all(tmp_path_factory, tree, limit, context):
    folder = laid_out(tmp_path_factory, tree)
    whole = grep("exp", folder, limit=1000, context=context)
    part = grep("exp", folder, limit=limit, context=context)
    assert part.passages == whole.passages[:limit]
    assert (part.hits, part.files) == (whole.hits, whole.files)


@settings(max_examples=30, deadline=None)
@given(LINES, st.integers(1, 4))
def test_context_shows_each_hit_with_its_neighbours_and_no_line_twice(
    tmp_path_factory, lines, context
):
    folder = laid_out(tmp_path_factory, {"a.md": lines})
    shown = [
        number
        for p in grep("exp", folder, context=context).passages
        for number in range(p.first_line, p.last_line + 1)
    ]
    near = {
        number
        for hit, line in enumerate(lines, 1)
        if "exp" in line
        for number in range(hit - context, hit + context + 1)
        if 1 <= number <= len(lines)
    }
    assert shown == sorted(near)


@pytest.mark.parametrize(
    ("pattern", "hits"),
    [
        ("^exp$", [1]),
        (r"exp\(", [2]),
        ("exp|sum", [1, 2, 4]),
        ("(?i)EXP", [1, 2]),
        ("x\ny", []),
        (r"\u00fc", [5]),
        ("", [1, 2, 3, 4, 5]),
    ],
)
def test_a_pattern_is_a_regular_expression_over_single_lines(tmp_path, pattern, hits):
    (tmp_path / "a.md").write_text("exp\nexp(x)\n\nsum\n\u00fcber", encoding="utf-8")
    assert [p.first_line for p in grep(pattern, tmp_path).passages] == hits


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_lines_are_counted_as_an_editor_counts_them(tmp_path, ending):
    (tmp_path / "a.md").write_bytes(ending.join(["one", "exp", "three"]).encode())
    (passage,) = grep("exp", tmp_path).passages
    assert (passage.first_line, passage.text.rstrip("\r")) == (2, "exp")


@pytest.mark.parametrize("suffix", sorted(TEXT_SUFFIXES))
def test_each_kind_of_text_is_read_at_any_depth(tmp_path, suffix):
    place = tmp_path / "one" / "two" / f"k{suffix}"
    place.parent.mkdir(parents=True)
    place.write_text("exp\n")
    (passage,) = grep("exp", tmp_path, source="notes").passages
    assert (passage.path, passage.source) == (f"one/two/k{suffix}", "notes")


def test_a_folder_that_is_called_like_a_file_is_no_file(tmp_path):
    (tmp_path / "notes.md").mkdir()
    (tmp_path / "notes.md" / "a.md").write_text("exp\n")
    answer = grep("exp", tmp_path)
    assert [p.path for p in answer.passages] == ["notes.md/a.md"]
    assert answer.files == 1


def test_a_linked_folder_is_not_entered(tmp_path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.md").write_text("exp\n")
    (tmp_path / "link").symlink_to(outside)
    assert grep("exp", tmp_path).files == 0


def test_an_answer_is_that_of_the_moment(tmp_path):
    place = tmp_path / "a.md"
    place.write_text("exp\n")
    assert grep("exp", tmp_path).hits == 1
    place.write_text("sum\n")
    assert grep("exp", tmp_path).hits == 0
