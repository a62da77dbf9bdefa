"""A part gives back what was written, and its index leaves no block out that holds a hit."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.exact import build, grams
from knowledge_store.exact.build import BLOCK_BYTES, Entry, FileLines, PartWriter, blocks_of
from knowledge_store.exact.dialect import Matcher
from knowledge_store.exact.errors import IndexCorrupt
from knowledge_store.exact.part import Part
from tests.knowledge_store.exact.stores import KERNEL, LETTERS, TEST, diff_bytes, expressions


def entry(number, files=(), **more):
    facts = {
        "key": f"x/y#{number}",
        "repo": "x/y",
        "number": number,
        "merged_at": "2025-01-01",
        "licence": "MIT",
        "tags": ("tma", "wgmma"),
        "has_diff": True,
        "digest": f"d{number}",
        "files": tuple(files),
    }
    return Entry(**{**facts, **more})


def written(folder, diffs, files=()):
    writer = PartWriter(folder)
    for number, diff in enumerate(diffs, start=1):
        writer.add(entry(number, files), diff)
    writer.index()
    return writer


@pytest.fixture
def part(tmp_path):
    writer = written(tmp_path / "p", [KERNEL * 50, b"", TEST, b"no newline"])
    assert set(writer.stamps()) == {"text", "blocks", "index"}
    opened = Part(str(tmp_path / "p"))
    yield opened
    opened.close()


def test_the_text_is_all_diffs_each_with_a_last_newline(part):
    assert part.text[:] == KERNEL * 50 + TEST + b"no newline\n"
    bounds = [*part.pull_starts]
    assert [part.text[a:b] for a, b in pairwise(bounds)] == [
        KERNEL * 50,
        b"",
        TEST,
        b"no newline\n",
    ]


def test_pulls_come_back_as_they_were_written(part):
    assert [pull.key for pull in part.pulls()] == [f"x/y#{n}" for n in (1, 2, 3, 4)]
    first = part.pull(2)
    assert (first.id, first.repo, first.number, first.licence) == (2, "x/y", 3, "MIT")
    assert (first.merged_at, first.tags, first.has_diff) == ("2025-01-01", {"tma", "wgmma"}, True)
    assert first.first_line == (KERNEL * 50).count(b"\n")
    lines = [part.text[:start].count(b"\n") for start in part.pull_starts]
    assert part.pull_lines() == lines
    assert part.digests()["x/y#3"] == (2, "d3")


def test_every_line_is_found_by_any_offset_in_it(part):
    text, at = part.text[:], 0
    for number, line in enumerate(text.split(b"\n")[:-1]):
        for offset in {at, at + len(line) // 2, at + len(line)}:
            assert part.line_at(offset) == (at, at + len(line), number)
        assert part.offset_of(number) == at
        at += len(line) + 1


@given(st.lists(st.integers(0, 9000), max_size=6), st.booleans())
def test_blocks_are_whole_lines_and_cover_the_text(widths, ended):
    text = b"\n".join(b"x" * width for width in widths) + b"\n" * ended
    bounds = [*blocks_of(text)]
    assert b"".join(text[a:b] for a, b in bounds) == text
    for start, end in bounds:
        assert end - start <= BLOCK_BYTES or b"\n" not in text[start : end - 1]
        assert text[end - 1 : end] == b"\n" or end == len(text)


def test_files_are_found_by_the_lines_of_the_text(tmp_path):
    files = [
        FileLines(path="b", kind="test", licence="", first_line=4, last_line=5),
        FileLines(path="a", kind="kernel", licence="MIT", first_line=2, last_line=3),
        FileLines(path="overlaps", kind="test", licence="", first_line=5, last_line=9),
        FileLines(path="beyond", kind="test", licence="", first_line=50, last_line=60),
        FileLines(path="backward", kind="test", licence="", first_line=7, last_line=6),
    ]
    written(tmp_path / "p", [b"1\n2\n3\n4\n5\n6\n"], files)
    part = Part(str(tmp_path / "p"))
    found = [part.file_at(0, line) for line in range(6)]
    assert [file.path if file else None for file in found] == [None, "a", "a", "b", "b", None]
    assert found[1] is not None
    assert (found[1].kind, found[1].licence) == ("kernel", "MIT")
    part.close()


@settings(max_examples=40)
@given(
    st.lists(diff_bytes, min_size=1, max_size=3),
    st.lists(
        st.one_of(
            st.tuples(expressions, st.just("regex")),
            st.tuples(st.text(LETTERS, min_size=1, max_size=6), st.just("literal")),
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
    st.booleans(),
)
def test_no_block_with_a_hit_is_left_out(tmp_path_factory, diffs, patterns, folds, is_all):
    folder = tmp_path_factory.mktemp("part") / "p"
    written(folder, diffs)
    part = Part(str(folder))
    matchers = [Matcher(text, mode, ignore_case=folds) for text, mode in patterns]
    match = grams.query(part, matchers, is_all=is_all)
    blocks = range(len(part.block_pulls))
    found = set(blocks if match is None else part.candidates(match, len(blocks) + 1))
    for block in blocks:
        text = part.text[part.block_starts[block] : part.block_starts[block + 1]]
        for line in text.removesuffix(b"\n").split(b"\n"):
            tests = [matcher.test(line) for matcher in matchers]
            if all(tests) if is_all else any(tests):
                assert block in found
    part.close()


def test_the_index_leaves_most_blocks_out(tmp_path):
    filler = b"".join(b"+line number %d of no interest\n" % n for n in range(20_000))
    written(tmp_path / "p", [filler + KERNEL + filler])
    part = Part(str(tmp_path / "p"))
    match = grams.query(
        part, [Matcher("__shfl_xor_sync", "literal", ignore_case=False)], is_all=False
    )
    assert match is not None
    assert len(part.block_pulls) > 250
    assert 1 <= len(part.candidates(match, 1000)) <= 2
    part.close()


def test_the_rarest_three_bytes_are_asked_for(tmp_path):
    filler = b"".join(b"+return number %d\n" % n for n in range(5_000))
    written(tmp_path / "p", [filler + b"+return zq%!7\n"])
    part = Part(str(tmp_path / "p"))
    common = part.frequencies([int.from_bytes(b"ret", "big"), int.from_bytes(b"q%!", "big")])
    assert common == {int.from_bytes(b"ret", "big"): len(part.block_pulls)}
    match = grams.query(part, [Matcher("return zq%!7", "literal", ignore_case=False)], is_all=False)
    assert match is not None
    assert '"q%!"' in match
    assert '"ret"' not in match
    part.close()


def test_frequencies_of_a_large_part_are_scaled_from_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_SAMPLE_LEAST", 10)
    filler = b"".join(b"+return number %d\n" % n for n in range(10_000))
    written(tmp_path / "p", [filler])
    part = Part(str(tmp_path / "p"))
    count = part.frequencies([int.from_bytes(b"ret", "big")])[int.from_bytes(b"ret", "big")]
    assert part.sampling > 1
    assert abs(count - len(part.block_pulls)) <= part.sampling
    part.close()


def test_a_line_too_wide_for_the_index_is_a_candidate_of_every_query(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_WIDEST", 10_000)
    written(tmp_path / "p", [b"+a\n" + b"x" * 20_000 + b"\n+b\n"])
    part = Part(str(tmp_path / "p"))
    assert part.candidates('"zzz"', 10) == part.wide == [1]
    part.close()


def test_quotes_and_operators_of_the_index_are_text(tmp_path):
    text = b'+a "b" AND (c) NOT d* NEAR^ -:{}\n'
    written(tmp_path / "p", [text])
    part = Part(str(tmp_path / "p"))
    for literal in ('"b"', 'a "b" AND', "NOT d*", "NEAR^ -:{}", "(c)"):
        match = grams.query(part, [Matcher(literal, "literal", ignore_case=False)], is_all=False)
        assert match is not None
        assert part.candidates(match, 10) == [0], literal
    part.close()


def test_an_index_that_is_none_is_said_to_be_damaged(tmp_path):
    written(tmp_path / "p", [KERNEL])
    (tmp_path / "p" / "index").write_bytes(b"no database " * 400)
    with pytest.raises(IndexCorrupt, match="knowledge update"):
        Part(str(tmp_path / "p"))


def test_blocks_that_are_cut_are_said_to_be_damaged(tmp_path):
    written(tmp_path / "p", [KERNEL])
    blocks = tmp_path / "p" / "blocks"
    for raw in (b"", b"\1" * 7, blocks.read_bytes()[:-1], blocks.read_bytes() + b"\0" * 8):
        blocks.write_bytes(raw)
        with pytest.raises(IndexCorrupt):
            Part(str(tmp_path / "p"))


def test_a_path_with_odd_letters_can_be_opened(tmp_path):
    folder = tmp_path / "a?b#c%20d é"
    written(folder, [KERNEL])
    part = Part(str(folder))
    assert part.size == len(KERNEL)
    part.close()
