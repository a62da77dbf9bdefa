"""ripgrep, the process and this process agree; each says what it cannot do."""

import os
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.exact import judge, ripgrep
from knowledge_store.exact.dialect import Matcher
from knowledge_store.exact.errors import EngineError, SearchTimeout
from knowledge_store.exact.scan import TooWideError, finder_of, is_anchored, runs, scan
from tests.knowledge_store.exact.stores import (
    LETTERS,
    diff_bytes,
    expressions,
    lines_of,
    plain_pattern,
)

queries = st.one_of(
    st.tuples(st.text(LETTERS, min_size=1, max_size=4), st.sampled_from(["literal", "word"])),
    st.tuples(expressions, st.just("regex")),
)


def lines_hit(text, offsets):
    """Return the lines that offsets lie in, and check that there is one of each."""
    found = [text.count(b"\n", 0, offset) for offset in offsets]
    assert found == sorted(set(found))
    return set(found)


def plain(text, given, folds, combine):
    tests = [plain_pattern(pattern, mode, ignore_case=folds) for pattern, mode in given]
    return {
        number
        for number, line in enumerate(lines_of(text))
        if combine(test.search(line) for test in tests)
    }


@pytest.fixture
def opened(tmp_path):
    descriptors: list[int] = []

    def open_(text):
        path = tmp_path / str(len(descriptors))
        path.write_bytes(text)
        descriptors.append(os.open(path, os.O_RDONLY))
        return descriptors[-1]

    yield open_
    for descriptor in descriptors:
        os.close(descriptor)


