"""What a part is asked and answers: blocks of any bytes, lines of any offset, any damage."""

import sqlite3
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.exact import build, grams
from knowledge_store.exact.build import FileLines, blocks_of
from knowledge_store.exact.dialect import Matcher
from knowledge_store.exact.errors import IndexCorrupt
from knowledge_store.exact.lines import NewLines
from knowledge_store.exact.part import Part
from tests.knowledge_store.exact.stores import KERNEL, TEST
from tests.knowledge_store.exact.test_part import written

raw = st.binary(max_size=60)
EVERY_BYTE = bytes(byte for byte in range(256) if byte != 10)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(build, "BLOCK_BYTES", 64)


def opened(folder, diffs, files=()):
    written(folder, diffs, files)
    return Part(str(folder))


def literal(text, *, folds=False):
    return Matcher(text.decode("utf-8", "surrogateescape"), "literal", ignore_case=folds)


def test_any_three_bytes_are_found_in_their_block(tmp_path, small_blocks):
    # Bytes are indexed as characters, some of which fold; none may get lost on either way.
    # Those that differ by one stand apart, so that neither is found for the other.
    apart = EVERY_BYTE[::2] + EVERY_BYTE[1::2]
    lines = [bytes((byte, *pair)) for byte in apart for pair in (b"ab", b"\xc9\xe9")]
    part = opened(tmp_path / "p", [b"\n".join(lines)])
    for line in lines:
        for folds in (False, True):
            match = grams.query(part, [literal(line, folds=folds)], is_all=False)
            assert match is not None
            blocks = part.candidates(match, 10_000)
            texts = [part.text[part.block_starts[b] : part.block_starts[b + 1]] for b in blocks]
            assert any(line in text for text in texts), line
            assert len(blocks) < len(part.block_pulls) / 2
    assert small_blocks is None
    part.close()


@settings(max_examples=25)
@given(st.lists(raw, min_size=1, max_size=4), st.data())
def test_what_stands_in_a_line_is_found_in_its_block(tmp_path_factory, diffs, data):
    size, build.BLOCK_BYTES = build.BLOCK_BYTES, 16
    try:
        part = opened(tmp_path_factory.mktemp("p") / "p", diffs)
    finally:
        build.BLOCK_BYTES = size
    lines = [line for diff in diffs for line in diff.split(b"\n") if len(line) >= 3]
    for _ in range(4 if lines else 0):
        line = data.draw(st.sampled_from(lines))
        begin = data.draw(st.integers(0, len(line) - 3))
        some = line[begin : data.draw(st.integers(begin + 3, len(line)))]
        match = grams.query(part, [literal(some)], is_all=False)
        assert match is not None
        wanted = {
            block
            for block, (start, end) in enumerate(pairwise(part.block_starts))
            if some in part.text[start:end]
        }
        assert wanted
        assert wanted <= set(part.candidates(match, 1000)), some
    part.close()


@settings(max_examples=40)
@given(st.lists(raw, min_size=1, max_size=4), st.sampled_from([1, 7, 16]))
def test_offsets_and_lines_are_each_others_inverse(tmp_path_factory, diffs, size):
    before, build.BLOCK_BYTES = build.BLOCK_BYTES, size
    try:
        part = opened(tmp_path_factory.mktemp("p") / "p", diffs)
    finally:
        build.BLOCK_BYTES = before
    text = part.text[:]
    for offset in [*range(len(text)), *reversed(range(0, len(text), 5))]:
        begin, end, line = part.line_at(offset)
        assert begin <= offset <= end
        assert text[end] == 10
        assert begin == 0 or text[begin - 1] == 10
        assert b"\n" not in text[begin:end]
        assert line == text.count(b"\n", 0, begin)
        assert part.offset_of(line) == begin
    starts = part.block_starts
    assert [text.count(b"\n", 0, start) for start in starts] == [*part.block_lines]
    for block, (start, _) in enumerate(pairwise(starts)):
        own = part.block_pulls[block]
        assert part.pull_starts[own] <= start < part.pull_starts[own + 1]
    assert part.pull_lines()[-1] == text.count(b"\n")
    part.close()


@given(raw, st.integers(1, 20))
def test_blocks_are_as_large_as_they_may_be(text, size):
    before, build.BLOCK_BYTES = build.BLOCK_BYTES, size
    try:
        bounds = [*blocks_of(text)]
    finally:
        build.BLOCK_BYTES = before
    assert b"".join(text[start:end] for start, end in bounds) == text
    for start, end in bounds:
        following = text.find(b"\n", end) + 1 or len(text)
        assert end == len(text) or following - start > size, "another line would fit"
        assert end - start <= size or b"\n" not in text[start : end - 1]


def test_a_query_of_the_most_patterns_can_be_asked(tmp_path):
    words = [f"(?:{'|'.join(f'w{p}x{n}yz' for n in range(16))})tail{p}end" for p in range(32)]
    part = opened(tmp_path / "p", [b"+w31x15yztail31end\n" * 3, b"+nothing\n"])
    matchers = [Matcher(word, "regex", ignore_case=True) for word in words]
    for is_all, wanted in ((False, [0]), (True, [])):
        match = grams.query(part, matchers, is_all=is_all)
        assert match is not None
        assert part.candidates(match, 10) == wanted
    part.close()


