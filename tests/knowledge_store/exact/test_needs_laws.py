"""What is said of a pattern holds for all of the syntax, also where only some of it folds."""

import itertools
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from knowledge_store.exact import needs
from knowledge_store.exact.dialect import Matcher
from knowledge_store.exact.scan import finder_of

ALL_BUT_A_LETTER = r"[^\x00-\x40\x42-\x60\x63-\xff]"  # takes A, a and b

_pieces = st.sampled_from(
    ["a", "b", "B", "ab", "Ba", "1", "_", " ", ".", "[ab]", "[^a]", "[^B]", "[^ab1]", "[A-B]",
     ALL_BUT_A_LETTER, r"[^\x00-\x61\x63-\xff]", r"\w", r"\W", r"[^\s]", r"\x41", "^", "$", r"\b"]
)  # fmt: skip
_frames = st.sampled_from(
    ["(?:{})", "(?i:{})", "(?-i:{})", "(?:{})?", "(?:{}){{2}}", "(?:{}){{1,3}}", "(?:{})+",
     "(?i:{}){{2,}}", "(?:{})*", "(?={})", "(?!{})", "(?>{})", "(?:{})++", "(?:{}){{0}}",
     "(?:x|{})", "(?:{}|ab|B1)", "(?:{}|)", "(a)?(?(1){}|b)", "(?:{})??"]
)  # fmt: skip


def _grown(inner):
    framed = st.tuples(_frames, inner).map(lambda drawn: drawn[0].format(drawn[1]))
    return st.one_of(framed, st.lists(inner, min_size=2, max_size=4).map("".join))


def _compiles(pattern):
    try:
        re.compile(pattern.encode())
    except re.error:  # two groups of one number, a flag switched on and off, and so on
        return False
    return True


scoped = st.recursive(_pieces, _grown, max_leaves=7).filter(_compiles)
lines = st.text("abABxX1_ z", max_size=14).map(str.encode)


def tree_of(pattern, flags=0):
    return needs.parse(pattern.encode(), flags)


@settings(max_examples=200)
@given(pattern=scoped, given_=st.lists(lines, min_size=1, max_size=6), folds=st.booleans())
@example(pattern=ALL_BUT_A_LETTER + "(?i:z)", given_=[b"bz", b"Az", b"aZ"], folds=False)
@example(pattern="[^a](?i:b)", given_=[b"AB"], folds=False)
def test_clauses_hold_on_every_line_that_matches(pattern, given_, folds):
    flags = re.IGNORECASE if folds else 0
    tree = tree_of(pattern, flags)
    is_folded = needs.ignores_case(tree)
    clauses = needs.clauses_of(tree, folds=is_folded)
    for line in given_:
        if re.search(pattern.encode(), line, flags):
            searched = line.lower() if is_folded else line
            for clause in clauses:
                assert any(literal in searched for literal in clause), (pattern, line, clause)


@settings(max_examples=100)
@given(pattern=scoped, given_=st.lists(lines, min_size=1, max_size=8), folds=st.booleans())
@example(pattern=ALL_BUT_A_LETTER + "(?i:z)", given_=[b"bz", b"Az", b"cz"], folds=False)
def test_lines_found_by_literals_are_those_that_match(pattern, given_, folds):
    text = b"".join(line + b"\n" for line in given_)
    matcher = Matcher(pattern, "regex", ignore_case=folds)
    expression = re.compile(pattern.encode(), re.IGNORECASE if folds else 0)
    found = finder_of([matcher], is_all=False, is_bounded=False)(text)
    wanted = [number for number, line in enumerate(given_) if expression.search(line)]
    assert [text.count(b"\n", 0, at) for at in found] == wanted


EVERY_LINE = [
    bytes(letters) for width in range(7) for letters in itertools.product(b"abX", repeat=width)
]


@pytest.mark.parametrize(
    "pattern",
    [
        "Xa*b", "Xa+b", "X(?:ab){1,2}X", "X(?:a|bb){2,}X", "Xa?b?X", "X(?:ab)?X", "Xa{0}b",
        "Xa{2}b", "(?:X.a)?b", "(?:a+X)?ba",
        "X(?:a|ab|)b", "(?:aX|b+X)a", "(?:ab|X.a)b", "X(?:a|.)b", "(?:Xa){2}b", "a(?=X)Xb",
        "a(?!X)b", "(?:a|(?:X|b)a)b", "(?i:x)aX", "(?i:xA)b", "X[ab]a", "[^aX]Xb", "(a)?(?(1)X|b)a",
        r"(a|b)\1X", "X(?>a|ab)b", "Xa++b", "X(?:a+b)+X", "X(?:a{1,2}b){2}", "(?:X|^)ab(?:X|$)",
    ],
)  # fmt: skip
def test_clauses_hold_on_every_short_line(pattern):
    tree = tree_of(pattern)
    is_folded = needs.ignores_case(tree)
    clauses = needs.clauses_of(tree, folds=is_folded)
    expression = re.compile(pattern.encode())
    matching = [line for line in EVERY_LINE if expression.search(line)]
    assert matching
    for line in matching:
        searched = line.lower() if is_folded else line
        for clause in clauses:
            assert any(literal in searched for literal in clause), (line, clause)


