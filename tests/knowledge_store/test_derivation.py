from hypothesis import given

from knowledge_store.chunks import chunk
from knowledge_store.derivation import derivation, derive
from knowledge_store.diffs import MOST_LINES, parse
from knowledge_store.tags import vocabulary
from tests.knowledge_store.diff_builders import CHANGES, KERNEL, KEY, make_diff


@given(CHANGES)
def test_totals_are_of_the_rows(changes):
    diff = make_diff(changes)
    derived = derive(KEY, diff)
    lines, added, removed, files, hunks, chunks, bounded, clipped, odd, problems = derived.totals
    assert lines == diff.count(b"\n")
    assert (files, hunks, chunks) == tuple(map(len, (derived.files, derived.hunks, derived.chunks)))
    parsed = parse(KEY, diff)
    assert (added, removed) == (parsed.added, parsed.removed)
    assert bounded == sum(bool(row[-1]) for row in derived.files)
    assert (clipped, odd, problems) == (0, 0, "")


@given(CHANGES)
def test_rows_name_places_and_leave_the_text_to_the_diff(changes):
    diff = make_diff(changes)
    derived = derive(KEY, diff)
    pieces = chunk(KEY, parse(KEY, diff)).chunks
    assert [row[0] for row in derived.chunks] == [piece.diff_line for piece in pieces]
    assert [f"{KEY}:{row[3]}" for row in derived.chunks] == [piece.chunk_id for piece in pieces]
    texts = {piece.text for piece in pieces if len(piece.text) > 40}
    assert not any(value in texts for row in derived.chunks for value in row)


def test_the_same_diff_gives_the_same_rows():
    assert derive(KEY, KERNEL.encode()) == derive(KEY, KERNEL.encode())


def test_problems_and_odd_paths_are_among_the_totals():
    diff = b"--- a/../x\n+++ b/../x\n@@ -1,9 +1 @@\n-a\n"
    *_, odd, problems = derive(KEY, diff).totals
    assert odd == 1
    assert "ends before its counts" in str(problems)


def test_a_diff_of_too_many_lines_is_read_so_far_and_says_so():
    head = b"--- /dev/null\n+++ b/x.cu\n@@ -0,0 +1,%d @@\n" % (2 * MOST_LINES)
    derived = derive(KEY, head + b"+x\n" * (2 * MOST_LINES))
    assert derived.totals[0] == MOST_LINES
    assert f"line {MOST_LINES}: what follows is not read" in str(derived.totals[-1])


def test_a_change_of_the_vocabulary_derives_anew():
    version, _, words = derivation().partition("-")
    assert version.isdecimal()
    assert words == vocabulary().digest