def test_what_is_too_short_to_be_indexed_leaves_every_block(tmp_path):
    part = opened(tmp_path / "p", [b"+ab\n+abc\n"])
    short, long, none = literal(b"ab"), literal(b"abc"), Matcher(r"\d", "regex", ignore_case=False)
    for other in (short, none):
        assert grams.query(part, [other], is_all=False) is None
        assert grams.query(part, [long, other], is_all=False) is None
        assert grams.query(part, [long, other], is_all=True) == '"abc"'
        assert grams.query(part, [other, other], is_all=True) is None
    part.close()


def test_three_bytes_are_folded_and_named_once():
    assert grams.grams_of(b"ABCabc") == [b"abc", b"bca", b"cab"]
    assert grams.grams_of(b"aaaaa") == [b"aaa"]
    assert grams.grams_of(b"a\0b") == [b"a\1b"]
    assert grams.grams_of(b"ab") == grams.grams_of(b"") == []


def test_at_most_so_many_blocks_are_named_and_wide_ones_besides(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "BLOCK_BYTES", 8)
    monkeypatch.setattr(build, "_WIDEST", 20)
    part = opened(tmp_path / "p", [b"needle\n" * 9 + b"x" * 30 + b"\n" + b"needle\n"])
    assert part.wide == [9]
    assert part.candidates('"nee"', 100) == [*range(11)]
    assert part.candidates('"nee"', 4) == [0, 1, 2, 3, 9]
    assert part.candidates('"zzz"', 4) == [9]
    part.close()


def test_how_common_three_bytes_are_is_counted_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "BLOCK_BYTES", 8)
    part = opened(tmp_path / "p", [b"+ABCABC\n" * 3 + b"+abc\n" + b"+once\n" + b"+ab\n"])
    number = {text: int.from_bytes(text, "big") for text in (b"abc", b"onc", b"ABC", b"bca")}
    found = part.frequencies(number.values())
    assert found == {number[b"abc"]: 4, number[b"bca"]: 3}
    assert part.frequencies([]) == {}
    assert part.frequencies([*range(2000), number[b"abc"]]) == {number[b"abc"]: 4}
    part.close()


def test_files_of_several_pulls_are_kept_apart(tmp_path):
    files = [
        FileLines(path="one", kind="kernel", licence="MIT", first_line=1, last_line=2),
        FileLines(path="two", kind="test", licence="", first_line=4, last_line=4),
        FileLines(path="past the end", kind="test", licence="", first_line=5, last_line=9),
    ]
    part = opened(tmp_path / "p", [b"1\n2\n3\n4", b"", b"1\n2\n3\n4\n5\n"], files)
    found = [
        [file.path if file else None for file in (part.file_at(pull, line) for line in lines)]
        for pull, lines in ((0, range(4)), (2, range(4, 9)))
    ]
    assert found == [["one", "one", None, "two"], ["one", "one", None, "two", "past the end"]]
    assert part.file_at(1, 4) is None
    second = part.file_at(2, 7)
    assert second is not None
    assert part.text[second.start : second.end] == b"4\n"
    part.close()


def test_new_lines_asked_out_of_order_are_the_same(tmp_path):
    files = [
        FileLines(path="a", kind="kernel", licence="", first_line=1, last_line=17),
        FileLines(path="b", kind="test", licence="", first_line=18, last_line=26),
    ]
    part = opened(tmp_path / "p", [KERNEL + TEST], files)

    def asked(lines):
        counter = NewLines()
        found = {}
        for line in lines:
            file = counter.file_at(part, 0, line)
            assert file is not None
            found[line] = counter.at(part, file, part.offset_of(line), line)
        return found

    wanted = asked(range(26))
    assert wanted[5] == 10
    assert wanted[7] is None
    assert wanted[16] == 42
    assert wanted[25] == 3
    for order in (reversed(range(26)), [20, 5, 16, 16, 5, 25, 24, 6, 8], range(0, 26, 3)):
        assert asked(order).items() <= wanted.items()
    part.close()


@pytest.mark.parametrize("table", ["pull", "file", "frequency", "gram", "wide", "meta"])
def test_an_index_that_lacks_a_table_is_damaged(tmp_path, table):
    written(
        tmp_path / "p",
        [KERNEL],
        [FileLines(path="a", kind="", licence="", first_line=1, last_line=2)],
    )
    with closing(sqlite3.connect(tmp_path / "p" / "index")) as index:
        index.execute(f"DROP TABLE {table}")
    with pytest.raises(IndexCorrupt, match="is damaged: no such table"):
        read_all(tmp_path / "p")


def read_all(folder):
    part = Part(str(folder))
    try:
        part.pulls()
        part.file_at(0, 0)
        part.frequencies([1])
        part.candidates('"abc"', 1)
    finally:
        part.close()


@pytest.mark.parametrize("name", ["text", "blocks", "index"])
def test_a_file_that_is_gone_is_told_from_damage(tmp_path, name):
    written(tmp_path / "p", [KERNEL])
    (tmp_path / "p" / name).unlink()
    with pytest.raises(FileNotFoundError):
        Part(str(tmp_path / "p"))


def test_a_part_without_text_can_be_read(tmp_path):
    for number, diffs in enumerate(([], [b""], [b"", b""])):
        part = opened(tmp_path / str(number), diffs)
        assert (part.size, len(part.pulls()), part.pull_lines()[-1]) == (0, len(diffs), 0)
        assert part.candidates('"abc"', 5) == []
        part.close()