@given(diff_bytes, st.lists(queries, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_lines_are_found_in_this_process_as_by_a_plain_scan(text, given_, folds, is_all):
    text = text + b"\n" if text else text
    matchers = [Matcher(pattern, mode, ignore_case=folds) for pattern, mode in given_]
    finder = finder_of(matchers, is_all=is_all, is_bounded=False)
    assert lines_hit(text, finder(text)) == plain(text, given_, folds, all if is_all else any)


@settings(max_examples=40, suppress_health_check=[])
@given(st.lists(diff_bytes, min_size=1, max_size=3), queries, st.booleans())
def test_ripgrep_finds_the_lines_of_every_file(tmp_path_factory, texts, query, folds):
    texts = [text + b"\n" for text in texts]
    folder = tmp_path_factory.mktemp("rg")
    descriptors: list[int] = []
    for number, text in enumerate(texts):
        (folder / str(number)).write_bytes(text)
        descriptors.append(os.open(folder / str(number), os.O_RDONLY))
    try:
        found = ripgrep.search(descriptors, [Matcher(*query, ignore_case=folds)], 20)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if found is not None:
        for text, lines in zip(texts, found, strict=True):
            assert [*lines] == sorted(plain(text, [query], folds, any))


@settings(max_examples=8)
@given(diff_bytes, st.lists(queries, min_size=1, max_size=2), st.booleans(), st.booleans())
def test_the_process_finds_the_same_lines(tmp_path_factory, text, given_, folds, is_all):
    text += b"\n"
    path = tmp_path_factory.mktemp("judge") / "text"
    path.write_bytes(text)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        specs = [(pattern, mode, folds) for pattern, mode in given_]
        (found,) = judge.search(specs, [(descriptor, [(0, len(text), 0)])], 20, is_all=is_all)
    finally:
        os.close(descriptor)
    assert lines_hit(text, found) == plain(text, given_, folds, all if is_all else any)


def test_the_process_reads_only_the_ranges(opened):
    text = b"ab\nab\nab\n"
    found = judge.search(
        [("ab", "literal", False)],
        [(opened(text), [(3, 6, 0)]), (opened(text), [])],
        20,
        is_all=False,
    )
    assert found == [[3], []]


def test_the_process_is_killed_at_the_deadline(opened):
    text = b"a" * 40 + b"\n"
    start = time.monotonic()
    with pytest.raises(SearchTimeout, match=r"0\.3 s"):
        judge.search(
            [("(a|aa)+$(?!)", "regex", False)], [(opened(text), [(0, 41, 0)])], 0.3, is_all=False
        )
    assert time.monotonic() - start < 30


def test_a_process_that_fails_says_how():
    with pytest.raises(EngineError, match="judging process failed to start"):
        judge.search([("a", "literal", False)], [(10**6, [(0, 1, 0)])], 20, is_all=False)


def test_ripgrep_that_takes_too_long_is_killed(opened):
    text = b"ab" * 4_000_000 + b"\n"
    matcher = Matcher(r"(?:[ab]{90}c|[ab]{80}d)+e|[ab]{99}f", "regex", ignore_case=True)
    with pytest.raises(SearchTimeout):
        ripgrep.search([opened(text) for _ in range(4)], [matcher], 0.002)


def test_ripgrep_that_is_not_installed_is_no_error(opened, monkeypatch):
    monkeypatch.setattr(ripgrep, "program", lambda: None)
    assert ripgrep.search([opened(b"a\n")], [Matcher("a", "literal", ignore_case=False)], 1) is None


def test_an_older_ripgrep_finds_words_that_do_not_begin_with_a_letter(
    opened, monkeypatch, tmp_path
):
    known = ripgrep.program()
    assert known is not None
    older = tmp_path / "rg"
    older.write_text(
        f'#!/bin/sh\ncase "$*" in *start-half*|*end-half*) exit 2;; esac\nexec {known} "$@"\n'
    )
    older.chmod(0o755)
    text = b"a -x-\n-x-\n--x-\nb-x-\n-x-b\n +x\n"
    matchers = [Matcher("-x-", "word", ignore_case=False), Matcher("x", "word", ignore_case=True)]
    for matcher in matchers:
        wanted = [at for at, line in enumerate(lines_of(text)) if matcher.test(line)]
        assert ripgrep.search([opened(text)], [matcher], 20) == [wanted]
        with monkeypatch.context() as patch:
            patch.setattr(ripgrep, "program", lambda: str(older))
            assert ripgrep.search([opened(text)], [matcher], 20) == [wanted]


def test_ripgrep_is_not_asked_what_it_cannot_do(opened):
    matcher = Matcher("(?=a)", "regex", ignore_case=False)
    assert ripgrep.search([opened(b"a\n")], [matcher], 1) is None


def test_many_hits_are_read_from_ripgrep(opened):
    text = b"+aba\n\n" * 30_000
    found = ripgrep.search([opened(text)], [Matcher("a", "literal", ignore_case=False)], 20)
    assert found is not None
    assert [*found[0]] == [*range(0, 60_000, 2)]


def test_an_empty_file_has_no_hits(opened):
    assert ripgrep.search([opened(b"")], [Matcher("x*", "regex", ignore_case=False)], 20) == [[]]


@given(st.sets(st.integers(0, 30)), st.lists(st.integers(0, 3), min_size=31, max_size=31))
def test_runs_join_neighbours_of_one_pull_and_nothing_else(chosen, owners):
    owners = sorted(owners)
    starts = [block * 10 for block in range(32)]
    found = runs(sorted(chosen), starts, owners)
    covered = [block for begin, end, _ in found for block in range(begin // 10, end // 10)]
    assert covered == sorted(chosen)
    for begin, end, owner in found:
        assert {owners[block] for block in range(begin // 10, end // 10)} == {owner}
    for (_, end, owner), (begin, _, other) in pairwise(found):
        assert end < begin or owner != other


def test_runs_are_bounded():
    starts = [block * 100_000 for block in range(11)]
    assert len(runs(range(10), starts, [0] * 10)) > 1


def test_a_line_too_wide_for_a_pattern_is_not_tried_here():
    matcher = Matcher("a.*b.*c", "regex", ignore_case=False)
    finder = finder_of([matcher], is_all=False)
    assert finder(b"xaxbxc\n") == [0]
    with pytest.raises(TooWideError):
        finder(b"a" * 5000 + b"bc\n")
    assert finder(b"x" * 5000 + b"\nabc\n") == [5001]


def test_a_deadline_that_passed_ends_a_scan():
    finder = finder_of([Matcher("a", "literal", ignore_case=False)], is_all=False)
    with pytest.raises(SearchTimeout):
        scan(b"a\n", [(0, 2, 0)], finder, time.monotonic() - 1, 5)


@pytest.mark.parametrize(
    ("patterns", "any_of", "all_of"),
    [(("abc",), True, True), ((r"\d",), False, False), (("abc", r"\d"), False, True)],
)
def test_lines_are_found_by_literals_where_patterns_have_some(patterns, any_of, all_of):
    matchers = [Matcher(pattern, "regex", ignore_case=False) for pattern in patterns]
    assert is_anchored(matchers, is_all=False) == any_of
    assert is_anchored(matchers, is_all=True) == all_of
