"""Which hits are shown, and what is said of where they stand."""

import re

from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.exact.lines import fair_shares
from knowledge_store.truth import Truth
from tests.knowledge_store.exact.stores import KERNEL, TEST, ask, indexed, lines_of

wants = st.lists(st.integers(0, 50), max_size=12)


@given(wants, st.integers(0, 200))
def test_shares_use_the_limit_up_and_give_nobody_more_than_wanted(wanted, limit):
    shares = fair_shares(wanted, limit)
    assert sum(shares) == min(limit, sum(wanted))
    assert all(0 <= share <= want for share, want in zip(shares, wanted, strict=True))


@given(wants, st.integers(0, 200))
def test_who_gets_less_than_wanted_gets_no_less_than_others(wanted, limit):
    shares = fair_shares(wanted, limit)
    most = max(shares, default=0)
    for share, want in zip(shares, wanted, strict=True):
        assert share == want or share >= most - 1


@given(wants)
def test_with_room_for_all_everybody_gets_what_is_wanted(wanted):
    assert fair_shares(wanted, sum(wanted) + 1) == wanted


def test_the_first_get_the_rest():
    assert fair_shares([5, 5, 5], 7) == [3, 2, 2]


def new_lines(tmp_path, diff):
    with indexed(tmp_path, {"x/y#1": diff}) as exact:
        hits = exact.search(ask("(?s).?", "regex")).hits
    return {hit.diff_line: hit.new_line for hit in hits}


def test_new_lines_are_those_of_the_hunks(tmp_path):
    diff = KERNEL + TEST
    found = new_lines(tmp_path, diff)
    wanted = dict.fromkeys(range(1, len(lines_of(diff)) + 1))
    with Truth(tmp_path, read_only=True) as truth:
        for hunk in truth.hunks("x/y#1"):
            at = hunk.new_start
            for number, line in enumerate(hunk.lines, start=hunk.diff_line + 1):
                if not line.startswith("-"):
                    wanted[number] = at
                    at += 1
    assert found == wanted
    assert sorted(filter(None, found.values())) == [1, 2, 3, *range(10, 18), 42]


def test_each_hit_alone_has_the_same_line_as_among_others(tmp_path):
    among = new_lines(tmp_path, KERNEL + TEST)
    with indexed(tmp_path, {"x/y#1": KERNEL + TEST}) as exact:
        for number, line in enumerate(lines_of(KERNEL + TEST), start=1):
            whole = f"^{re.escape(line.decode())}$"
            hits = exact.search(ask(whole, "regex")).hits
            assert (number, among[number]) in {(hit.diff_line, hit.new_line) for hit in hits}


def test_what_is_no_line_of_the_new_file_has_no_number(tmp_path):
    diff = (
        b"From 1234\nSubject: @@ -1 +1 @@\n\n"
        b"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,2 +1,1 @@\n-a\n-b\n+c\n"
        b"\\ No newline at end of file\n+beyond the counts\n@@ nonsense\n+d\n"
    )
    found = new_lines(tmp_path, diff)
    assert found[10] == 1
    assert all(line is None for number, line in found.items() if number not in {10, 14})


def test_hunks_that_lie_do_not_raise(tmp_path):
    head = b"diff --git a/a b/a\n--- a/a\n+++ b/a\n"
    for header in (b"@@ -1 +x @@", b"@@ -1 +1,y @@", b"@@ -", b"@@ -1 +1 @", b"@@ -0,0 +1,999 @@"):
        assert new_lines(tmp_path, head + header + b"\n+a\n b\n")


def test_bytes_that_are_no_text_are_shown_with_replacement(tmp_path):
    with indexed(tmp_path, {"x/y#1": b"+a\xff\x00b\n"}) as exact:
        (hit,) = exact.search(ask("a")).hits
        assert hit.text == "+a\ufffd\x00b"
        assert exact.search(ask(r"a\xff\x00b", "regex")).total_hits == 1
        assert exact.search(ask("\x00b")).total_hits == 1


def test_a_diff_without_a_last_newline_ends_where_it_ends(tmp_path):
    with indexed(tmp_path, {"x/y#1": b"+a", "x/y#2": b"+b\n\n", "x/y#3": b"+a"}) as exact:
        hits = exact.search(ask("^", "regex")).hits
    assert [(hit.key, hit.diff_line, hit.text) for hit in hits] == [
        ("x/y#1", 1, "+a"),
        ("x/y#2", 1, "+b"),
        ("x/y#2", 2, ""),
        ("x/y#3", 1, "+a"),
    ]
