import itertools

from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.chunks import LICENCE_HEADER, LONGEST_LINE, chunk, clipped, passage
from knowledge_store.diffs import parse
from knowledge_store.pulls import Chunk, Hunk
from tests.knowledge_store.diff_builders import CHANGES, KEY, LINES, make_diff

LONG = st.lists(st.one_of(LINES, st.text("abc (){}", min_size=40, max_size=120)), max_size=200)


def chunked(files, context=3):
    parsed = parse(KEY, make_diff(files, context))
    return parsed, chunk(KEY, parsed)


def rejoined(chunks: list[Chunk], hunks: list[Hunk]) -> list[str]:
    """The lines of the chunks of one file without the @@ lines between merged hunks."""
    between = {hunk.diff_line for hunk in hunks}
    return [
        line
        for piece in chunks
        for at, line in enumerate(piece.text.split("\n"), piece.diff_line)
        if at not in between
    ]


def assert_chunks_rejoin(parsed, result):
    for file in parsed.files:
        hunks = [hunk for hunk in parsed.hunks if hunk.file == file.index]
        pieces = [piece for piece in result.chunks if piece.path == file.path]
        whole = [clipped(line) for hunk in hunks for line in hunk.lines]
        if file.index in result.bounded:
            assert rejoined(pieces, hunks) == whole[: len(rejoined(pieces, hunks))]
        else:
            assert rejoined(pieces, hunks) == whole


@given(CHANGES)
def test_chunks_of_a_diff_rejoin_to_its_hunks(changes):
    assert_chunks_rejoin(*chunked(changes))


@given(LONG, LONG, st.integers(0, 3))
def test_chunks_of_long_hunks_rejoin_to_them(old, new, context):
    if old != new:
        assert_chunks_rejoin(*chunked({"csrc/big.cu": (old, new)}, context))


@given(LONG)
def test_chunks_are_small_unless_one_line_is_not(lines):
    _, result = chunked({"csrc/new.cu": ([], [*lines, "end"])})
    for piece in result.chunks:
        assert len(piece.text) <= 1500 or "\n" not in piece.text


@given(CHANGES)
def test_chunks_say_what_they_hold_and_where_it_stands(changes):
    parsed, result = chunked(changes)
    for piece in result.chunks:
        lines = piece.text.split("\n")
        marks = [line[:1] for line in lines]
        assert (piece.added, piece.removed) == (marks.count("+"), marks.count("-"))
        assert passage(parsed.lines, piece.diff_line, len(lines)) == piece.text
        assert 0 <= piece.part < piece.parts


@given(CHANGES)
def test_a_chunk_begins_where_it_says_in_the_new_file(changes):
    _, result = chunked(changes)
    for piece in result.chunks:
        new = changes[piece.path][1]
        shown = next((line for line in piece.text.split("\n") if line[:1] in {" ", "+"}), None)
        is_first = piece.text.split("\n")[0] == shown
        if new and shown is not None and is_first:
            assert new[piece.new_start - 1] == shown[1:]


@given(CHANGES)
def test_identities_come_from_content_and_are_each_one_chunks(changes):
    _, once = chunked(changes)
    _, again = chunked(changes)
    assert once == again
    identities = [piece.chunk_id for piece in once.chunks]
    assert len(identities) == len(set(identities))
    assert all(identity.startswith(f"{KEY}:") for identity in identities)


def test_a_chunk_keeps_its_identity_when_another_file_changes():
    one = {"a.cu": (["x"], ["y"]), "b.cu": (["x"], ["z"])}
    other = {"a.cu": (["x", "w"], ["y", "v"]), "b.cu": (["x"], ["z"])}
    of_b = [
        piece.chunk_id
        for files in (one, other)
        for piece in chunked(files)[1].chunks
        if piece.path == "b.cu"
    ]
    assert of_b[0] == of_b[1]


def test_equal_chunks_of_one_diff_are_told_apart():
    body = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
    result = chunk(KEY, parse(KEY, body + body))
    first, second = (piece.chunk_id for piece in result.chunks)
    assert second == f"{first}.1"


def test_small_neighbours_become_one_chunk():
    old = [f"line {n}" for n in range(60)]
    new = [*old]
    new[5], new[40] = "changed", "changed too"
    parsed, result = chunked({"a.cu": (old, new)})
    assert (len(parsed.hunks), len(result.chunks)) == (2, 1)
    assert "\n@@ -38,7 +38,7 @@\n" in result.chunks[0].text


def test_a_long_file_is_cut_before_definitions():
    body = [line for n in range(40) for line in (f"def f{n}(x):", *["    x = x + 1"] * 9, "")]
    _, result = chunked({"ops/long.py": ([], body)})
    assert len(result.chunks) > 3
    starts = [piece.text.split("\n")[0] for piece in result.chunks]
    assert all(start.startswith("+def f") for start in starts)


def test_a_chunk_names_the_definition_around_it():
    body = ["__global__ void scale(float* x) {", *["  x[0] *= 2.f;"] * 300, "}"]
    _, result = chunked({"a.cu": ([], body)})
    assert result.chunks[0].heading == ""
    assert {piece.heading for piece in result.chunks[1:]} == {"__global__ void scale(float* x) {"}


def test_a_licence_header_is_a_chunk_of_its_own():
    header = ["// Copyright the authors", "// SPDX-License-Identifier: MIT", ""]
    _, result = chunked({"a.cu": ([], [*header, "__global__ void f() {}"])})
    assert [piece.tags == (LICENCE_HEADER,) for piece in result.chunks] == [True, False]
    assert result.chunks[0].text == "+// Copyright the authors\n+// SPDX-License-Identifier: MIT\n+"


def test_long_lines_are_clipped_and_counted():
    _, result = chunked({"a.cu": (["x"], ["y" * 5000])})
    assert result.clipped == 1
    assert max(map(len, result.chunks[0].text.split("\n"))) == LONGEST_LINE + 1


def bounded_count(path, lines):
    _, result = chunked({path: ([], lines)})
    return len(result.chunks), result.bounded


def test_generated_files_and_tables_are_bounded_and_said():
    words = [
        f"{' '.join(pair)} = {n}"
        for n, pair in enumerate(itertools.islice(itertools.permutations("abcdefghijkl", 5), 3000))
    ]
    assert bounded_count("src/generated/meta.cpp", words) == (4, (0,))
    table = [f"  {{{n}, {n * 7}, 0x{n}}}," for n in range(3000)]
    assert bounded_count("csrc/table.cu", table) == (6, (0,))
    count, bounded = bounded_count("csrc/written.cu", words)
    assert count > 20
    assert bounded == ()


def test_a_pull_request_is_bounded_with_kernels_first():
    text = [f"value {chr(97 + n % 26)}{chr(97 + n // 26 % 26)} is here" for n in range(5000)]
    files: dict[str, tuple[list[str], list[str]]] = {
        f"docs/part{n}.md": ([], text) for n in range(12)
    }
    files["csrc/kernel.cu"] = ([], text[:500])
    _, result = chunked(files)
    assert len(result.chunks) == 600
    assert any(piece.path == "csrc/kernel.cu" for piece in result.chunks)


def test_a_deleted_file_has_no_place_in_the_new_one():
    _, result = chunked({"a.cu": ([f"int x{n};" for n in range(10)], [])})
    assert {piece.new_start for piece in result.chunks} == {0}