@settings(max_examples=60)
@given(scoped)
def test_clauses_are_bounded_and_ordered_by_strength(pattern):
    tree = tree_of(pattern)
    clauses = needs.clauses_of(tree, folds=needs.ignores_case(tree))
    shortest = [min(map(len, clause)) for clause in clauses]
    assert shortest == sorted(shortest, reverse=True)
    assert len(set(clauses)) == len(clauses)
    assert all(b"" not in clause and len(clause) <= 32 for clause in clauses)


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize(
    "pattern",
    ["a", "A", "[a-c]", "[^a-c]", "[^A]", ".", r"\d", r"\D", r"\s", r"\S", r"\w", r"\W", r"[\w-]",
     r"[^\W_]", r"[^\x00-\xff]", r"\xe9", r"[\xc0-\xdf]", r"\n", r"[^\n]", r"[\s\S]", "[@-Z]",
     "[_-b]", r"[^\x00-\x40\x42-\xff]"],
)  # fmt: skip
def test_the_bytes_of_an_operation_are_those_that_python_takes(pattern, folds):
    flags = re.IGNORECASE if folds else 0
    ((operation, argument),) = tree_of(pattern, flags)
    expression = re.compile(pattern.encode(), flags)
    taken = frozenset(byte for byte in range(256) if expression.fullmatch(bytes((byte,)))) - {10}
    assert needs.bytes_of(operation, argument, folds=folds) == taken


@pytest.mark.parametrize("pattern", ["^", r"\b", "(a)", "a|bc", "a*", "(?=a)", "(?>a)"])
def test_other_operations_have_no_bytes(pattern):
    operation, argument = tree_of(pattern)[0]
    assert needs.bytes_of(operation, argument, folds=False) is None


@pytest.mark.parametrize(
    ("pattern", "is_so"),
    [
        ("a", False), ("(?i)a", True), ("a(?i:b)", True), ("(?:(?:x(?i:b))+|c)", True),
        ("(?=(?i:b))a", True), ("(?>(?i:b))", True), ("(a)?(?(1)(?i:b)|c)", True),
        ("(a)?(?(1)c|(?i:b))", True), ("(?-i:a)", False), ("(?:(?i:a))??", True),
        ("(?s:a)", False), ("(?:a(?i:))", True),
    ],
)  # fmt: skip
def test_whether_any_part_ignores_case(pattern, is_so):
    assert needs.ignores_case(tree_of(pattern)) is is_so


# Cost


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b", r"(\w+\s?)+$", r"^(\d+)*$", "(?:a|aa)+$", r"([a-z]+)*\d", "(a*b?)*c",
        "(?:a{1,50}){1,50}b", "(?=(a+)+b)x", "(?!(a+)+b)x", "(?<!a)(?:a+)+b", "((a+)+)\\1b",
        r"^(([a-z])+.)+[A-Z]([a-z])+$", "(?:.*,){9}x", "a{0,5000}a{0,5000}a?b",
        "(x)?(?(1)(a+)+b|c)", "(x)?(?(1)c|(a+)+b)", "((?:(?:a+)?)+)b", "(?>(a+)+b)c",
        "(?:(?:ab?)*c?)*d", r'"(?:[^"\\]|\\.)*"',
    ],
)  # fmt: skip
def test_what_may_take_forever_is_safe_on_no_line(pattern):
    assert needs.most_width(tree_of(pattern)) == 0


@pytest.mark.parametrize(
    "pattern",
    [
        "__shfl_xor_sync", r"\b__ldg\b", r"num_warps\s*=\s*8", r"^\+\s*#pragma unroll",
        r"tl\.dot\([^)]*\)", r"BLOCK_[MNK]\s*=", r"cp\.async\.(?:ca|cg)", r"mma\.sync\S*",
        r"(?i)tensor ?core", r"^[+-]\s*return", r"(?:half|float|double)\d?", "(?:ab){3}c",
        r"(x)?(?(1)|)", r"(x)?(?(1)y|z)", "(x)?(?(1)y)",
    ],
)  # fmt: skip
def test_usual_patterns_are_safe_on_usual_lines(pattern):
    assert needs.most_width(tree_of(pattern)) >= 2000


@pytest.mark.parametrize("repeats", [2, 3, 4, 5])
def test_a_class_that_only_folding_parts_from_what_follows_hands_nothing_over(repeats):
    # Without the flag `[^a]` takes A, so every repeat may give back what the next letter needs.
    letters = "abcde"[:repeats]
    open_ = "".join(f"[^{letter}]*{letter.upper()}" for letter in letters) + "!"
    closed = "".join(f"[^{letter}]*{letter}" for letter in letters) + "!"
    assert needs.most_width(tree_of(open_)) < needs.most_width(tree_of(closed))
    assert needs.most_width(tree_of(open_)) == pytest.approx((2e7) ** (1 / (repeats + 1)))


@pytest.mark.parametrize(
    ("start", "letters"), [("(?:a{200})", 1), ("(aaaa)", 1), ("(abab)", 2), ("abcd", 4), ("aab", 2)]
)
def test_a_lead_that_overlaps_itself_leaves_more_starts(start, letters):
    width = needs.most_width(tree_of(start + ".*!"))
    assert width == pytest.approx((2e7 * letters) ** 0.5)


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("a.*b.*c", "a.*b"), ("a.*b", "^a.*b"), ("x.*y", "^x[^y]*y!"), (r"(a*)\1b", "(a*)b"),
        ("a{0,900}b", "a{0,9}b"), ("(?:a|b.*)c.*d", "(?:a|b)c.*d"), ("(?=.*a).*b", ".*b"),
    ],
)  # fmt: skip
def test_what_costs_more_is_allowed_narrower_lines(narrow, wide):
    assert 0 < needs.most_width(tree_of(narrow)) <= needs.most_width(tree_of(wide))


@settings(max_examples=50)
@given(scoped, st.sampled_from(["(?:{}|(a+)+b)", "(?={}(a+)+b)", "{}(a+)+b", "(?:{}(a+)+b){{2}}"]))
def test_nothing_around_it_makes_a_catastrophe_safe(inner, frame):
    pattern = frame.format(inner)
    if _compiles(pattern):
        assert needs.most_width(tree_of(pattern)) == 0
